// Rows of heads on their way to attention: norm, rotation, rounding. One warp, or some threads of a
// block, work on a row; the bits are those of norm.h and of the CPU's rotation.
#pragma once

#include "kernels/cuda/halves.cuh"
#include "kernels/cuda/prepare.h"

namespace tandem::cuda {

inline __device__ float warp_sum(float value) {
  for (int offset = 16; offset > 0; offset /= 2)
    value += __shfl_xor_sync(0xffffffffU, value, offset);
  return value;
}

inline __device__ float norm_factor(float squares, int n, float epsilon) {
  const float mean = squares / static_cast<float>(n);
  return 1.0F / sqrtf(mean + epsilon);
}

// Rotates the pair i of x.
inline __device__ void rotate(const Rotation& r, int64_t token, int i, float* x) {
  const int half = r.dims / 2;
  const float* row = r.table + token * r.dims;
  const float cos = row[r.interleaved ? 2 * i : i];
  const float sin = row[r.interleaved ? 2 * i + 1 : half + i];
  float& first = x[r.interleaved ? 2 * i : i];
  float& second = x[r.interleaved ? 2 * i + 1 : half + i];
  const float a = first, b = second;
  first = a * cos - b * sin;
  second = a * sin + b * cos;
}

// x[0, n) as 16-bit floats, by `threads` threads of which this is number `thread`.
template <typename Half>
inline __device__ void store_halves(const float* x, int n, int thread, int threads,
                                    std::byte* out) {
  for (int i = 2 * thread; i < n; i += 2 * threads) {
    *reinterpret_cast<typename Half::Pair*>(out + kHalfBytes * i) = Half::round({x[i], x[i + 1]});
  }
}

inline __device__ std::byte* place_of(std::byte* data, const KvCache& c, int slot, int head) {
  return data + kHalfBytes * (slot / c.page_size * c.page_stride + head * c.head_stride +
                              slot % c.page_size * c.token_stride);
}

// One warp: a row of a head through norm and rotation into shared memory, where lane l holds
// columns 4 l to 4 l + 3 for the norm, as norm.cu has it.
inline __device__ void load_head(const float* x, int dim, const float* norm, float epsilon,
                                 const Rotation& rotation, int64_t token, int lane, float* row) {
  const int column = 4 * lane;
  const bool holds = column < dim;
  float values[4] = {};
  if (holds) {
    for (int l = 0; l < 4; ++l) values[l] = x[column + l];
  }
  if (norm != nullptr) {
    float squares = 0.0F;
    for (int l = 0; l < 4; ++l) squares = fmaf(values[l], values[l], squares);
    const float factor = norm_factor(warp_sum(squares), dim, epsilon);
    if (holds) {
      for (int l = 0; l < 4; ++l) values[l] = values[l] * factor * norm[column + l];
    }
  }
  if (holds) {
    for (int l = 0; l < 4; ++l) row[column + l] = values[l];
  }
  __syncwarp();
  for (int i = lane; i < rotation.dims / 2; i += 32) rotate(rotation, token, i, row);
  __syncwarp();
}

}  // namespace tandem::cuda
