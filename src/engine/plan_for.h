// The plan for a model on this machine: opens the GPU, if there is one that the model runs on, and
// asks the planner. Loads nothing.
#pragma once

#include <functional>
#include <memory>

#include "engine/load.h"
#include "engine/planner.h"
#include "engine/prediction.h"
#include "ops/gpu.h"

namespace tandem::engine {

struct Planned {
  ModelSizes sizes;
  PlanRequest request;
  Plan plan;
  int32_t step_tokens = 0;  // of a step at most
  // That the model runs on, whether the plan has a use for it or not.
  std::unique_ptr<ops::Gpu> gpu;
};

// speeds: of this machine with its GPU, asked for only where predictions decide. Throws Error for
// what cannot be done; options.device "auto" falls back on the CPU instead.
Planned plan_for(const gguf::File& file, const models::ModelConfig& config, const Options& options,
                 const std::function<MachineSpeeds()>& speeds);

}  // namespace tandem::engine
