// How device code reads panels (quant/panel_layout.h, the CPU's layout): a warp copies a stage, 256
// columns of the 16 rows of a panel, into shared memory, and its lanes read words of two rows
// there.
//
// A lane is (g, c) = (lane / 4, lane % 4). It holds rows 2g and 2g + 1, which are rows g and g + 8
// of a tensor-core tile, and of every 32 columns the eight 4c .. 4c+3 and 16+4c .. 16+4c+3: the
// order of columns inside a tile is free as long as weights and activations agree, and this one is
// a whole word of codes in every type. Columns 0-15 are one tile of 16, columns 16-31 the next, so
// scales of 16 columns stay apart.
#pragma once

#include <cstdint>

#include <cuda_bf16.h>

#include "base/dtype.h"
#include "quant/panel_layout.h"

namespace tandem::cuda {

inline constexpr int kStageColumns = 256;

// Words are lines of 64 bytes, one word of the 16 rows each. Lanes of half a warp read four lines
// at eight bytes a row pair; 16-byte granules of every second pair of lines are exchanged, so that
// those fall into different banks.
__device__ inline int swizzled(int granule) { return granule ^ ((granule >> 2) & 2); }

// A stage as one lane reads it: words of its rows 2g and 2g + 1.
class Lines {
 public:
  __device__ Lines(const char* stage, int g, int c)
      : stage_(stage), g_(g), even_(offset(g, c)), odd_(offset(g, c + 1) - 64) {}

  // Word first + c of the rows. Where `first` is known to the compiler, so is the offset.
  __device__ uint2 lane_words(int first) const {
    const int own = first % 2 == 0 ? even_ : odd_;
    return load(first * 64 + (own ^ (first & 2) * 16));
  }
  // Word `line` of the rows, the same for all four lanes that share them.
  __device__ uint2 words(int line) const {
    return load(line * 64 + (g_ / 2 ^ (line & 2)) * 16 + g_ % 2 * 8);
  }
  // 32 or 16 bits at a byte offset.
  __device__ uint32_t word_at(int offset) const {
    return *reinterpret_cast<const uint32_t*>(at(offset));
  }
  __device__ uint32_t short_at(int offset) const {
    return *reinterpret_cast<const uint16_t*>(at(offset));
  }

 private:
  __device__ static int offset(int g, int line) {
    return swizzled(4 * line + g / 2) * 16 + g % 2 * 8;
  }
  __device__ uint2 load(int offset) const {
    return *reinterpret_cast<const uint2*>(stage_ + offset);
  }
  __device__ const char* at(int offset) const {
    return stage_ + swizzled(offset / 16) * 16 + offset % 16;
  }
  const char* stage_;
  int g_;
  int even_, odd_;  // offsets of line c from an even line on, and from an odd one
};

// Where blocks of W words and R bytes more lie in a stage. A stage of 256-wide blocks is one block,
// its rest behind its words; one of 32-wide blocks is eight, as in the panel.
template <int kWords, int kRest, int kBlock>
struct StageGeometry {
  static constexpr int kGroup = static_cast<int>(quant::panel_group(kRest));
  static constexpr int kBlocks = kStageColumns / kBlock;
  static constexpr int kBytes =
      kBlock == 256 ? kWords * 64 + (kRest > 0 ? 64 : 0)
                    : kBlocks * kWords * 64 + (kRest > 0 ? kBlocks / kGroup * 64 : 0);

  // First line of block b of the stage.
  __device__ static int line(int b) {
    return kBlock == 256 ? 0 : static_cast<int>(quant::panel_words_at(kWords, kRest, b)) / 64;
  }
  // Byte offset of the rest of block b of a stage of `blocks`.
  __device__ static int rest(int b, int blocks) {
    return kBlock == 256 ? kWords * 64
                         : static_cast<int>(quant::panel_rest_at(kWords, kRest, b, blocks));
  }
};

__device__ inline void copy_async(void* shared, const void* global) {
  const auto to = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global));
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;"); }
template <int kPending>
__device__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending));
}

// `first` and kMost are known to the compiler; granules 32 apart are exchanged alike, so all
// addresses are constants beside the lane's own.
template <int kMost>
__device__ void copy_granules(char* stage, int first, const char* from, int granules, int lane) {
  char* to = stage + swizzled(first + lane) * 16;
  from += lane * 16;
#pragma unroll
  for (int i = 0; i < kMost; i += 32) {
    if (lane + i < granules) copy_async(to + i * 16, from + i * 16);
  }
}

// A warp starts the copy of stage s of a panel whose rows have `blocks` blocks.
template <typename Q>
__device__ void copy_stage(char* stage, const char* panel, int s, int blocks, int lane) {
  using G = typename Q::Geometry;
  constexpr int kWords = Q::kWords, kRest = Q::kRest;
  if constexpr (Q::kBlock == 256) {
    constexpr int kGranules = kWords * 4;
    copy_granules<kGranules>(stage, 0, panel + quant::panel_words_at(kWords, kRest, s), kGranules,
                             lane);
    if constexpr (kRest > 0) {
      copy_granules<kRest>(stage, kGranules, panel + quant::panel_rest_at(kWords, kRest, s, blocks),
                           kRest, lane);
    }
  } else {
    const int first = s * G::kBlocks, count = min(G::kBlocks, blocks - first);
    const int groups = (count + G::kGroup - 1) / G::kGroup;
    const int bytes = count * kWords * 64 + (kRest > 0 ? groups * 64 : 0);
    copy_granules<G::kBytes / 16>(stage, 0, panel + quant::panel_words_at(kWords, kRest, first),
                                  bytes / 16, lane);
  }
}

// Four bytes of codes -> two pairs of bf16, exactly: 128 + byte, the byte as mantissa of a float of
// exponent 2^7; or, where bytes go up to 255, (byte - bias) / 64, read as subnormal and multiplied
// up.
struct Pairs {
  uint32_t low, high;  // bytes 0 and 1, bytes 2 and 3
};
template <typename Q>
__device__ Pairs byte_values(uint32_t bytes) {
  constexpr uint32_t kUpper = Q::kFullBytes ? 0 : 0x43;
  Pairs pairs = {__byte_perm(bytes, kUpper, 0x4140), __byte_perm(bytes, kUpper, 0x4342)};
  if constexpr (Q::kFullBytes) {
    const auto convert = [](uint32_t raw) {
      __nv_bfloat162 value;
      memcpy(&value, &raw, sizeof value);
      value =
          __hfma2(value, __float2bfloat162_rn(0x1p127F), __float2bfloat162_rn(-Q::kBias * 0x1p-6F));
      memcpy(&raw, &value, sizeof raw);
      return raw;
    };
    pairs = {convert(pairs.low), convert(pairs.high)};
  }
  return pairs;
}

// Codes of a lane in 32 columns: bytes, `bias` more than the integer that the type means.
struct Codes {
  uint32_t low[2];   // [row] columns 4c .. 4c+3
  uint32_t high[2];  // [row] columns 16+4c .. 16+4c+3
};

// element = scale * (byte - bias) - min, in float32 as quant/unpack.h has them; [row][group of 16
// columns], or one group where Q::kGroups is 1.
struct Scales {
  float scale[2][2];
  float min[2][2];
};

// element = scale * value - offset for the values of byte_values(). The factors of a stage are
// computed once by four lanes that share rows, and read by all of them:
//   [8, kGroups, 16] entries {scale} or {scale, offset}
template <typename Q>
class ScaleTable {
 public:
  static constexpr bool kHasOffset = Q::kHasMin || !Q::kFullBytes;
  static constexpr int kEntry = kHasOffset ? 2 : 1;
  static constexpr int kFloats = 8 * Q::kGroups * 16 * kEntry;

  __device__ explicit ScaleTable(float* entries) : entries_(entries) {}

  // The whole warp, for a stage of `blocks` blocks. No lane may still read the previous ones.
  __device__ void fill(const Lines& lines, int blocks, int g, int c) {
    Scales s[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      if (Q::kBlock == 256 || 2 * c + i < blocks) s[i] = Q::scales(lines, g, 2 * c + i, blocks);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int h = 0; h < Q::kGroups; ++h) {
        float* to = entry(2 * c + i, h, g);
        const float s0 = s[i].scale[0][h], s1 = s[i].scale[1][h];
        if constexpr (kHasOffset) {
          constexpr float kZero = 128.0F + Q::kBias;
          const float m0 = Q::kHasMin ? s[i].min[0][h] : 0.0F;
          const float m1 = Q::kHasMin ? s[i].min[1][h] : 0.0F;
          *reinterpret_cast<float4*>(to) = {s0, fmaf(s0, kZero, m0), s1, fmaf(s1, kZero, m1)};
        } else {
          *reinterpret_cast<float2*>(to) = {s0 * 64.0F, s1 * 64.0F};
        }
      }
    }
    __syncwarp();
  }
  // {scale, offset, scale, offset} of rows 2g and 2g + 1 in group h of 32 columns j.
  __device__ float4 get(int j, int h, int g) const {
    if constexpr (kHasOffset) {
      return *reinterpret_cast<const float4*>(entry(j, h, g));
    } else {
      const float2 s = *reinterpret_cast<const float2*>(entry(j, h, g));
      return {s.x, 0.0F, s.y, 0.0F};
    }
  }

 private:
  __device__ float* entry(int j, int h, int g) const {
    return entries_ + ((j * Q::kGroups + h) * 16 + 2 * g) * kEntry;
  }
  float* entries_;
};

// d[16, 8] += a[16, 16] b[16, 8], bf16 into float32.
__device__ inline void multiply_tile(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                     uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace tandem::cuda
