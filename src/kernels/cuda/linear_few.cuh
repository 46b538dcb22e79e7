// Products of few tokens, bound by reading weights: every warp streams panels through a ring of
// stages of its own in shared memory, so that copies stay in flight across tiles and barriers.
//
//   block = 8 warps = `slices` of the columns x 8 / slices tiles of 16 output rows
//   warp: stages slice, slice + slices, ... of its panel: products of the integer codes with bf16
//         activations on the tensor cores, scaled in float32 once for every 32 (or 16) columns
//   block: adds the slices' sums in order; warps with whole panels go their own ways instead
//
// Offsets (minima, and the 128 of byte_values) need the sums of activations; a product with ones
// gives them in the place where they are needed.
#pragma once

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_jobs.cuh"
#include "kernels/cuda/quant_types.cuh"

namespace tandem::cuda {

inline constexpr int kFewWarps = 8;
inline constexpr int kFewThreads = 32 * kFewWarps;

// kSmall: for devices whose blocks have 99 KB (compute capability 8.6, 8.9, 12.0).
template <typename Q, int kTokenTiles, int kPanels, bool kSmall>
struct FewMemory {
  static constexpr int kStage = Q::Geometry::kBytes;
  // Two blocks share an SM: beyond about 76 KB of ring for each, further stages no longer fit.
  static constexpr int kFit = kSmall ? 2 : 76 * 1024 / (kFewWarps * kStage);
  static constexpr int kRing = kFit < 2 ? 2 : kFit > 4 ? 4 : kFit;
  static constexpr int kSumBuffers = kSmall ? 1 : 2;
  static constexpr int kTable = ScaleTable<Q>::kFloats * 4;
  static constexpr int kSums =
      kTokenTiles * 128;  // floats of a warp and panel: [8 tokens, 16 rows]
  static constexpr int kBytes =
      kFewWarps * (kRing * kStage + kTable + kSumBuffers * kPanels * kSums * 4);
  static_assert(!kSmall || kBytes <= kSmallSharedBytes);
};

template <typename Q, int kTokenTiles>
struct FewStage {
  Lines lines;
  ScaleTable<Q> table;
  const __nv_bfloat16* x[kTokenTiles];  // the lane's token, at its first column
  int g, c;

  // Adds the products with 32 columns j.
  __device__ void columns(int j, float (&sum)[kTokenTiles][4]) const {
    const Codes codes = Q::codes(lines, c, j);
    uint32_t a[2][4];
    for (int row = 0; row < 2; ++row) {
      const Pairs low = byte_values<Q>(codes.low[row]), high = byte_values<Q>(codes.high[row]);
      a[0][row] = low.low;
      a[0][row + 2] = low.high;
      a[1][row] = high.low;
      a[1][row + 2] = high.high;
    }
    constexpr bool kOffset = ScaleTable<Q>::kHasOffset;
    constexpr uint32_t kOne = 0x3f803f80U;
    constexpr uint32_t kOnes[4] = {kOne, kOne, kOne, kOne};
#pragma unroll
    for (int tile = 0; tile < kTokenTiles; ++tile) {
      const uint4 from = *reinterpret_cast<const uint4*>(x[tile] + 32 * j);
      const uint2 b[2] = {{from.x, from.y}, {from.z, from.w}};
      float products[Q::kGroups][4] = {}, ones[Q::kGroups][4] = {};
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int h = Q::kGroups == 2 ? half : 0;
        multiply_tile(products[h], a[half], b[half].x, b[half].y);
        if constexpr (kOffset) multiply_tile(ones[h], kOnes, b[half].x, b[half].y);
      }
#pragma unroll
      for (int h = 0; h < Q::kGroups; ++h) {
        const float4 s = table.get(j, h, g);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          sum[tile][i] = fmaf(products[h][i], i < 2 ? s.x : s.z, sum[tile][i]);
          if constexpr (kOffset) {
            sum[tile][i] = fmaf(ones[h][i], -(i < 2 ? s.y : s.w), sum[tile][i]);
          }
        }
      }
    }
  }
};

// The sums of a warp that had all columns.
template <int kTokenTiles, typename Job>
__device__ void store_whole(const Job& job, const TokenGroup& group, int tile, int g, int c,
                            const float (&sum)[Job::kPanels][kTokenTiles][4]) {
#pragma unroll
  for (int i = 0; i < 2 * kTokenTiles; ++i) {
    const int token = i / 2 * 8 + 2 * c + i % 2;
    if (token >= group.count) continue;
    float value[2][Job::kPanels];
#pragma unroll
    for (int p = 0; p < Job::kPanels; ++p) {
      value[0][p] = sum[p][i / 2][i % 2];
      value[1][p] = sum[p][i / 2][i % 2 + 2];
    }
    job.store(group, tile, 2 * g, token, value);
  }
}

template <typename Q, int kTokenTiles, bool kSmall, typename Job>
__global__ void __launch_bounds__(kFewThreads, 2) few_kernel(Job job, int slices) {
  using Memory = FewMemory<Q, kTokenTiles, Job::kPanels, kSmall>;
  constexpr int kPanels = Job::kPanels, kRing = Memory::kRing;
  extern __shared__ __align__(128) char shared[];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  char* ring = shared + warp * kRing * Memory::kStage;
  char* tables = shared + kFewWarps * kRing * Memory::kStage;
  const ScaleTable<Q> table_of_warp(reinterpret_cast<float*>(tables + warp * Memory::kTable));
  auto* sums = reinterpret_cast<float*>(tables + kFewWarps * Memory::kTable);

  const int parallel = kFewWarps / slices, slice = warp % slices, own = warp / slices;
  launch_next();
  if constexpr (Job::kListed) wait_for_previous();  // for the list of groups
  if constexpr (Job::kLists) {
    list_groups(job.params, *reinterpret_cast<GroupScratch<kFewThreads>*>(shared));
    __syncthreads();
  }
  const int items = job.group_count() * job.tiles;
  const int step = gridDim.x * parallel;

  // The warp's stages in order, for the copies that run ahead.
  int next_item = static_cast<int>(blockIdx.x) * parallel + own, next_p = 0, next_stage = slice;
  const char* next_panel = nullptr;
  const auto find_panel = [&] {
    if (next_item >= items) return;
    next_panel = job.panel(job.group(next_item / job.tiles), next_item % job.tiles, next_p);
  };
  int copied = 0;
  const auto copy_next = [&] {
    if (next_item < items) {
      copy_stage<Q>(ring + copied * Memory::kStage, next_panel, next_stage, job.blocks, lane);
      copied = copied + 1 == kRing ? 0 : copied + 1;
      next_stage += slices;
      if (next_stage >= job.stages) {
        next_stage = slice;
        if (++next_p == kPanels) {
          next_p = 0;
          next_item += step;
        }
        find_panel();
      }
    }
    commit_copies();
  };
  find_panel();
  for (int i = 0; i < kRing - 1; ++i) copy_next();
  if constexpr (!Job::kListed) wait_for_previous();

  int used = 0, parity = 0;
  for (int base = blockIdx.x * parallel; base < items;
       base += step, parity ^= Memory::kSumBuffers - 1) {
    float* sums_now = sums + parity * kFewWarps * kPanels * Memory::kSums;
    const int item = base + own;
    if (item < items) {
      const TokenGroup group = job.group(item / job.tiles);
      const __nv_bfloat16* rows[kTokenTiles];
#pragma unroll
      for (int tile = 0; tile < kTokenTiles; ++tile) {
        rows[tile] = job.x_row(group, min(8 * tile + g, group.count - 1)) + 8 * c;
      }
      float whole[kPanels][kTokenTiles][4];
#pragma unroll
      for (int p = 0; p < kPanels; ++p) {
        float(&sum)[kTokenTiles][4] = whole[p];
#pragma unroll
        for (int i = 0; i < 4 * kTokenTiles; ++i) sum[i / 4][i % 4] = 0.0F;
#pragma unroll 1
        for (int s = slice; s < job.stages; s += slices) {
          wait_copies<kRing - 2>();
          __syncwarp();
          copy_next();
          FewStage<Q, kTokenTiles> stage{
              Lines(ring + used * Memory::kStage, g, c), table_of_warp, {}, g, c};
          used = used + 1 == kRing ? 0 : used + 1;
#pragma unroll
          for (int tile = 0; tile < kTokenTiles; ++tile) {
            stage.x[tile] = rows[tile] + s * kStageColumns;
          }
          const int blocks = min(Q::Geometry::kBlocks, job.blocks - s * Q::Geometry::kBlocks);
          stage.table.fill(stage.lines, blocks, g, c);
          if (Q::kBlock == 256 || blocks == 8) {
#pragma unroll
            for (int j = 0; j < 8; ++j) stage.columns(j, sum);
          } else {
#pragma unroll 1
            for (int j = 0; j < blocks; ++j) stage.columns(j, sum);
          }
        }
        if (slices == 1) continue;
        float* to = sums_now + (p * kFewWarps + warp) * Memory::kSums;
#pragma unroll
        for (int tile = 0; tile < kTokenTiles; ++tile) {
          for (int i = 0; i < 4; ++i) {
            to[(8 * tile + 2 * c + i % 2) * 16 + 2 * g + i / 2] = sum[tile][i];
          }
        }
      }
      if (slices == 1) store_whole(job, group, item % job.tiles, g, c, whole);
    }
    if (slices == 1) continue;
    // The sums of the tile before the last are free again: all have passed the last barrier.
    __syncthreads();
    constexpr int kPairs = kTokenTiles * 64;  // of rows, in a tile
    for (int i = threadIdx.x; i < parallel * kPairs; i += kFewThreads) {
      const int tile_item = base + i / kPairs, token = i % kPairs / 8, row = i % 8 * 2;
      if (tile_item >= items) break;
      const TokenGroup group = job.group(tile_item / job.tiles);
      if (token >= group.count) continue;
      float value[2][kPanels];
      for (int p = 0; p < kPanels; ++p) {
        const float* from =
            sums_now + (p * kFewWarps + i / kPairs * slices) * Memory::kSums + token * 16 + row;
        float2 total = {0.0F, 0.0F};
        for (int s = 0; s < slices; ++s, from += Memory::kSums) {
          const float2 v = *reinterpret_cast<const float2*>(from);
          total = {total.x + v.x, total.y + v.y};
        }
        value[0][p] = total.x;
        value[1][p] = total.y;
      }
      job.store(group, tile_item % job.tiles, row, token, value);
    }
    if (kSmall) __syncthreads();  // before the only buffer is written again
  }
}

// Slices so that the warp with most stages has as few as possible. A tile that is shared costs its
// barrier and sums beside, about as much as a stage of one panel.
inline int choose_slices(int stages, int panels, int64_t items, int blocks) {
  int best = 1;
  int64_t fewest = INT64_MAX;
  for (int slices = 1; slices <= kFewWarps && slices <= stages; slices *= 2) {
    const int64_t per_round = int64_t{blocks} * (kFewWarps / slices);
    const int64_t of_tile = int64_t{(stages + slices - 1) / slices} * panels + (slices > 1 ? 1 : 0);
    const int64_t cost = of_tile * ((items + per_round - 1) / per_round);
    if (cost <= fewest) {
      fewest = cost;
      best = slices;
    }
  }
  return best;
}

}  // namespace tandem::cuda
