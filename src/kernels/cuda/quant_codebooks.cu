// The codebook types on the device, eight elements a thread. quant/blocks.h draws their bytes,
// quant/codebook_unpack.cc defines what they mean; the arithmetic is the same, step by step.
#include <cuda_fp16.h>

#include "kernels/cuda/launch.h"
#include "kernels/cuda/quant_codebooks.h"
#include "quant/blocks.h"
#include "quant/codebooks.h"

namespace tandem::cuda {
namespace {

using quant::Codebooks;

// (d * scale) * q
struct Eight {
  float d;
  int scale;
  int q[8];
};

__device__ float half_of(const quant::Half& h) {
  return __half2float(__ushort_as_half(static_cast<unsigned short>(h.bytes[0] | h.bytes[1] << 8)));
}
__device__ uint32_t word16(const uint8_t* p) { return p[0] | static_cast<uint32_t>(p[1]) << 8; }
__device__ uint32_t word32(const uint8_t* p) { return word16(p) | word16(p + 2) << 16; }
__device__ int nibble(const uint8_t* p, int i) { return p[i / 2] >> (i % 2 * 4) & 15; }
// Group `index` of seven sign bits; the eighth makes the number of minuses even.
__device__ uint32_t eight_signs(uint32_t word, int index) {
  const uint32_t seven = word >> (7 * index) & 127U;
  return seven | (__popc(seven) & 1U) << 7;
}

__device__ void place(const int8_t* points, int count, uint32_t signs, int* q) {
  for (int i = 0; i < count; ++i) q[i] = signs >> i & 1U ? -points[i] : points[i];
}
__device__ void place_iq1(const int8_t* points, bool minus, int* q) {
  for (int i = 0; i < 8; ++i) q[i] = 8 * points[i] + (minus ? -1 : 1);
}

// Elements 8 i .. 8 i + 7 of a block.
__device__ Eight decode(const quant::BlockIQ2_XXS& b, int i, const Codebooks& t) {
  const auto& group = b.groups[i / 4];
  const uint32_t word = word32(group.signs_scale);
  Eight out = {half_of(b.d) * 0.125F, static_cast<int>(2 * (word >> 28) + 1), {}};
  place(t.iq2_xxs[group.indices[i % 4]], 8, eight_signs(word, i % 4), out.q);
  return out;
}
__device__ Eight decode(const quant::BlockIQ2_XS& b, int i, const Codebooks& t) {
  const uint32_t code = word16(b.codes[i]);
  Eight out = {half_of(b.d) * 0.125F, 2 * nibble(b.scales, i / 2) + 1, {}};
  place(t.iq2_xs[code & 511U], 8, eight_signs(code >> 9, 0), out.q);
  return out;
}
__device__ Eight decode(const quant::BlockIQ2_S& b, int i, const Codebooks& t) {
  const int upper = b.indices_high[i / 4] >> (i % 4 * 2) & 3;
  Eight out = {half_of(b.d) * 0.125F, 2 * nibble(b.scales, i / 2) + 1, {}};
  place(t.iq2_s[b.indices[i] | upper << 8], 8, b.signs[i], out.q);
  return out;
}
__device__ Eight decode(const quant::BlockIQ3_XXS& b, int i, const Codebooks& t) {
  const uint32_t word = word32(b.signs_scale[i / 4]), signs = eight_signs(word, i % 4);
  Eight out = {half_of(b.d) * 0.25F, static_cast<int>(2 * (word >> 28) + 1), {}};
  place(t.iq3_xxs[b.indices[2 * i]], 4, signs, out.q);
  place(t.iq3_xxs[b.indices[2 * i + 1]], 4, signs >> 4, out.q + 4);
  return out;
}
__device__ Eight decode(const quant::BlockIQ3_S& b, int i, const Codebooks& t) {
  Eight out = {half_of(b.d), 2 * nibble(b.scales, i / 4) + 1, {}};
  for (int half = 0; half < 2; ++half) {
    const int at = 2 * i + half, ninth = b.indices_high[at / 8] >> (at % 8) & 1;
    place(t.iq3_s[b.indices[at] | ninth << 8], 4, b.signs[i] >> (4 * half), out.q + 4 * half);
  }
  return out;
}
__device__ Eight decode(const quant::BlockIQ1_S& b, int i, const Codebooks& t) {
  const uint32_t group = word16(b.groups[i / 4]);
  Eight out = {half_of(b.d) * 0.125F, static_cast<int>(2 * (group >> 12 & 7U) + 1), {}};
  const int upper = static_cast<int>(group >> (3 * (i % 4)) & 7U);
  place_iq1(t.iq1[b.indices[i] | upper << 8], group >> 15 != 0, out.q);
  return out;
}
__device__ Eight decode(const quant::BlockIQ1_M& b, int i, const Codebooks& t) {
  uint32_t d = 0;
  for (int w = 0; w < 4; ++w) d |= (word16(b.scales[w]) >> 12) << (4 * w);
  const uint32_t scale = word16(b.scales[i / 8]) >> (3 * (i / 2 % 4)) & 7U;
  const quant::Half factor = {{static_cast<uint8_t>(d), static_cast<uint8_t>(d >> 8)}};
  Eight out = {half_of(factor) * 0.125F, static_cast<int>(2 * scale + 1), {}};
  const int upper = b.indices_high[i / 2] >> (i % 2 * 4);
  place_iq1(t.iq1[b.indices[i] | (upper & 7) << 8], (upper & 8) != 0, out.q);
  return out;
}

template <typename Block>
__global__ void codebook_rows_kernel(DecodeRowsParams p) {
  const int at = (blockIdx.y * blockDim.x + threadIdx.x) * 8;
  const int64_t t = blockIdx.x;
  if (at >= p.k) return;
  const int id = p.ids == nullptr ? static_cast<int>(t) : p.ids[t];
  Eight v = {};
  if (id >= 0 && id < p.n) {
    const auto* row = static_cast<const Block*>(p.w) + int64_t{id} * (p.k / 256);
    v = decode(row[at / 256], at % 256 / 8, *p.codebooks);
  }
  const float scale = v.d * static_cast<float>(v.scale);
  for (int i = 0; i < 8; ++i) {
    const float value = scale * static_cast<float>(v.q[i]);
    if (p.to_bf16) {
      static_cast<__nv_bfloat16*>(p.out)[t * p.out_stride + at + i] = __float2bfloat16_rn(value);
    } else {
      static_cast<float*>(p.out)[t * p.out_stride + at + i] = value;
    }
  }
}

template <DType kType>
bool launch(const DecodeRowsParams& p, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(p.rows), static_cast<unsigned>((p.k / 8 + 127) / 128));
  codebook_rows_kernel<typename quant::BlockOf<kType>::Type><<<grid, 128, 0, stream>>>(p);
  check_launch("codebook_rows_kernel");
  return true;
}

}  // namespace

bool decode_codebook_rows(const DecodeRowsParams& p, cudaStream_t stream) {
  switch (p.type) {
    case DType::kIQ2_XXS:
      return launch<DType::kIQ2_XXS>(p, stream);
    case DType::kIQ2_XS:
      return launch<DType::kIQ2_XS>(p, stream);
    case DType::kIQ2_S:
      return launch<DType::kIQ2_S>(p, stream);
    case DType::kIQ3_XXS:
      return launch<DType::kIQ3_XXS>(p, stream);
    case DType::kIQ3_S:
      return launch<DType::kIQ3_S>(p, stream);
    case DType::kIQ1_S:
      return launch<DType::kIQ1_S>(p, stream);
    case DType::kIQ1_M:
      return launch<DType::kIQ1_M>(p, stream);
    default:
      return false;
  }
}

}  // namespace tandem::cuda
