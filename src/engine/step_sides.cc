// Differences of the two clocks' spans; no point of one is compared with a point of the other.
#include "engine/step_sides.h"

#include <algorithm>

#include "ops/gpu.h"

namespace tandem::engine {

StepSides step_sides(const ops::HostTimes& t, const HostPhases& host) {
  const double cpu = std::min(t.worked, t.gpu_waited);
  return {.gpu = t.waited + host.waiting,
          .both = t.worked - cpu,
          .cpu = cpu + host.leading,
          .around = host.answering - host.leading - t.waited - t.worked + host.finishing};
}

}  // namespace tandem::engine
