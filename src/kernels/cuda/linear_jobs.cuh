// What the two product kernels (linear_few, linear_many) compute for, as plain structs: where the
// panels of a tile of 16 output rows are, which rows of x its tokens read, where results go.
//
//   kPanels            matrices multiplied with the same x: 2 for gate and up
//   kListed, kLists    whether groups are listed by an earlier kernel, or by the block at its start
//   group_count()      groups of tokens that meet in one matrix
//   group(i)           such a group
//   panel(group, tile, p), x_row(group, token), store(group, row, token, value[row 0 or 1][p])
#pragma once

#include <cuda_bf16.h>

#include "kernels/cuda/experts_group.cuh"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/linear_kernels.h"
#include "kernels/cuda/product_rows.cuh"

namespace tandem::cuda {

__device__ inline float silu(float x) { return x / (1.0F + __expf(-x)); }

struct JobBase {
  const __nv_bfloat16* x;
  int64_t x_stride;
  int64_t panel_bytes;
  int k;
  int blocks;  // of a row
  int stages;  // of a panel
  int tiles;   // of 16 rows, in a group
};

// Tokens 0, 1, ... in groups of `group_tokens`.
struct DenseGroups {
  static constexpr bool kListed = false, kLists = false;
  int tokens;
  int group_tokens;
  int groups;

  __device__ int group_count() const { return groups; }
  __device__ TokenGroup group(int i) const {
    const int first = i * group_tokens;
    return {0, first, min(group_tokens, tokens - first), 0};
  }
};

// Groups that the device has listed.
struct ExpertGroups {
  static constexpr bool kListed = true, kLists = false;
  const TokenGroup* list;  // [*count]
  const int* count;

  __device__ int group_count() const { return *count; }
  __device__ TokenGroup group(int i) const {
    const int4 g = reinterpret_cast<const int4*>(list)[i];
    return {g.x, g.y, g.z, g.w};
  }
};

// Groups of few pairs, which each block lists for itself, all of them the same: that is quicker
// than a kernel ahead. Later kernels find the list.
struct OwnGroups : ExpertGroups {
  static constexpr bool kLists = true;
  GroupParams params;
};

struct LinearJob : JobBase, DenseGroups {
  static constexpr int kPanels = 1;
  struct Part {
    const char* w;
    const float* bias;
    float* y;
    int64_t y_stride;
    int n;
    int first_tile;
    bool add;
    ProductRows rounded;
  };
  Part parts[kMaxLinearMatrices];
  int part_count;

  __device__ const Part& part_of(int tile) const {
    int i = 0;
    while (i + 1 < part_count && tile >= parts[i + 1].first_tile) ++i;
    return parts[i];
  }
  __device__ const char* panel(const TokenGroup&, int tile, int) const {
    const Part& part = part_of(tile);
    return part.w + (tile - part.first_tile) * panel_bytes;
  }
  __device__ const __nv_bfloat16* x_row(const TokenGroup& group, int token) const {
    return x + (group.first + token) * x_stride;
  }
  // Rows `row` (even) and row + 1 of the tile.
  __device__ void store(const TokenGroup& group, int tile, int row, int token,
                        const float (&value)[2][1]) const {
    const Part& part = part_of(tile);
    const int at = (tile - part.first_tile) * 16 + row;
    const int64_t t = group.first + token;
    float* y = part.y + t * part.y_stride + at;
    float sums[2] = {};
    for (int i = 0; i < 2; ++i) {
      if (at + i >= part.n) break;
      float v = value[i][0];
      if (part.bias != nullptr) v += part.bias[at + i];
      y[i] = sums[i] = part.add ? y[i] + v : v;
    }
    if (part.rounded.data != nullptr && at < part.n) {
      store_pair(part.rounded.data + t * part.rounded.stride, at, sums[0], sums[1]);
    }
  }
};

// A matrix and columns of x for each head: a group is a head's share of the tokens.
struct HeadsJob : JobBase, DenseGroups {
  static constexpr int kPanels = 1;
  const char* w;
  int64_t head_bytes;
  int heads;
  int64_t x_head_stride;
  float* y;
  int64_t y_stride;
  int64_t y_head_stride;
  int n;
  ProductRows rounded;

  __device__ int group_count() const { return heads * groups; }
  __device__ TokenGroup group(int i) const {
    TokenGroup group = DenseGroups::group(i % groups);
    group.expert = i / groups;
    return group;
  }
  __device__ const char* panel(const TokenGroup& group, int tile, int) const {
    return w + group.expert * head_bytes + tile * panel_bytes;
  }
  __device__ const __nv_bfloat16* x_row(const TokenGroup& group, int token) const {
    return x + (group.first + token) * x_stride + group.expert * x_head_stride;
  }
  __device__ void store(const TokenGroup& group, int tile, int row, int token,
                        const float (&value)[2][1]) const {
    const int at = tile * 16 + row;
    const int64_t t = group.first + token;
    float* to = y + t * y_stride + group.expert * y_head_stride + at;
    for (int i = 0; i < 2; ++i) {
      if (at + i < n) to[i] = value[i][0];
    }
    if (rounded.data != nullptr) {
      store_pair(rounded.data + t * rounded.stride, int64_t{group.expert} * n + at, value[0][0],
                 value[1][0]);
    }
  }
};

template <typename Groups>
struct GatedJob : JobBase, Groups {
  static constexpr int kPanels = 2;
  const char* gate;
  const char* up;
  int64_t expert_bytes;
  const int* slot_token;  // [slots] row of x, or null: the slot itself
  __nv_bfloat16* y;       // [slots, n]
  int64_t y_stride;
  int n;

  __device__ const char* panel(const TokenGroup& group, int tile, int p) const {
    return (p == 0 ? gate : up) + group.expert * expert_bytes + tile * this->panel_bytes;
  }
  __device__ const __nv_bfloat16* x_row(const TokenGroup& group, int token) const {
    const int slot = group.first + token;
    return this->x + (slot_token == nullptr ? slot : slot_token[slot]) * this->x_stride;
  }
  __device__ void store(const TokenGroup& group, int tile, int row, int token,
                        const float (&value)[2][2]) const {
    const int at = tile * 16 + row;
    // A last odd row's neighbour lies in the same block of 32 columns.
    if (at >= n) return;
    store_pair(y + (group.first + token) * y_stride, at, silu(value[0][0]) * value[0][1],
               silu(value[1][0]) * value[1][1]);
  }
};

struct DownJob : JobBase, ExpertGroups {
  static constexpr int kPanels = 1;
  const char* w;
  int64_t expert_bytes;
  float* y;  // [slots, n]
  int n;

  __device__ const char* panel(const TokenGroup& group, int tile, int) const {
    return w + group.expert * expert_bytes + tile * panel_bytes;
  }
  __device__ const __nv_bfloat16* x_row(const TokenGroup& group, int token) const {
    return x + (group.first + token) * x_stride;
  }
  __device__ void store(const TokenGroup& group, int tile, int row, int token,
                        const float (&value)[2][1]) const {
    const int at = tile * 16 + row;
    float* to = y + int64_t{group.first + token} * n + at;
    for (int i = 0; i < 2; ++i) {
      if (at + i < n) to[i] = value[i][0];
    }
  }
};

}  // namespace tandem::cuda
