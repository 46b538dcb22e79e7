// What stands between the projections of attention and attention itself, as one kernel each: norms
// of heads, rotation, storing into the cache, rounding of queries. A decode step's rows are so few
// that each kernel saved is a microsecond or two of every layer. The results are the bits of norm.h
// and of the CPU's rotation, rounded to nearest even.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/kv_cache.h"

namespace tandem::cuda {

// Rotation of a row's columns; dims 0: none.
struct Rotation {
  const float* table;  // [T, dims]
  int dims;            // even; columns from the first on
  bool interleaved;
};

// Grouped queries: norms of each query and key head where there are weights, rotation of both,
// values as they are. Keys and values go into the cache, queries become 16-bit floats.
struct PrepareGqaParams {
  ConstRows q;          // [T, H, D]
  ConstRows k;          // [T, Hk, D]
  ConstRows v;          // [T, Hk, D]
  const float* q_norm;  // [D] or null
  const float* k_norm;  // [D] or null
  float epsilon;
  Rotation rotation;
  // [T] page * page_size + place in the page; a negative one marks a padding row, which is not
  // stored. Its queries are made all the same.
  const int32_t* slots;
  KvCache cache;       // dim at most 128, a multiple of 4
  std::byte* queries;  // [T, H, D] 16-bit floats
  int heads;           // H
  int tokens;          // T
};
void prepare_gqa(const PrepareGqaParams& params, cudaStream_t stream);

// Latent attention's cached row: norm of the compressed part, rotation of the rest.
struct StoreLatentParams {
  ConstRows rows;     // [T, 512 + 64]
  const float* norm;  // [512]
  float epsilon;
  Rotation rotation;     // of the last 64 columns
  const int32_t* slots;  // [T]
  KvCache cache;
  int tokens;
};
// Latent attention's queries: the part that was taken into the cache's space, and the rotated rest.
struct LatentQueriesParams {
  const float* latent;  // [T, H, 512]
  int64_t latent_token_stride, latent_head_stride;
  const float* rope;  // [T, H, 64] before rotation
  int64_t rope_token_stride, rope_head_stride;
  Rotation rotation;
  std::byte* queries;  // [T, H, 512 + 64] 16-bit floats
  CacheType type;
  int heads;
  int tokens;
};
// Both for the same tokens.
struct PrepareLatentParams {
  StoreLatentParams store;
  LatentQueriesParams queries;
};
void prepare_latent(const PrepareLatentParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
