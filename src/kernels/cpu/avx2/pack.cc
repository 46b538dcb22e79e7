// Panels from 16 rows, by transposing 8 x 8 and 4 x 4 words. Reading the rows and writing the panel
// bounds it (40 ms of a core for a GB of rows that are in the second-level cache), so wider vectors
// would gain nothing, and the AVX-512 table uses it too.
//
//   8 rows of 8 words:  row 0 | 00 01 .. 07 |        word 0 | 00 10 .. 70 |   half of a 64-byte
//                             |    ...      |   ->          |    ...      |   line of the panel,
//                       row 7 | 70 71 .. 77 |        word 7 | 07 17 .. 77 |   rows 8-15 the other
#include <cstring>

#include <immintrin.h>

#include "kernels/cpu/avx2/linear.h"
#include "quant/blocks.h"
#include "quant/panels.h"

namespace tandem::cpu::avx2 {
namespace {

using quant::kPanelRows;

constexpr int kLine = kPanelRows * 4;  // bytes of one word of all rows in the panel

__m256i load(const std::byte* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }

// The first four words of rows r and r + 4.
__m256i load_two_rows(const std::byte* p, int64_t row_stride) {
  const auto* low = reinterpret_cast<const __m128i*>(p);
  const auto* high = reinterpret_cast<const __m128i*>(p + 4 * row_stride);
  return _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128(low)),
                                 _mm_loadu_si128(high), 1);
}

void store(std::byte* p, __m256i v) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), v); }

// In each 128-bit half: a 4 x 4 transposition of a[0 .. 3].
void transpose_4x4(const __m256i* a, __m256i* out) {
  const __m256i low01 = _mm256_unpacklo_epi32(a[0], a[1]);
  const __m256i high01 = _mm256_unpackhi_epi32(a[0], a[1]);
  const __m256i low23 = _mm256_unpacklo_epi32(a[2], a[3]);
  const __m256i high23 = _mm256_unpackhi_epi32(a[2], a[3]);
  out[0] = _mm256_unpacklo_epi64(low01, low23);
  out[1] = _mm256_unpackhi_epi64(low01, low23);
  out[2] = _mm256_unpacklo_epi64(high01, high23);
  out[3] = _mm256_unpackhi_epi64(high01, high23);
}

// Eight words of 16 rows -> eight lines.
void pack_8_words(const std::byte* rows, int64_t row_stride, std::byte* lines) {
  for (int half = 0; half < 2; ++half) {
    __m256i in[8], mixed[8];
    for (int r = 0; r < 8; ++r) in[r] = load(rows + (half * 8 + r) * row_stride);
    transpose_4x4(in, mixed);          // words 0-3 | 4-7 of rows 0-3
    transpose_4x4(in + 4, mixed + 4);  // of rows 4-7
    std::byte* out = lines + half * 32;
    for (int w = 0; w < 4; ++w) {
      store(out + w * kLine, _mm256_permute2x128_si256(mixed[w], mixed[w + 4], 0x20));
      store(out + (w + 4) * kLine, _mm256_permute2x128_si256(mixed[w], mixed[w + 4], 0x31));
    }
  }
}

// Four words of 16 rows -> four lines.
void pack_4_words(const std::byte* rows, int64_t row_stride, std::byte* lines) {
  for (int half = 0; half < 2; ++half) {
    __m256i in[4], out[4];
    for (int r = 0; r < 4; ++r)
      in[r] = load_two_rows(rows + (half * 8 + r) * row_stride, row_stride);
    transpose_4x4(in, out);
    for (int w = 0; w < 4; ++w) store(lines + half * 32 + w * kLine, out[w]);
  }
}

// All words of a block. What is left after groups of eight is a group that ends with the last word
// and writes some words a second time; blocks have four words at least.
template <int kWords>
void pack_words(const std::byte* rows, int64_t row_stride, std::byte* lines) {
  constexpr int kLeft = kWords % 8;
  for (int w = 0; w + 8 <= kWords; w += 8) {
    pack_8_words(rows + 4 * w, row_stride, lines + w * kLine);
  }
  if constexpr (kLeft > 4 && kWords > 8) {
    pack_8_words(rows + 4 * (kWords - 8), row_stride, lines + (kWords - 8) * kLine);
  } else if constexpr (kLeft > 0) {
    if constexpr (kLeft > 4) pack_4_words(rows, row_stride, lines);
    pack_4_words(rows + 4 * (kWords - 4), row_stride, lines + (kWords - 4) * kLine);
  }
}

// The same for a type whose words change places, four neighbours together.
template <DType kType>
void pack_moved_words(const std::byte* rows, int64_t row_stride, std::byte* lines) {
  constexpr int kWords = sizeof(typename quant::BlockOf<kType>::Type) / 4;
  static_assert(kWords % 4 == 0);
  for (int w = 0; w < kWords; w += 4) {
    pack_4_words(rows + 4 * w, row_stride, lines + quant::panel_word(kType, w) * kLine);
  }
}

template <DType kType>
void pack(const PackParams& p) {
  using Block = typename quant::BlockOf<kType>::Type;
  constexpr int kWords = sizeof(Block) / 4;
  constexpr int kRest = sizeof(Block) % 4;
  // A matrix's last panel may lack rows.
  if (p.count < kPanelRows) {
    quant::pack_panel(kType, p.rows, p.row_stride, p.count, p.k, p.panel);
    return;
  }
  const bool rest_first = quant::panel_geometry(kType).rest_first;
  const int64_t blocks = p.k / quant::traits(kType).block_elements;
  for (int64_t b = 0; b < blocks; ++b) {
    const std::byte* block = p.rows + b * static_cast<int64_t>(sizeof(Block));
    const std::byte* words = block + (rest_first ? kRest : 0);
    std::byte* lines = p.panel + quant::panel_words_at(kWords, kRest, b);
    if constexpr (kType == DType::kQ6_K) {
      pack_moved_words<kType>(words, p.row_stride, lines);
    } else {
      pack_words<kWords>(words, p.row_stride, lines);
    }
    if constexpr (kRest > 0) {
      std::byte* rest = p.panel + quant::panel_rest_at(kWords, kRest, b, blocks);
      const std::byte* from = block + (rest_first ? 0 : 4 * kWords);
      for (int r = 0; r < kPanelRows; ++r) {
        std::memcpy(rest + r * kRest, from + r * p.row_stride, kRest);
      }
      // The line's end: zeros, unless the group's next block puts its rest there.
      const auto used = (rest - p.panel + kPanelRows * kRest) % 64;
      if (used != 0) std::memset(rest + kPanelRows * kRest, 0, static_cast<size_t>(64 - used));
    }
  }
}

}  // namespace

PackFn pack_kernel(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return pack<DType::kQ4_0>;
    case DType::kQ4_1:
      return pack<DType::kQ4_1>;
    case DType::kQ5_0:
      return pack<DType::kQ5_0>;
    case DType::kQ5_1:
      return pack<DType::kQ5_1>;
    case DType::kQ8_0:
      return pack<DType::kQ8_0>;
    case DType::kIQ4_NL:
      return pack<DType::kIQ4_NL>;
    case DType::kMXFP4:
      return pack<DType::kMXFP4>;
    case DType::kQ2_K:
      return pack<DType::kQ2_K>;
    case DType::kQ3_K:
      return pack<DType::kQ3_K>;
    case DType::kQ4_K:
      return pack<DType::kQ4_K>;
    case DType::kQ5_K:
      return pack<DType::kQ5_K>;
    case DType::kQ6_K:
      return pack<DType::kQ6_K>;
    case DType::kIQ4_XS:
      return pack<DType::kIQ4_XS>;
    default:
      return nullptr;
  }
}

}  // namespace tandem::cpu::avx2
