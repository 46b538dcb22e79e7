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

void quantize_a32(const float* x, const A32Row<std::byte>& out, int64_t block) {
  const float m = max_magnitude(x, 32);
  const float inverse = inverse_scale(m, 16256.0F);
  out.d[block] = m / 16256.0F;
  int32_t sum = 0;
  for (int i = 0; i < 32; ++i) {
    const int q = quantize(x[i], inverse, 16256);
    const int hi = (q + 64) >> 7;
    out.hi[32 * block + i] = static_cast<int8_t>(hi);
    out.lo[32 * block + i] = static_cast<int8_t>(q - 128 * hi);
    sum += q;
  }
  out.sum[block] = sum;
}

void quantize_a256(const float* x, const A256Row<std::byte>& out, int64_t block) {
  const float m = max_magnitude(x, 256);
  const float inverse = inverse_scale(m, 127.0F);
  out.d[block] = m / 127.0F;
  int16_t* sums = out.sums + block * kA256Sums;
  std::fill_n(sums, kA256Sums, int16_t{0});
  for (int i = 0; i < 256; ++i) {
    const auto q = static_cast<int8_t>(quantize(x[i], inverse, 127));
    out.q[256 * block + i] = q;
    int16_t& of_16 = sums[sum_position(i / 16)];
    int16_t& of_32 = sums[16 + sum_position(i / 32)];
    of_16 = static_cast<int16_t>(of_16 + q);
    of_32 = static_cast<int16_t>(of_32 + q);
  }
}

float dot_float(DType dtype, const std::byte* w, const float* x, int64_t k) {
  float lanes[16] = {};
  for (int64_t i = 0; i < k; ++i) {
    lanes[i % 16] = std::fma(float_weight(dtype, w, i), x[i], lanes[i % 16]);
  }
  return reduce16(lanes);
}

float dot_32(DType dtype, const std::byte* w, const A32Row<const std::byte>& x, int64_t k) {
  const UnpackBlock32 unpack = unpack_block32(dtype);
  const int block_bytes = traits(dtype).block_bytes;
  float acc = 0.0F;
  for (int64_t block = 0; block < k / 32; ++block, w += block_bytes) {
    Block32 b;
    unpack(w, b);
    const int8_t* hi = x.hi + 32 * block;
    const int8_t* lo = x.lo + 32 * block;
    int32_t product = 0;
    for (int i = 0; i < 32; ++i) product += b.q[i] * (128 * hi[i] + lo[i]);
    acc = std::fma(b.d * x.d[block], static_cast<float>(product), acc);
    if (has_minima(dtype)) {
      acc = std::fma(b.m * x.d[block], static_cast<float>(x.sum[block]), acc);
    }
  }
  return acc;
}

float dot_256(DType dtype, const std::byte* w, const A256Row<const std::byte>& x, int64_t k) {
  const UnpackSuperBlock unpack = unpack_super_block(dtype);
  const int block_bytes = traits(dtype).block_bytes;
  float acc = 0.0F;
  for (int64_t block = 0; block < k / 256; ++block, w += block_bytes) {
    SuperBlock b;
    unpack(w, b);
    const int8_t* q = x.q + 256 * block;
    const int16_t* sums = x.sums + kA256Sums * block;
    int32_t product = 0;
    int32_t minima = 0;
    for (int i = 0; i < 256; ++i) product += b.scale[i / 16] * b.q[i] * q[i];
    for (int g = 0; g < 16; ++g) minima += b.min[g] * sums[sum_position(g)];
    acc = std::fma(b.d * x.d[block], static_cast<float>(product), acc);
    if (has_minima(dtype)) {
      acc = std::fma(-(b.dmin * x.d[block]), static_cast<float>(minima), acc);
    }
  }
  return acc;
}

}  // namespace

int64_t activation_bytes(ActivationFormat format, int64_t k) {
  switch (format) {
    case ActivationFormat::kF32:
      return k * int64_t{sizeof(float)};
    case ActivationFormat::kA32:
      return 2 * padded_section(k) + 2 * padded_section(k / 32 * 4);
    case ActivationFormat::kA256:
      return padded_section(k) + padded_section(k / 256 * kA256Sums * 2) +
             padded_section(k / 256 * 4);
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
  auto* bytes = static_cast<std::byte*>(out);
  if (format == ActivationFormat::kF32) {
    std::copy_n(x, k, static_cast<float*>(out));
  } else if (format == ActivationFormat::kA32) {
    const A32Row row = a32_row(bytes, k);
    for (int64_t i = 0; i < k / 32; ++i) quantize_a32(x + 32 * i, row, i);
  } else {
    const A256Row row = a256_row(bytes, k);
    for (int64_t i = 0; i < k / 256; ++i) quantize_a256(x + 256 * i, row, i);
  }
}

float dot(DType dtype, const void* weight_row, const void* activation_row, int64_t k) {
  const auto* w = static_cast<const std::byte*>(weight_row);
  const auto* x = static_cast<const std::byte*>(activation_row);
  switch (traits(dtype).activation) {
    case ActivationFormat::kF32:
      return dot_float(dtype, w, static_cast<const float*>(activation_row), k);
    case ActivationFormat::kA32:
      return dot_32(dtype, w, a32_row(x, k), k);
    case ActivationFormat::kA256:
      return dot_256(dtype, w, a256_row(x, k), k);
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
