// Builds the engine for a model file: picks the architecture, checks shapes, sizes memory. Throws
// Error when the model is unsupported or does not fit.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/dtype.h"
#include "engine/engine.h"
#include "engine/hot_choice.h"
#include "engine/step_sides.h"
#include "models/placement.h"

namespace tandem::gguf {
class File;
}
namespace tandem::ops {
class Profile;
}

namespace tandem::engine {

// Experts in host memory of which the GPU has copies (--hot_experts).
struct HotOptions {
  bool on = true;         // where experts are in host memory and GPU memory is left
  std::string file;       // counts of earlier runs, read at start and written; empty: none
  int64_t gpu_bytes = 0;  // at most so much of the GPU's memory; 0: what is left
  HotPolicy policy;
};

struct Options {
  int threads = 0;   // worker threads, the caller included; 0: one for each physical core
  bool numa = true;  // split large weights over the NUMA nodes (--numa auto)
  std::string device = "auto";        // "cpu", "cuda", or "auto": the GPU where there is one
  models::PlacementWishes placement;  // what of the model has to be where
  int defer_experts = 0;              // of each token's on the CPU, added a layer later
  // Least tokens of a step that copies experts in host memory to the GPU: a number, or
  static constexpr int kMeasured = -1, kNever = 0;
  int stream_experts = kMeasured;
  HotOptions hot;                // experts in spare GPU memory
  int64_t gpu_memory_bytes = 0;  // behave as on a GPU with no more; 0: all of it
  bool use_cuda_graph = true;    // replay captured steps of generation (--use_cuda_graph)
  std::string cpu_isa;           // "", "generic", "avx2", "avx512", "amx"
  int32_t cache_tokens =
      32768;  // KV tokens shared by all requests (--cache_lens), rounded up to pages
  bool cache_is_fixed = true;     // else fewer tokens are taken when so many do not fit the GPU
  int32_t page_size = 0;          // 0: 256 for MLA, 64 for the rest
  DType kv_type = DType::kF16;    // kF32, kF16, kBF16; MLA keeps integers for the last two
  int32_t max_step_tokens = 256;  // --chunk_size
  // --long_chunk_size: steps may be so long, if that is more; kLongWhereStreamed: 4096 where a GPU
  // has buffers to copy prompts' experts to.
  static constexpr int32_t kLongWhereStreamed = -1;
  int32_t long_step_tokens = 0;
  int32_t max_step_sequences = 4;  // --max_batch_size
  int64_t other_memory_bytes = 0;  // that must fit beside the engine: --host_cache_gb
  // Called while loading with a share of 1 and what is being done; may be empty.
  std::function<void(double share, const std::string& what)> on_progress;
};

// An engine of this process, which shows its logits to `tandem eval` and to tests, and
// where its time goes to `tandem bench`.
class LocalEngine : public Engine {
 public:
  // Raw logits of a slice of the last step with `sample` set (its `sampling` may be null there:
  // then nothing is sampled, the logits are computed all the same). [V] f32
  virtual std::span<const float> logits(int32_t sequence) const = 0;
  virtual std::string_view architecture() const = 0;
  // Bytes of distinct weights that the last step read from host memory; 0 on a GPU, where they are
  // not counted.
  virtual int64_t last_step_weight_bytes() const = 0;
  // Of the last step; none where it was no graph.
  virtual std::optional<StepSides> last_step_sides() const { return std::nullopt; }
  // From the next step on, times operators into *profile, which must live as long; null: no more.
  virtual void profile_into(ops::Profile* profile) = 0;
};

// Reads all weights into memory. The file must outlive the engine.
std::unique_ptr<LocalEngine> load(const gguf::File& file, const Options& options);

}  // namespace tandem::engine
