// Prompts whose experts are in host memory: on the CPU, or copied to the GPU and run there. Takes
// what the second way needs, and decides layer by layer from how many tokens of a step on it is the
// quicker one, from both ways' times on this machine.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "engine/planner.h"
#include "gguf/file.h"
#include "models/model.h"
#include "ops/context.h"
#include "ops/gpu.h"

namespace tandem::engine {

// Of the largest layer's routed experts in the layout of the GPU's kernels, in one part; each stack
// rounded up to 256 bytes. 0: the model has none.
int64_t largest_expert_layer_bytes(const gguf::File& file);

// Seconds of a layer both ways, with few and with many tokens.
struct StreamTimes {
  int64_t few, many;
  struct {
    double few, many;
  } cpu, streamed;
};
// The least tokens with which copying is quicker, at most `most`; 0: none. Between and beyond the
// measured numbers a time is a line through both; below the smaller one nothing is known: with
// fewer tokens the CPU reads fewer experts, a copy takes all.
int64_t quicker_from(const StreamTimes& times, int64_t most);

class ExpertStreaming {
 public:
  // From now on the decoder reserves scratch for it in the layers that the plan names.
  ExpertStreaming(ops::Gpu& gpu, models::Decoder& decoder, const Plan& plan, int64_t layer_bytes);
  // After loading: page-locks the weights, takes the buffers and, unless the plan has a number of
  // tokens, times each kind of layer once. Where memory cannot be had it logs that and leaves
  // experts to the CPU; it throws Error where the plan has a number. all_hot: whether all experts
  // of a layer have copies on the GPU; without a number those need no other way.
  void begin(ops::Context& ctx, const EngineInfo& info,
             const std::function<bool(int layer)>& all_hot);

 private:
  void leave_out(const std::function<bool(int layer)>& all_hot);
  void take_memory();
  // The CPU computes all prompts.
  void give_up();
  void choose(ops::Context& ctx, const EngineInfo& info);
  StreamTimes time(ops::Context& ctx, int layer, const EngineInfo& info);
  // Of a layer with so many tokens, the way that its stream_from says.
  double seconds(ops::Context& ctx, int layer, int64_t tokens, const EngineInfo& info);

  ops::Gpu& gpu_;
  models::Decoder& decoder_;
  std::vector<int> layers_;
  int64_t from_;  // the plan's
  int64_t layer_bytes_;
  std::shared_ptr<void> locked_;  // the decoder's weights
};

}  // namespace tandem::engine
