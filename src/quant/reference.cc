// Dequantisation, activation quantisation and dot products, written over the unpacked form of a
// block.
#include "quant/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "quant/half.h"
#include "quant/unpack.h"

namespace tandem::quant {
namespace {

// Element i of a row of float, half or bfloat16 weights.
float float_weight(DType dtype, const std::byte* row, int64_t i) {
  if (dtype == DType::kF16) {
    Half half;
    std::memcpy(&half, row + 2 * i, sizeof half);
    return to_float(half);
  }
  if (dtype == DType::kBF16) return bf16_to_float(row + 2 * i);
  float value;
  std::memcpy(&value, row + 4 * i, sizeof value);
  return value;
}

int quantize(float x, float inverse_scale, int highest) {
  const float rounded = std::nearbyint(x * inverse_scale);  // to nearest even
  return std::fabs(rounded) <= static_cast<float>(highest) ? static_cast<int>(rounded) : -highest;
}

float max_magnitude(const float* x, int n) {
  float m = 0.0F;
  for (int i = 0; i < n; ++i) m = std::max(m, std::fabs(x[i]));
  return m;
}

float inverse_scale(float maximum, float highest) {
  return maximum < kSmallestMaximum ? 0.0F : highest / maximum;
}

void quantize_a32(const float* x, BlockA32& out) {
  const float m = max_magnitude(x, 32);
  const float inverse = inverse_scale(m, 16256.0F);
  out.d = m / 16256.0F;
  out.sum = 0;
  for (int i = 0; i < 32; ++i) {
    const int q = quantize(x[i], inverse, 16256);
    const int hi = (q + 64) >> 7;
    out.hi[i] = static_cast<int8_t>(hi);
    out.lo[i] = static_cast<int8_t>(q - 128 * hi);
    out.sum += q;
  }
}

void quantize_a256(const float* x, BlockA256& out) {
  const float m = max_magnitude(x, 256);
  const float inverse = inverse_scale(m, 127.0F);
  out.d = m / 127.0F;
  std::fill_n(out.sum, 16, int16_t{0});
  for (int i = 0; i < 256; ++i) {
    out.q[i] = static_cast<int8_t>(quantize(x[i], inverse, 127));
    out.sum[i / 16] = static_cast<int16_t>(out.sum[i / 16] + out.q[i]);
  }
}

float dot_float(DType dtype, const std::byte* w, const float* x, int64_t k) {
  float lanes[16] = {};
  for (int64_t i = 0; i < k; ++i) {
    lanes[i % 16] = std::fma(float_weight(dtype, w, i), x[i], lanes[i % 16]);
  }
  return reduce16(lanes);
}

float dot_32(DType dtype, const std::byte* w, const BlockA32* x, int64_t k) {
  const UnpackBlock32 unpack = unpack_block32(dtype);
  const int block_bytes = traits(dtype).block_bytes;
  float acc = 0.0F;
  for (int64_t block = 0; block < k / 32; ++block, w += block_bytes, ++x) {
    Block32 b;
    unpack(w, b);
    int32_t product = 0;
    for (int i = 0; i < 32; ++i) product += b.q[i] * (128 * x->hi[i] + x->lo[i]);
    acc = std::fma(b.d * x->d, static_cast<float>(product), acc);
    if (has_minima(dtype)) acc = std::fma(b.m * x->d, static_cast<float>(x->sum), acc);
  }
  return acc;
}

float dot_256(DType dtype, const std::byte* w, const BlockA256* x, int64_t k) {
  const UnpackSuperBlock unpack = unpack_super_block(dtype);
  const int block_bytes = traits(dtype).block_bytes;
  float acc = 0.0F;
  for (int64_t block = 0; block < k / 256; ++block, w += block_bytes, ++x) {
    SuperBlock b;
    unpack(w, b);
    int32_t product = 0;
    int32_t minima = 0;
    for (int i = 0; i < 256; ++i) product += b.scale[i / 16] * b.q[i] * x->q[i];
    for (int g = 0; g < 16; ++g) minima += b.min[g] * x->sum[g];
    acc = std::fma(b.d * x->d, static_cast<float>(product), acc);
    if (has_minima(dtype)) acc = std::fma(-(b.dmin * x->d), static_cast<float>(minima), acc);
  }
  return acc;
}

}  // namespace

int64_t activation_bytes(ActivationFormat format, int64_t k) {
  switch (format) {
    case ActivationFormat::kF32:
      return k * int64_t{sizeof(float)};
    case ActivationFormat::kA32:
      return k / 32 * int64_t{sizeof(BlockA32)};
    case ActivationFormat::kA256:
      return k / 256 * int64_t{sizeof(BlockA256)};
  }
  return 0;
}

void dequantize(DType dtype, const void* row, float* out, int64_t n) {
  const auto* bytes = static_cast<const std::byte*>(row);
  const TypeTraits& t = traits(dtype);
  TANDEM_CHECK(t.supported && n % t.block_elements == 0, "{} elements of {}", n, t.name);
  if (const UnpackBlock32 unpack = unpack_block32(dtype)) {
    for (int64_t i = 0; i < n; i += 32, bytes += t.block_bytes) {
      Block32 b;
      unpack(bytes, b);
      // Adding a minimum of 0 would turn -0 into +0.
      for (int j = 0; j < 32; ++j)
        out[i + j] = has_minima(dtype) ? b.d * b.q[j] + b.m : b.d * b.q[j];
    }
  } else if (const UnpackSuperBlock unpack_super = unpack_super_block(dtype)) {
    for (int64_t i = 0; i < n; i += 256, bytes += t.block_bytes) {
      SuperBlock b;
      unpack_super(bytes, b);
      for (int j = 0; j < 256; ++j) {
        out[i + j] = (b.d * b.scale[j / 16]) * b.q[j] - b.dmin * b.min[j / 16];
      }
    }
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = float_weight(dtype, bytes, i);
  }
}

void quantize_activations(ActivationFormat format, const float* x, void* out, int64_t k) {
  if (format == ActivationFormat::kF32) {
    std::copy_n(x, k, static_cast<float*>(out));
  } else if (format == ActivationFormat::kA32) {
    for (int64_t i = 0; i < k / 32; ++i) {
      quantize_a32(x + 32 * i, static_cast<BlockA32*>(out)[i]);
    }
  } else {
    for (int64_t i = 0; i < k / 256; ++i) {
      quantize_a256(x + 256 * i, static_cast<BlockA256*>(out)[i]);
    }
  }
}

float dot(DType dtype, const void* weight_row, const void* activation_row, int64_t k) {
  const auto* w = static_cast<const std::byte*>(weight_row);
  switch (traits(dtype).activation) {
    case ActivationFormat::kF32:
      return dot_float(dtype, w, static_cast<const float*>(activation_row), k);
    case ActivationFormat::kA32:
      return dot_32(dtype, w, static_cast<const BlockA32*>(activation_row), k);
    case ActivationFormat::kA256:
      return dot_256(dtype, w, static_cast<const BlockA256*>(activation_row), k);
  }
  return 0.0F;
}

float reduce16(const float* lanes) {
  float t[8];
  for (int i = 0; i < 8; ++i) t[i] = lanes[i] + lanes[i + 8];
  for (int i = 0; i < 4; ++i) t[i] = t[i] + t[i + 4];
  for (int i = 0; i < 2; ++i) t[i] = t[i] + t[i + 2];
  return t[0] + t[1];
}

}  // namespace tandem::quant
