// Products of many tokens, bound by arithmetic: a block computes 128 output rows (64 of gate and 64
// of up) for up to 128 tokens (64 on devices with less shared memory). Weights go from panels
// straight into tensor-core operands, as bf16 values; they are decoded once for all tokens of the
// block.
//
//   block = 4 warps x two panels (row tiles) each x 16 token tiles; sums stay in registers
//   copies: x [128 tokens, 64 columns] for the block, ahead by one or two steps;
//           a stage of 256 columns of each warp's panels, every fourth step
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_jobs.cuh"
#include "kernels/cuda/quant_types.cuh"

namespace tandem::cuda {

inline constexpr int kManyWarps = 4;
inline constexpr int kManyThreads = 32 * kManyWarps;
inline constexpr int kManyColumns = 64;  // of a step

// kSmall: for devices whose blocks have 99 KB.
template <typename Q, bool kSmall>
struct ManyMemory {
  static constexpr int kStage = Q::Geometry::kBytes;
  static constexpr int kX = many_tokens(kSmall) * kManyColumns * 2;
  static constexpr int kTable = ScaleTable<Q>::kFloats * 4;
  static constexpr int kPanels = 2 * kManyWarps;
  static constexpr int kWeights = kPanels * (2 * kStage + kTable);
  // Two steps ahead, or one where only that lets two blocks share the 227 KB of an SM.
  static constexpr int kXRing = !kSmall && kWeights + 3 * kX <= 113 * 1024 ? 3 : 2;
  static constexpr int kBytes = kWeights + kXRing * kX;
  static_assert(!kSmall || kBytes <= kSmallSharedBytes);
};

// Rows of 128 bytes: the halves of every second row are exchanged, so that the same four granules
// of 16 bytes of two rows, which a quarter of a warp reads, lie in different banks.
__device__ inline int x_offset(int token, int granule) {
  return token * 128 + (granule ^ (token % 2 * 4)) * 16;
}

// scale * value - offset as bf16 for two pairs of byte_values().
__device__ inline uint32_t scaled_pair(uint32_t pair, float scale, float offset) {
  const float low = fmaf(__uint_as_float(pair << 16), scale, -offset);
  const float high = fmaf(__uint_as_float(pair & 0xffff0000U), scale, -offset);
  const __nv_bfloat162 value = __floats2bfloat162_rn(low, high);
  uint32_t raw;
  memcpy(&raw, &value, sizeof raw);
  return raw;
}

// The operands of 32 columns j of 16 rows: two tiles of 16 x 16.
template <typename Q>
__device__ void decode_columns(const Lines& lines, const ScaleTable<Q>& table, int g, int c, int j,
                               uint32_t (&a)[2][4]) {
  const Codes codes = Q::codes(lines, c, j);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const float4 s = table.get(j, Q::kGroups == 2 ? half : 0, g);
#pragma unroll
    for (int row = 0; row < 2; ++row) {
      const Pairs pairs = byte_values<Q>(half == 0 ? codes.low[row] : codes.high[row]);
      const float scale = row == 0 ? s.x : s.z, offset = row == 0 ? s.y : s.w;
      a[half][row] = scaled_pair(pairs.low, scale, offset);
      a[half][row + 2] = scaled_pair(pairs.high, scale, offset);
    }
  }
}

// A block starts the copy of x's columns of step `step`: rows of `tokens` tokens.
template <typename Job>
__device__ void copy_x(const Job& job, const TokenGroup& group, char* x, int step) {
  const int granule = threadIdx.x % 8, column = step * kManyColumns + granule * 8;
  if (column >= job.k) return;
  for (int token = threadIdx.x / 8; token < group.count; token += kManyThreads / 8) {
    copy_async(x + x_offset(token, granule), job.x_row(group, token) + column);
  }
}

// What a warp needs in every step.
template <typename Q, bool kSmall, typename Job>
struct ManyWarp {
  using Memory = ManyMemory<Q, kSmall>;
  static constexpr int kAhead = Memory::kXRing - 1;
  const Job& job;
  const TokenGroup group;
  const char* panels[2];
  char* x;       // [kXRing] of the block
  char* stages;  // [panel, 2]
  float* tables;
  int steps, lane, g, c;

  __device__ char* stage_at(int panel, int stage) const {
    return stages + (2 * panel + stage % 2) * Memory::kStage;
  }
  __device__ ScaleTable<Q> table(int panel) const {
    return ScaleTable<Q>(tables + panel * ScaleTable<Q>::kFloats);
  }

  __device__ void copy_step(int step) const {
    if (step < steps) {
      copy_x(job, group, x + step % Memory::kXRing * Memory::kX, step);
      if (step % 4 == 0) {
        for (int i = 0; i < 2; ++i) {
          copy_stage<Q>(stage_at(i, step / 4), panels[i], step / 4, job.blocks, lane);
        }
      }
    }
    commit_copies();
  }

  // sum += products with 32 columns `part` of the step.
  template <int kTokenTiles>
  __device__ void columns(int step, int part, float (&sum)[2][kTokenTiles][4]) const {
    const char* x_step = x + step % Memory::kXRing * Memory::kX;
    uint32_t a[2][2][4];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      decode_columns<Q>(Lines(stage_at(i, step / 4), g, c), table(i), g, c, 2 * (step % 4) + part,
                        a[i]);
    }
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
      const uint4 b =
          *reinterpret_cast<const uint4*>(x_step + x_offset(8 * tile + g, 4 * part + c));
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        multiply_tile(sum[i][tile], a[i][0], b.x, b.y);
        multiply_tile(sum[i][tile], a[i][1], b.z, b.w);
      }
    }
  }

  // Tokens beyond the group's are computed from whatever lies in shared memory, and dropped.
  template <int kTokenTiles>
  __device__ void run(int first_tile) const {
    float sum[2][kTokenTiles][4] = {};
    const int whole = job.k / kManyColumns;
#pragma unroll 1
    for (int step = 0; step < steps; ++step) {
      wait_copies<kAhead - 1>();
      __syncthreads();
      copy_step(step + kAhead);
      if (step % 4 == 0) {
        const int blocks = min(Q::Geometry::kBlocks, job.blocks - step / 4 * Q::Geometry::kBlocks);
        for (int i = 0; i < 2; ++i) {
          table(i).fill(Lines(stage_at(i, step / 4), g, c), blocks, g, c);
        }
      }
      columns(step, 0, sum);
      if (step < whole) columns(step, 1, sum);
    }
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int token = 8 * tile + 2 * c + i;
        if (token < group.count) {
          store(first_tile, token, sum[0][tile][i], sum[0][tile][i + 2], sum[1][tile][i],
                sum[1][tile][i + 2]);
        }
      }
    }
  }

  // Rows 2g and 2g + 1 of both panels.
  __device__ void store(int tile, int token, float a0, float a1, float b0, float b1) const {
    if constexpr (Job::kPanels == 2) {
      const float value[2][2] = {{a0, b0}, {a1, b1}};
      if (tile < job.tiles) job.store(group, tile, 2 * g, token, value);
    } else {
      const float first[2][1] = {{a0}, {a1}}, second[2][1] = {{b0}, {b1}};
      if (tile < job.tiles) job.store(group, tile, 2 * g, token, first);
      if (tile + 1 < job.tiles) job.store(group, tile + 1, 2 * g, token, second);
    }
  }
};

template <typename Q, bool kSmall, typename Job>
__global__ void __launch_bounds__(kManyThreads, 2) many_kernel(Job job) {
  using Memory = ManyMemory<Q, kSmall>;
  extern __shared__ __align__(128) char shared[];
  begin();
  if (static_cast<int>(blockIdx.y) >= job.group_count()) return;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  // The warp's two panels: two tiles, or one tile of gate and of up.
  constexpr int kTiles = 2 / Job::kPanels;
  const int first_tile = (blockIdx.x * kManyWarps + warp) * kTiles;
  char* stages = shared + Memory::kXRing * Memory::kX;
  auto* tables = reinterpret_cast<float*>(stages + kManyWarps * 4 * Memory::kStage);
  ManyWarp<Q, kSmall, Job> own = {.job = job,
                                  .group = job.group(blockIdx.y),
                                  .panels = {},
                                  .x = shared,
                                  .stages = stages + warp * 4 * Memory::kStage,
                                  .tables = tables + warp * 2 * ScaleTable<Q>::kFloats,
                                  .steps = (job.k + kManyColumns - 1) / kManyColumns,
                                  .lane = lane,
                                  .g = lane / 4,
                                  .c = lane % 4};
  for (int i = 0; i < 2; ++i) {
    const int tile = min(first_tile + (kTiles == 2 ? i : 0), job.tiles - 1);
    own.panels[i] = job.panel(own.group, tile, kTiles == 2 ? 0 : i);
  }
  for (int step = 0; step < own.kAhead; ++step) own.copy_step(step);
  if (own.group.count <= 32) {
    own.template run<4>(first_tile);
  } else if (kSmall || own.group.count <= 64) {
    own.template run<8>(first_tile);
  } else if constexpr (!kSmall) {
    own.template run<16>(first_tile);
  }
}

}  // namespace tandem::cuda
