// A warp for each head of each token, and a block for each cached row of latent attention; rows
// pass through shared memory for the rotation, whose pairs lie apart.
#include "base/check.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prepare.cuh"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kMaxDim = 128;
constexpr int kLatent = 512, kRope = 64;

template <typename Half>
__global__ void __launch_bounds__(32 * kWarps) gqa_kernel(PrepareGqaParams p) {
  begin();
  __shared__ float rows[kWarps][kMaxDim];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int kv_heads = p.cache.kv_heads, dim = p.cache.dim;
  const int64_t t = blockIdx.x;
  const int part = static_cast<int>(blockIdx.y) * kWarps + warp;  // query, key, then value heads
  if (part >= p.heads + 2 * kv_heads) return;
  float* row = rows[warp];
  if (part < p.heads) {
    load_head(p.q.data + t * p.q.stride + part * dim, dim, p.q_norm, p.epsilon, p.rotation, t, lane,
              row);
    store_halves<Half>(row, dim, lane, 32, p.queries + kHalfBytes * (t * p.heads + part) * dim);
    return;
  }
  const int slot = p.slots[t];
  if (slot < 0) return;
  if (part < p.heads + kv_heads) {
    const int head = part - p.heads;
    load_head(p.k.data + t * p.k.stride + head * dim, dim, p.k_norm, p.epsilon, p.rotation, t, lane,
              row);
    store_halves<Half>(row, dim, lane, 32, place_of(p.cache.keys, p.cache, slot, head));
    return;
  }
  const int head = part - p.heads - kv_heads;
  store_halves<Half>(p.v.data + t * p.v.stride + head * dim, dim, lane, 32,
                     place_of(p.cache.values, p.cache, slot, head));
}

// One block of 128 threads for each token: thread i holds columns 4 i to 4 i + 3 for the norm, as
// norm.cu has it.
template <typename Half>
__device__ void store_row(const StoreLatentParams& p) {
  __shared__ float row[kLatent + kRope];
  __shared__ float warps[kLatent / 128];
  const int64_t t = blockIdx.x;
  const int slot = p.slots[t];
  if (slot < 0) return;
  const float* x = p.rows.data + t * p.rows.stride;
  const int column = 4 * static_cast<int>(threadIdx.x);
  float values[4];
  float squares = 0.0F;
  for (int l = 0; l < 4; ++l) {
    values[l] = x[column + l];
    squares = fmaf(values[l], values[l], squares);
  }
  squares = warp_sum(squares);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = squares;
  if (threadIdx.x < kRope) row[kLatent + threadIdx.x] = x[kLatent + threadIdx.x];
  __syncthreads();
  float sum = 0.0F;
  for (const float warp : warps) sum += warp;
  const float factor = norm_factor(sum, kLatent, p.epsilon);
  for (int l = 0; l < 4; ++l) row[column + l] = values[l] * factor * p.norm[column + l];
  if (static_cast<int>(threadIdx.x) < p.rotation.dims / 2) {
    rotate(p.rotation, t, static_cast<int>(threadIdx.x), row + kLatent);
  }
  __syncthreads();
  store_halves<Half>(row, kLatent + kRope, static_cast<int>(threadIdx.x), kLatent / 4,
                     place_of(p.cache.keys, p.cache, slot, 0));
}

template <typename Half>
__device__ void make_queries(const LatentQueriesParams& p) {
  __shared__ float rows[kWarps][kRope];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int64_t t = blockIdx.x;
  const int head = static_cast<int>(blockIdx.y) * kWarps + warp;
  if (head >= p.heads) return;
  float* row = rows[warp];
  const float* rope = p.rope + t * p.rope_token_stride + head * p.rope_head_stride;
  for (int i = lane; i < kRope; i += 32) row[i] = rope[i];
  __syncwarp();
  for (int i = lane; i < p.rotation.dims / 2; i += 32) rotate(p.rotation, t, i, row);
  __syncwarp();
  std::byte* out = p.queries + kHalfBytes * (t * p.heads + head) * (kLatent + kRope);
  store_halves<Half>(p.latent + t * p.latent_token_stride + head * p.latent_head_stride, kLatent,
                     lane, 32, out);
  store_halves<Half>(row, kRope, lane, 32, out + kHalfBytes * kLatent);
}

// The last block of a token's stores its row, the others make queries of four heads each.
template <typename Half>
__global__ void __launch_bounds__(32 * kWarps) latent_kernel(PrepareLatentParams p) {
  static_assert(32 * kWarps == kLatent / 4);
  begin();
  if (blockIdx.y + 1 == gridDim.y) {
    store_row<Half>(p.store);
  } else {
    make_queries<Half>(p.queries);
  }
}

dim3 grid_of(int tokens, int warps) {
  return dim3(static_cast<unsigned>(tokens), static_cast<unsigned>((warps + kWarps - 1) / kWarps));
}

}  // namespace

void prepare_gqa(const PrepareGqaParams& p, cudaStream_t stream) {
  TANDEM_CHECK(p.cache.dim <= kMaxDim && p.cache.dim % 4 == 0 && p.rotation.dims <= p.cache.dim,
               "heads of {}, {} of them rotated", p.cache.dim, p.rotation.dims);
  if (p.tokens == 0) return;
  with_type(p.cache.type, [&](auto half) {
    launch("prepare_gqa", gqa_kernel<decltype(half)>,
           grid_of(p.tokens, p.heads + 2 * p.cache.kv_heads), 32 * kWarps, stream, p);
  });
}

void prepare_latent(const PrepareLatentParams& p, cudaStream_t stream) {
  const StoreLatentParams& store = p.store;
  TANDEM_CHECK(store.cache.dim == kLatent + kRope && store.rotation.dims <= kRope &&
                   p.queries.rotation.dims <= kRope,
               "rows of {}, {} columns to rotate", store.cache.dim, store.rotation.dims);
  TANDEM_CHECK(store.tokens == p.queries.tokens && store.cache.type == p.queries.type,
               "rows of {} tokens, queries of {}", store.tokens, p.queries.tokens);
  if (store.tokens == 0) return;
  dim3 grid = grid_of(store.tokens, p.queries.heads);
  ++grid.y;
  with_type(p.queries.type, [&](auto half) {
    launch("prepare_latent", latent_kernel<decltype(half)>, grid, 32 * kWarps, stream, p);
  });
}

}  // namespace tandem::cuda
