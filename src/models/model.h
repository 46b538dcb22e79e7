// A decoder-only transformer: tokens in, logits out, over a paged cache that the caller owns. One
// file per architecture family derives from Decoder and supplies the attention half of a layer.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "models/config.h"
#include "models/feed_forward.h"
#include "models/weights.h"
#include "ops/attention.h"

namespace tandem::models {

// Layers of a step, which one device runs. The output, its norm and the logits, is the layer behind
// the last; the embedding comes with the first.
struct LayerRange {
  int begin, end;
};

// A step's tokens, flat over all sequences.
struct ForwardBatch {
  const int32_t* ids;          // [T]
  ops::PagedTokens where;      // T, positions and pages
  const int32_t* output_rows;  // [B] tokens whose logits are wanted
  int64_t outputs;             // B
  float* logits;               // [B, V] f32
  // [T, M] f32 where layers begin or end within the model: what the layer before left, then what
  // the last one leaves.
  float* residual = nullptr;
};

class Decoder {
 public:
  virtual ~Decoder() = default;
  const ModelConfig& config() const { return config_; }

  // Memory that load() takes, and the bytes of the file that it reads.
  int64_t weight_memory_bytes() const { return store_.memory_bytes(); }
  std::span<std::byte> weight_memory() const { return store_.memory(); }
  int64_t weight_file_bytes() const { return store_.file_bytes(); }
  // Reads the weights; before it forward() must not be called. on_bytes may be empty; it is called
  // on this thread with the bytes read so far. Throws Error, and what on_bytes throws.
  void load(ops::Context& ctx, const std::function<void(int64_t bytes)>& on_bytes) {
    store_.fill(ctx, on_bytes);
  }

  LayerRange all_layers() const { return {0, config_.layers + 1}; }
  // cache: [L]. Appends the batch's keys and values and fills batch.logits.
  void forward(ops::Context& ctx, const ForwardBatch& batch, std::span<const ops::KvLayer> cache) {
    forward(ctx, batch, cache, all_layers());
  }
  // The part of it in these layers, whose weights are all where ctx computes. cache: up to the
  // last.
  void forward(ops::Context& ctx, const ForwardBatch& batch, std::span<const ops::KvLayer> cache,
               LayerRange layers);

  // Bytes of distinct weights that the last forward of all layers read: all but the routed experts
  // that no token went to, and the output matrix where no logits were wanted.
  int64_t step_weight_bytes() const { return step_weight_bytes_; }

  // Routed experts of a layer; none in a dense one.
  const moe::ExpertWeights& routed_experts(int layer) const {
    return layers_[static_cast<size_t>(layer)].ffn.experts.routed;
  }
  // Whether they are in host memory and a GPU's kernels read them as they lie there; and the least
  // tokens of a step that copies them (moe::ExpertLayer::stream_from; never until it is set).
  bool can_stream(int layer) const;
  void stream_from(int layer, int64_t tokens);
  int64_t stream_from(int layer) const {
    return layers_[static_cast<size_t>(layer)].ffn.experts.stream_from;
  }
  // Of a step of these tokens the layer's feed-forward half alone, on their embeddings: to time it.
  void run_feed_forward(ops::Context& ctx, int layer, const int32_t* ids, int64_t tokens);

  // The form of one layer's cache; data, dtype and page size are the caller's.
  virtual ops::KvLayer cache_form() const = 0;
  // Scratch that a step of at most `tokens` tokens and `outputs` logits rows takes in the layers.
  size_t workspace_bytes(int64_t tokens, int64_t outputs, const ops::KvLayer& cache, int threads,
                         LayerRange layers) const;
  // Layers whose routed experts are in host memory in a form that the GPU's kernels read: those may
  // have hot ones there.
  struct HostExperts {
    int layer;
    const Tensor *gate, *up, *down;
  };
  std::vector<HostExperts> experts_in_host_memory() const;
  // On the host, for the routed experts of layers on a GPU.
  size_t host_workspace_bytes(int64_t tokens, int threads) const;

 protected:
  Decoder(const gguf::File& file, ModelConfig config, const Placement& placement);

  // What every layer of a step shares.
  struct Step {
    const ops::PagedTokens& where;
    const float* rope_table;  // [T, rope dims]
  };
  // residual += attention(h): projections, rope, cache, attention, output projection. h, residual:
  // [T, M]; h is overwritten.
  virtual void attention(ops::Context& ctx, int layer, const Step& step, const ops::KvLayer& cache,
                         ops::Features h, float* residual) = 0;
  virtual size_t attention_half_bytes(int64_t tokens, const ops::KvLayer& cache,
                                      int threads) const = 0;

  Weights weights() { return Weights(file_, store_); }
  Weights layer_weights(int layer) { return weights().below("blk." + std::to_string(layer) + "."); }

  ModelConfig config_;

 private:
  struct Layer {
    Tensor attention_norm;  // [M]
    Tensor ffn_norm;        // [M]
    FeedForward ffn;
  };

  Tensor load_output(const Weights& global, const Shape& table, const Placement& placement) const;

  const gguf::File& file_;
  WeightStore store_;
  Tensor embedding_;    // [V, M]
  Tensor output_norm_;  // [M]
  Tensor output_;       // [V, M]
  std::vector<Layer> layers_;
  std::vector<float> rope_factors_;  // [rope dims / 2] or none
  // [rope dims / 2] in host memory, and on the GPU if there is one
  const double* host_rope_frequencies_ = nullptr;
  const double* gpu_rope_frequencies_ = nullptr;
  moe::Grouping grouping_;
  int64_t fixed_weight_bytes_ =
      0;  // read by every step: all matrices but routed experts and the embedding table
  int64_t step_weight_bytes_ = 0;

  friend std::unique_ptr<Decoder> create_decoder(const gguf::File& file, int64_t max_tokens,
                                                 const Placement& placement);
};

// The decoder for the file's architecture, for steps of at most max_tokens tokens, with the places
// of its weights but not yet the weights. The file must outlive it. Throws Error for unknown
// architectures and files that do not fit their metadata.
std::unique_ptr<Decoder> create_decoder(const gguf::File& file, int64_t max_tokens,
                                        const Placement& placement = {});

}  // namespace tandem::models
