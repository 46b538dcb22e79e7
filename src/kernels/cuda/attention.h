// Attention over the paged cache in two forms: grouped-query (GQA), and multi-head latent (MLA) in
// its absorbed form, which sees one key/value head of 512 + 64 columns. Queries and outputs are
// floats; scores and sums are floats too, products are of 16-bit operands. A token sees the keys of
// its request up to its own, so keys are appended first.
//
// Planning is apart from launching: a plan says which block works on which keys and is made once a
// step, on the host, outside of graphs; all layers launch with it. A graph captured with one plan
// may be replayed after another plan was made in the same memory, if both compare equal: what
// differs between them then lies in that memory only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include "kernels/cuda/kv_cache.h"

namespace tandem::cuda {

// A step's requests, on the host. A request's tokens are its last; prefill chunks and decodes may
// mix.
struct AttentionBatch {
  const int32_t* token_starts;  // [B + 1] where each request's tokens begin in the flat batch
  const int32_t* page_starts;   // [B + 1] where its pages begin in the list of pages
  const int32_t* keys;          // [B] keys of each request, this step's included
  int requests;                 // B
};

// Memory of one plan and its launches, of the sizes that *_sizes() give, aligned to 256 bytes.
// `staged` must not be written again before the copy that planning enqueues is done.
struct AttentionMemory {
  std::byte* staged;   // [plan_bytes] page-locked host memory
  std::byte* plan;     // [plan_bytes] device
  std::byte* scratch;  // [scratch_bytes] device; of one launch at a time; begins with its queries
};
struct AttentionSizes {
  size_t plan_bytes;
  size_t scratch_bytes;
  int64_t pieces = 0;  // of work that a latent plan has room for
};

// What a plan is for. Graphs: every plan for the same number of requests, padded by the caller, is
// equal to every other; a request has one token at most, and requests beyond the real ones are
// empty (starts repeat the last value).
enum class PlanFor : uint8_t { kLaunch, kGraph };

struct GqaShape {
  int heads;     // H
  int kv_heads;  // Hk, a divisor of H
  int dim;       // D: 64 or 128
  int page_size;
};
bool gqa_supports(const GqaShape& shape);
// For steps of at most `tokens` tokens of at most `requests` requests.
AttentionSizes gqa_sizes(const GqaShape& shape, int tokens, int requests, PlanFor purpose);

struct GqaPlan {
  std::array<int64_t, 15> words = {};  // FlashInfer's; zeros: nothing to do
  bool operator==(const GqaPlan&) const = default;
};
GqaPlan plan_gqa(const GqaShape& shape, const AttentionBatch& batch, PlanFor purpose,
                 const AttentionSizes& sizes, const AttentionMemory& memory, cudaStream_t stream);

// out[t, h] = attention of q[t, h] over its request's keys.
struct GqaParams {
  GqaShape shape;
  GqaPlan plan;
  AttentionMemory memory;
  KvCache cache;
  const float* q;  // [T, H, D] contiguous, or null: 16-bit queries are in memory.scratch
  float* out;      // [T, H, D] contiguous; rows of no request stay as they are
  const int32_t* token_starts;    // [B + 1] device, as planned
  const int32_t* page_starts;     // [B + 1] device, as planned
  const int32_t* pages;           // device: page numbers of all requests
  const int32_t* last_page_keys;  // [B] device: keys in the last page, 1 to page_size
  int requests;                   // B as planned
  int tokens;                     // T
  float scale;
  __nv_bfloat16* rounded = nullptr;  // [T, H * D] out for products (linear.h) too, or null
};
void gqa_attention(const GqaParams& params, cudaStream_t stream);

inline constexpr int kLatentDim = 512;  // of a cached row: key and value
inline constexpr int kLatentRope = 64;  // and key only

struct MlaShape {
  int heads;  // H
  int page_size;
};
// For steps of at most `tokens` tokens. A graph's own sizes, of few tokens, keep its plan and the
// plan's copy short.
AttentionSizes mla_sizes(const MlaShape& shape, int tokens);

struct MlaPlan {
  std::array<int64_t, 18> words = {};  // mla_plan.h; zeros: nothing to do
  bool operator==(const MlaPlan&) const = default;
};
// Plans for graphs and for launches are the same. A graph's padding rows are no requests: give the
// real ones.
MlaPlan plan_mla(const MlaShape& shape, const AttentionBatch& batch, const AttentionSizes& sizes,
                 const AttentionMemory& memory, cudaStream_t stream);

enum class MlaForm : uint8_t {
  kAmpere,
  kHopper
};  // kHopper: compute capability 9.0 alone, up to 2.2 times as fast

struct MlaParams {
  MlaShape shape;
  MlaPlan plan;
  MlaForm form;
  AttentionMemory memory;
  KvCache cache;         // latent_cache
  const float* q;        // [T, H, 512 + 64] contiguous, or null: as for GQA
  float* out;            // [T, H, 512] contiguous; rows of no request get arbitrary values
  const int32_t* pages;  // device: page numbers of all requests
  int tokens;            // T
  float scale;
  __nv_bfloat16* rounded = nullptr;  // [T, H * 512] out for products (linear.h) too, or null
};
void mla_attention(const MlaParams& params, cudaStream_t stream);
// Whether this binary holds the Hopper form: it needs the architecture 90a.
bool has_mla_hopper();
// The form for a device of that compute capability (10 * major + minor): Hopper's runs on 9.0
// alone.
inline MlaForm mla_form(int compute) {
  return compute == 90 && has_mla_hopper() ? MlaForm::kHopper : MlaForm::kAmpere;
}

}  // namespace tandem::cuda
