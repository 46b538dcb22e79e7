// Decides what goes where: all on the GPU; the experts of as many layers as fit beside the rest;
// the rest alone; of that as many of the last layers as fit; or everything on the CPU. Pure
// arithmetic on sizes; how fast it will be is engine/prediction.h's.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "models/model_sizes.h"
#include "models/placement.h"

namespace tandem::engine {

using models::LayerSizes;
using models::Macs;
using models::ModelSizes;

// What one side holds, in bytes.
struct MemoryUse {
  int64_t fixed = 0;  // weights but routed experts
  int64_t experts = 0;
  int64_t cache = 0;
  int64_t work = 0;  // on the host what --host_cache_gb takes, too
  int64_t hot = 0;   // copies on the GPU of experts that are in host memory
  int64_t total() const { return fixed + experts + cache + work + hot; }
};

struct Plan;

struct PlanRequest {
  std::string device = "auto";
  models::FixedPlaces fixed;
  int32_t cache_tokens = 0;
  bool cache_is_fixed = false;  // the user's own number: it is not lowered
  int64_t other_host_bytes = 0;
  // Free memory of the GPU that runs the model; none: there is no such GPU.
  std::optional<int64_t> gpu_bytes;
  std::string no_gpu;  // why
  // Of both buffers that experts in host memory are copied to for prompts; 0: none are.
  int64_t stream_buffer_bytes = 0;
  int stream_from = 0;  // the user's number of tokens: buffers have to fit; 0: as it is measured
  // What hot experts may take of the GPU's memory that is left; 0: there are none of them.
  int64_t most_hot_bytes = 0;
  // Whether some of the layers on the GPU are quicker than the CPU alone; empty: yes.
  std::function<bool(const Plan& divided, const Plan& cpu)> quicker;
};

struct Plan {
  bool on_gpu = false;
  // The first so many layers, and the embedding, are wholly on the CPU beside a GPU: of L at most
  // all, which leaves the output.
  int cpu_layers = 0;
  std::vector<Device> experts;   // [L]
  int expert_layers_on_gpu = 0;  // of the layers that are not wholly on the CPU
  int expert_layers = 0;
  int32_t cache_tokens = 0;
  // [L] whose experts may be copied to the GPU for prompts, and from how many tokens on; 0: where
  // that is quicker.
  std::vector<bool> streamed;
  int stream_from = 0;
  MemoryUse gpu, host;
  std::string reason;  // one line: why this and not more

  bool streams() const {
    return std::find(streamed.begin(), streamed.end(), true) != streamed.end();
  }
  // "all weights on the GPU", ...
  std::string summary() const;
};

// Throws Error with the arithmetic when a wish does not fit.
Plan make_plan(const ModelSizes& model, const PlanRequest& request);

// Whether it fits with as few experts on the GPU as may be, the whole cache, and the buffers.
bool fits_with_buffers(const ModelSizes& model, const PlanRequest& request);

// Whether it fits or not, to compare with: the experts of the last `layers` layers that the GPU has
// kernels for on it; or everything on the CPU.
Plan plan_with_experts(const ModelSizes& model, const PlanRequest& request, int layers);
Plan plan_on_cpu(const ModelSizes& model, const PlanRequest& request);
// As many of the last layers on the GPU as fit, with as few experts as may be, the whole cache of
// each. None: not even the output fits, or wishes keep more there.
std::optional<Plan> plan_with_last_layers(const ModelSizes& model, const PlanRequest& request);

}  // namespace tandem::engine
