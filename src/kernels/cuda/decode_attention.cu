// A block of eight warps for a part of one request's keys and one key/value head. The group's query
// heads are the rows of tensor-core tiles (eight of sixteen; the others are zero), keys the
// columns.
//
//   warp: every eighth tile of 16 keys, with running maximum and sums
//         scores = queries x keys^T     a lane's eight columns of a row are 16 bytes of memory: the
//                                       order of columns is free if both sides agree
//         output = weights x values     values' tiles are transposed in registers (movmatrix)
//   block: adds its warps; the block that ends last of a request's parts adds those, in order
#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/decode_attention.h"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/prepare.cuh"
#include "kernels/cuda/product_rows.cuh"

namespace tandem::cuda {
namespace {

constexpr int kWarps = 8, kThreads = 32 * kWarps;
constexpr int kGroup = 8;      // query heads at most
constexpr int kTileKeys = 16;  // of a warp
constexpr int kBlockKeys = kWarps * kTileKeys;
constexpr int kMaxSplits = 32;
constexpr int kBlocksPerMultiprocessor = 2;
constexpr unsigned kAll = 0xffffffffU;

__device__ float minus_infinity() { return __uint_as_float(0xff800000U); }

// d[rows 0-7 of 16, 8] += a[16, 16] b[16, 8], where rows 8 to 15 of a are zeros.
__device__ void multiply(float (&d)[2], uint32_t a0, uint32_t a2, uint32_t b0, uint32_t b1, F16) {
  [[maybe_unused]] float upper[2];
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%5}, {%7,%8}, "
      "{%0,%1,%9,%9};"
      : "+f"(d[0]), "+f"(d[1]), "=f"(upper[0]), "=f"(upper[1])
      : "r"(a0), "r"(0U), "r"(a2), "r"(b0), "r"(b1), "f"(0.0F));
}
__device__ void multiply(float (&d)[2], uint32_t a0, uint32_t a2, uint32_t b0, uint32_t b1, BF16) {
  [[maybe_unused]] float upper[2];
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%5}, {%7,%8}, "
      "{%0,%1,%9,%9};"
      : "+f"(d[0]), "+f"(d[1]), "=f"(upper[0]), "=f"(upper[1])
      : "r"(a0), "r"(0U), "r"(a2), "r"(b0), "r"(b1), "f"(0.0F));
}

// An 8 x 8 tile of 16-bit values over the warp, rows and columns exchanged.
__device__ uint32_t transposed(uint32_t tile) {
  uint32_t out;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(tile));
  return out;
}

template <typename Half>
__device__ uint32_t pack(float first, float second) {
  const typename Half::Pair pair = Half::round({first, second});
  uint32_t raw;
  memcpy(&raw, &pair, sizeof raw);
  return raw;
}

__device__ uint32_t word(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// The keys of a request, and the part of them that is this block's.
struct Keys {
  const int32_t* pages;
  int count, begin, end, parts;

  __device__ Keys(const DecodeGqaParams& p, int first, int held, int in_last, int split,
                  int splits) {
    pages = p.pages + first;
    count = (held - 1) * p.in.cache.page_size + in_last;
    const int share = (count + splits - 1) / splits;
    const int part = (share + kBlockKeys - 1) / kBlockKeys * kBlockKeys;
    parts = (count + part - 1) / part;
    begin = split * part;
    end = min(begin + part, count);
  }
  // Elements from the cache's start to a key's row.
  __device__ int64_t offset(const KvCache& c, int key, int head) const {
    return int64_t{pages[key / c.page_size]} * c.page_stride + head * c.head_stride +
           key % c.page_size * c.token_stride;
  }
};

// What a block, or several, know of the group's heads so far.
template <int kDim>
struct Sums {
  float output[kGroup][kDim];
  float maximum[kGroup];  // of the scores, as exponents of two
  float weight[kGroup];
};

// One warp's tiles. A lane (g, c) holds head g; of every 32 columns j the eight from 8 c on.
template <typename Half, int kDim>
struct Warp {
  static constexpr int kBlocks = kDim / 32;
  uint4 q[kBlocks];
  float output[kBlocks][4][2] = {};
  float maximum = minus_infinity(), weight = 0.0F;

  __device__ void tile(const DecodeGqaParams& p, const Keys& keys, int head, int first, int g,
                       int c) {
    const KvCache& cache = p.in.cache;
    uint4 k[2][kBlocks], v[2][kBlocks];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int key = min(first + 8 * half + g, keys.end - 1);
      const int64_t at = kHalfBytes * (keys.offset(cache, key, head) + 8 * c);
#pragma unroll
      for (int j = 0; j < kBlocks; ++j) {
        k[half][j] = *reinterpret_cast<const uint4*>(cache.keys + at + 64 * j);
      }
#pragma unroll
      for (int j = 0; j < kBlocks; ++j) {
        v[half][j] = *reinterpret_cast<const uint4*>(cache.values + at + 64 * j);
      }
    }
    float scores[2][2] = {};
    float highest = minus_infinity();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int j = 0; j < kBlocks; ++j) {
        multiply(scores[half], q[j].x, q[j].y, k[half][j].x, k[half][j].y, Half());
        multiply(scores[half], q[j].z, q[j].w, k[half][j].z, k[half][j].w, Half());
      }
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const bool there = first + 8 * half + 2 * c + i < keys.end;
        scores[half][i] = there ? scores[half][i] * p.scale : minus_infinity();
        highest = fmaxf(highest, scores[half][i]);
      }
    }
    highest = fmaxf(highest, __shfl_xor_sync(kAll, highest, 1));
    highest = fmaxf(highest, __shfl_xor_sync(kAll, highest, 2));
    const float before = maximum;
    maximum = fmaxf(maximum, highest);  // the tile's first key is there: finite
    const float shrink = exp2f(before - maximum);
    weight *= shrink;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        scores[half][i] = exp2f(scores[half][i] - maximum);
        weight += scores[half][i];
      }
    }
    const uint32_t a0 = pack<Half>(scores[0][0], scores[0][1]);
    const uint32_t a2 = pack<Half>(scores[1][0], scores[1][1]);
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        output[j][r][0] *= shrink;
        output[j][r][1] *= shrink;
        multiply(output[j][r], a0, a2, transposed(word(v[0][j], r)), transposed(word(v[1][j], r)),
                 Half());
      }
    }
  }

  __device__ void leave(Sums<kDim>& s, int g, int c) {
    weight += __shfl_xor_sync(kAll, weight, 1);
    weight += __shfl_xor_sync(kAll, weight, 2);
    if (c == 0) {
      s.maximum[g] = maximum;
      s.weight[g] = weight;
    }
#pragma unroll
    for (int j = 0; j < kBlocks; ++j) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        *reinterpret_cast<float2*>(&s.output[g][32 * j + 8 * c + 2 * r]) = {output[j][r][0],
                                                                            output[j][r][1]};
      }
    }
  }
};

// The group's queries of a row as 16-bit floats in shared memory.
template <typename Half, int kDim>
__device__ void prepare_queries(const PrepareGqaParams& p, int row, int head, int warp, int lane,
                                float* scratch, uint4* queries) {
  const int group = p.heads / p.cache.kv_heads;
  for (int h = warp; h < kGroup; h += kWarps) {
    auto* out = reinterpret_cast<std::byte*>(queries) + kHalfBytes * h * kDim;
    if (h < group) {
      load_head(p.q.data + row * p.q.stride + (head * group + h) * kDim, kDim, p.q_norm, p.epsilon,
                p.rotation, row, lane, scratch);
      store_halves<Half>(scratch, kDim, lane, 32, out);
    } else {
      for (int i = lane; i < kDim / 2; i += 32) reinterpret_cast<uint32_t*>(out)[i] = 0;
    }
    __syncwarp();
  }
}

// The row's own key and value into the cache.
template <typename Half, int kDim>
__device__ void store_key_and_value(const PrepareGqaParams& p, int row, int head, int slot,
                                    int warp, int lane, float* scratch) {
  if (warp == kWarps - 1) {
    load_head(p.k.data + row * p.k.stride + head * kDim, kDim, p.k_norm, p.epsilon, p.rotation, row,
              lane, scratch);
    store_halves<Half>(scratch, kDim, lane, 32, place_of(p.cache.keys, p.cache, slot, head));
  } else if (warp == kWarps - 2) {
    store_halves<Half>(p.v.data + row * p.v.stride + head * kDim, kDim, lane, 32,
                       place_of(p.cache.values, p.cache, slot, head));
  }
}

template <int kDim>
__device__ void store(const DecodeGqaParams& p, int row, int head, int h, int column, float value) {
  const int group = p.in.heads / p.in.cache.kv_heads;
  const int64_t at = (int64_t{row} * p.in.heads + head * group + h) * kDim + column;
  p.out[at] = value;
  if (p.rounded != nullptr) p.rounded[product_place(at)] = __float2bfloat16_rn(value);
}

// Adds `count` sums in order: at(i).output, maximum and weight of head h and a column.
template <typename At>
__device__ float2 add_up(int count, const At& at) {
  float highest = minus_infinity();
  for (int i = 0; i < count; ++i) highest = fmaxf(highest, at(i).maximum);
  float output = 0.0F, weight = 0.0F;
  for (int i = 0; i < count; ++i) {
    const auto part = at(i);
    const float factor = exp2f(part.maximum - highest);
    output = fmaf(factor, part.output, output);
    weight = fmaf(factor, part.weight, weight);
  }
  return {output, weight};
}

struct Part {
  float output, maximum, weight;
};

template <typename Half, int kDim>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor)
    decode_kernel(DecodeGqaParams p, int splits) {
  begin();
  __shared__ Sums<kDim> sums[kWarps];
  __shared__ uint4 queries[kGroup * kDim / 8];
  __shared__ float scratch[kWarps][kDim];
  __shared__ bool last;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  const int head = blockIdx.y, row = blockIdx.z, group = p.in.heads / p.in.cache.kv_heads;
  // Read ahead of the queries, used behind them.
  const int slot = p.in.slots[row], first = p.page_starts[row],
            held = p.page_starts[row + 1] - first, in_last = p.last_page_keys[row];
  prepare_queries<Half, kDim>(p.in, row, head, warp, lane, scratch[warp], queries);
  if (slot < 0) return;
  const Keys keys(p, first, held, in_last, blockIdx.x, splits);
  if (static_cast<int>(blockIdx.x) >= keys.parts) return;
  if (keys.end == keys.count) {
    store_key_and_value<Half, kDim>(p.in, row, head, slot, warp, lane, scratch[warp]);
  }
  __syncthreads();

  Warp<Half, kDim> own;
#pragma unroll
  for (int j = 0; j < kDim / 32; ++j) own.q[j] = queries[g * (kDim / 8) + 4 * j + c];
  for (int tile = keys.begin + warp * kTileKeys; tile < keys.end; tile += kBlockKeys) {
    own.tile(p, keys, head, tile, g, c);
  }
  own.leave(sums[warp], g, c);
  __syncthreads();

  float* partial =
      p.scratch.partial + (int64_t{row} * gridDim.y + head) * splits * kGroup * (kDim + 2);
  const auto partial_at = [&](int part, int h) {
    return partial + (part * kGroup + h) * (kDim + 2);
  };
  for (int i = threadIdx.x; i < group * kDim; i += kThreads) {
    const int h = i / kDim, column = i % kDim;
    const auto of_warp = [&](int w) {
      return Part{sums[w].output[h][column], sums[w].maximum[h], sums[w].weight[h]};
    };
    const float2 total = add_up(kWarps, of_warp);
    if (keys.parts == 1) {
      store<kDim>(p, row, head, h, column, total.x / total.y);
      continue;
    }
    float* to = partial_at(blockIdx.x, h);
    to[column] = total.x;
    if (column == 0) {
      float highest = minus_infinity();
      for (int w = 0; w < kWarps; ++w) highest = fmaxf(highest, sums[w].maximum[h]);
      to[kDim] = highest;
      to[kDim + 1] = total.y;
    }
  }
  if (keys.parts == 1) return;

  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    uint32_t* counter = p.scratch.counters + row * gridDim.y + head;
    last = atomicAdd(counter, 1U) + 1 == static_cast<uint32_t>(keys.parts);
    if (last) *counter = 0;
    __threadfence();
  }
  __syncthreads();
  if (!last) return;
  for (int i = threadIdx.x; i < group * kDim; i += kThreads) {
    const int h = i / kDim, column = i % kDim;
    const auto of_part = [&](int part) {
      const float* from = partial_at(part, h);
      return Part{__ldcg(from + column), __ldcg(from + kDim), __ldcg(from + kDim + 1)};
    };
    const float2 total = add_up(keys.parts, of_part);
    store<kDim>(p, row, head, h, column, total.x / total.y);
  }
}

// Parts of all requests and heads together, where keys are split.
int most_parts() { return kBlocksPerMultiprocessor * multiprocessors(); }

}  // namespace

bool decode_supports(const GqaShape& s) {
  return gqa_supports(s) && s.heads / s.kv_heads <= kGroup;
}

size_t decode_partial_bytes(int dim) {
  return static_cast<size_t>(most_parts()) * kGroup * static_cast<size_t>(dim + 2) * sizeof(float);
}

void decode_gqa(const DecodeGqaParams& params, cudaStream_t stream) {
  const PrepareGqaParams& in = params.in;
  const KvCache& cache = in.cache;
  TANDEM_CHECK(decode_supports({in.heads, cache.kv_heads, cache.dim, cache.page_size}) &&
                   in.rotation.dims <= cache.dim,
               "{} heads of {} for {}", in.heads, cache.dim, cache.kv_heads);
  if (in.tokens == 0) return;
  const int pairs = in.tokens * cache.kv_heads;
  const int splits = std::clamp(most_parts() / pairs, 1, kMaxSplits);
  DecodeGqaParams p = params;
  p.scale *= 1.44269504F;  // scores as exponents of two
  const dim3 grid(static_cast<unsigned>(splits), static_cast<unsigned>(cache.kv_heads),
                  static_cast<unsigned>(in.tokens));
  with_type(cache.type, [&](auto half) {
    using Half = decltype(half);
    launch_sharing("decode_gqa",
                   cache.dim == 64 ? decode_kernel<Half, 64> : decode_kernel<Half, 128>, grid,
                   kThreads, 0, stream, p, splits);
  });
}

}  // namespace tandem::cuda
