// Grouped-query attention of rows that generate, one token of a request each: everything from the
// projections' results to the outputs in one launch. Long prompts and other shapes go through
// attention.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/prepare.h"

namespace tandem::cuda {

// Heads of 64 or 128 columns, up to eight query heads for one of keys.
bool decode_supports(const GqaShape& shape);

// Partial results of split keys, and counters that are zeros before the first call and again after
// each.
struct DecodeScratch {
  float* partial;      // decode_partial_bytes()
  uint32_t* counters;  // [R, Hk]
};
size_t decode_partial_bytes(int dim);

// What PrepareGqaParams says, then out[r, h] = attention over the request's keys, this one
// included.
struct DecodeGqaParams {
  PrepareGqaParams in;            // one row a request; `queries` is not used
  const int32_t* page_starts;     // [R + 1]
  const int32_t* pages;           // page numbers of all requests
  const int32_t* last_page_keys;  // [R]
  DecodeScratch scratch;
  float scale;
  float* out;              // [R, H, D]; a padding row's stays as it is
  __nv_bfloat16* rounded;  // [R, H * D] out for products (linear.h) too, or null
};
void decode_gqa(const DecodeGqaParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
