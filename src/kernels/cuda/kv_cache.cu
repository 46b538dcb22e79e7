// Two elements a thread, a grid row for each token.
#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/halves.cuh"
#include "kernels/cuda/kv_cache.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/product_rows.cuh"

namespace tandem::cuda {
namespace {

constexpr int kThreads = 128;
dim3 grid_of(int64_t pairs, int rows) {
  return dim3(static_cast<unsigned>(std::min(rows, 65535)),
              static_cast<unsigned>((pairs + kThreads - 1) / kThreads));
}

template <typename Half>
__global__ void to_halves_kernel(ToHalvesParams p) {
  begin();
  const int64_t i = 2 * (blockIdx.y * int64_t{kThreads} + threadIdx.x);
  if (i >= p.n) return;
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const float2 pair = *reinterpret_cast<const float2*>(p.x + row * p.x_stride + i);
    *reinterpret_cast<typename Half::Pair*>(p.out + kHalfBytes * (row * p.n + i)) =
        Half::round(pair);
  }
}

template <typename Half>
__global__ void to_floats_kernel(ToFloatsParams p) {
  begin();
  const int64_t i = 2 * (blockIdx.y * int64_t{kThreads} + threadIdx.x);
  if (i >= p.n) return;
  for (int64_t row = blockIdx.x; row < p.rows; row += gridDim.x) {
    const auto pair =
        *reinterpret_cast<const typename Half::Pair*>(p.x + kHalfBytes * (row * p.n + i));
    const float2 floats = Half::widen(pair);
    *reinterpret_cast<float2*>(p.out + row * p.out_stride + i) = floats;
    if (p.rounded.data != nullptr) {
      store_pair(p.rounded.data + row * p.rounded.stride, i, floats.x, floats.y);
    }
  }
}

}  // namespace

KvCache grouped_cache(std::byte* data, int page_size, int kv_heads, int dim, CacheType type) {
  const int64_t part = int64_t{kv_heads} * page_size * dim;
  return {.keys = data,
          .values = data + kHalfBytes * part,
          .page_stride = 2 * part,
          .head_stride = int64_t{page_size} * dim,
          .token_stride = dim,
          .page_size = page_size,
          .kv_heads = kv_heads,
          .dim = dim,
          .type = type};
}

KvCache latent_cache(std::byte* data, int page_size, int dim, CacheType type) {
  return {.keys = data,
          .values = nullptr,
          .page_stride = int64_t{page_size} * dim,
          .head_stride = 0,
          .token_stride = dim,
          .page_size = page_size,
          .kv_heads = 1,
          .dim = dim,
          .type = type};
}

int64_t page_bytes(const KvCache& cache) { return kHalfBytes * cache.page_stride; }

void to_halves(const ToHalvesParams& p, cudaStream_t stream) {
  TANDEM_CHECK(p.n % 2 == 0 && p.x_stride % 2 == 0, "rows of {}, {} apart", p.n, p.x_stride);
  if (p.rows == 0) return;
  with_type(p.type, [&](auto half) {
    launch("to_halves", to_halves_kernel<decltype(half)>, grid_of(p.n / 2, p.rows), kThreads,
           stream, p);
  });
}

void to_floats(const ToFloatsParams& p, cudaStream_t stream) {
  TANDEM_CHECK(p.n % 2 == 0 && p.out_stride % 2 == 0, "rows of {}, {} apart", p.n, p.out_stride);
  if (p.rows == 0) return;
  with_type(p.type, [&](auto half) {
    launch("to_floats", to_floats_kernel<decltype(half)>, grid_of(p.n / 2, p.rows), kThreads,
           stream, p);
  });
}

}  // namespace tandem::cuda
