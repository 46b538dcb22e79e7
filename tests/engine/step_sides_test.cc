// A step's time by who worked in it, from hand-offs that are described.
#include "engine/step_sides.h"

#include <gtest/gtest.h>

#include "ops/gpu.h"

namespace tandem::engine {
namespace {

TEST(StepSides, SumToTheStep) {
  // 0.2 ms to launch, 3 ms for the GPU, 6 ms of experts, of which the GPU waited for 5; then 1 ms
  // of the GPU, and 0.1 ms to finish.
  const StepSides s = step_sides({.waited = 3e-3, .worked = 6e-3, .gpu_waited = 5e-3},
                                 {.answering = 9.2e-3, .waiting = 1e-3, .finishing = 0.1e-3});
  EXPECT_DOUBLE_EQ(s.gpu, 4e-3);
  EXPECT_DOUBLE_EQ(s.both, 1e-3);
  EXPECT_DOUBLE_EQ(s.cpu, 5e-3);
  EXPECT_NEAR(s.around, 0.3e-3, 1e-12);
  EXPECT_DOUBLE_EQ(s.total(), 10.3e-3);
}

TEST(StepSides, FlagsOnTheirWayAreNoWorkOfTheCpu) {
  const StepSides s = step_sides({.waited = 3e-3, .worked = 6e-3, .gpu_waited = 6.1e-3},
                                 {.answering = 9e-3, .waiting = 1e-3, .finishing = 0.0});
  EXPECT_DOUBLE_EQ(s.cpu, 6e-3);
  EXPECT_DOUBLE_EQ(s.both, 0.0);
  EXPECT_DOUBLE_EQ(s.total(), 10e-3);
}

TEST(StepSides, LayersOnTheCpuAreItsWorkAlone) {
  // 0.2 ms before, 4 ms of layers on the CPU, 0.1 ms to launch, 3 ms of the GPU, 0.1 ms to finish.
  const StepSides s =
      step_sides({}, {.leading = 4e-3, .answering = 4.3e-3, .waiting = 3e-3, .finishing = 0.1e-3});
  EXPECT_DOUBLE_EQ(s.cpu, 4e-3);
  EXPECT_DOUBLE_EQ(s.gpu, 3e-3);
  EXPECT_NEAR(s.around, 0.4e-3, 1e-12);
  EXPECT_DOUBLE_EQ(s.both, 0.0);
}

TEST(StepSides, WithoutExpertsOnTheCpuAllIsTheGpus) {
  const StepSides s = step_sides({}, {.answering = 0.1e-3, .waiting = 2e-3, .finishing = 0.1e-3});
  EXPECT_DOUBLE_EQ(s.gpu, 2e-3);
  EXPECT_DOUBLE_EQ(s.around, 0.2e-3);
  EXPECT_DOUBLE_EQ(s.both + s.cpu, 0.0);
}

}  // namespace
}  // namespace tandem::engine
