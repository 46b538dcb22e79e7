// The paged key/value cache on the device: 16-bit floats, which tensor cores read.
//
//   grouped-query attention: a page holds keys, then values, each head's tokens together
//     [2, Hk, S, D]        key:   page * page_stride + head * head_stride + token * token_stride
//                          value: the same in `values`
//   multi-head latent attention: a page holds one row for each token, its compressed part is key
//   and value
//     [S, kv_lora + rope]  Hk = 1
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_runtime_api.h>

#include "kernels/cuda/linear.h"

namespace tandem::cuda {

enum class CacheType : uint8_t { kF16, kBF16 };

struct KvCache {
  std::byte* keys;       // page 0
  std::byte* values;     // page 0, or null where values are the first columns of keys
  int64_t page_stride;   // elements from a page to the next
  int64_t head_stride;   // elements
  int64_t token_stride;  // elements, a multiple of 8: rows are read 16 bytes at a time
  int page_size;         // S
  int kv_heads;          // Hk
  int dim;               // of a key; of a value too, where there are values
  CacheType type;
};

// The usual layout of a layer's cache of `pages` pages that starts at data.
KvCache grouped_cache(std::byte* data, int page_size, int kv_heads, int dim, CacheType type);
KvCache latent_cache(std::byte* data, int page_size, int dim, CacheType type);
// Bytes of one page.
int64_t page_bytes(const KvCache& cache);

// out = x as 16-bit floats, nearest even; and back.
struct ToHalvesParams {
  const float* x;  // [R, n], rows x_stride floats apart
  int64_t x_stride;
  std::byte* out;  // [R, n] contiguous
  int64_t n;
  int rows;
  CacheType type;
};
void to_halves(const ToHalvesParams& params, cudaStream_t stream);

struct ToFloatsParams {
  const std::byte* x;  // [R, n] contiguous
  float* out;          // [R, n], rows out_stride floats apart
  int64_t out_stride;
  int64_t n;
  int rows;
  CacheType type;
  ProductRows rounded = {};  // [R, n] out for products too, where wanted; n a multiple of 32
};
void to_floats(const ToFloatsParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
