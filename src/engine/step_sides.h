// Where the time of a step on both sides went: which of them worked, and which waited.
#pragma once

namespace tandem::ops {
struct HostTimes;
}

namespace tandem::engine {

// Of a step that was replayed as a graph, in seconds that sum to it.
struct StepSides {
  double gpu = 0.0;     // the GPU alone works, the CPU waits
  double both = 0.0;    // both work
  double cpu = 0.0;     // the CPU alone works, the GPU waits, or has not begun
  double around = 0.0;  // the CPU before the launch and after the GPU's end
  double total() const { return gpu + both + cpu + around; }
  void add(const StepSides& step) {
    gpu += step.gpu;
    both += step.both;
    cpu += step.cpu;
    around += step.around;
  }
  void scale(double factor) {
    gpu *= factor;
    both *= factor;
    cpu *= factor;
    around *= factor;
  }
};

// Seconds of the host: until it had answered the last hand-off, of which `leading` before the GPU's
// part began; from then to the GPU's end; and after that.
struct HostPhases {
  double leading = 0.0;
  double answering, waiting, finishing;
};
// Hand-offs are timed by either side's own clock. What the GPU waited for the CPU is the time that
// the CPU worked alone; a flag's way there and back, a few microseconds, counts as the GPU's.
StepSides step_sides(const ops::HostTimes& hand_offs, const HostPhases& host);

}  // namespace tandem::engine
