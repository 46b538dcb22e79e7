// Panels: 16 rows of a quantised matrix interleaved, so that a vector's 16 lanes are 16 output rows
// and weights are read front to back. The bytes are the file's, only their order changes.
//
// Every block of a row is whole 32-bit words and, in some types, one or two bytes more (d, or the
// exponent of MXFP4), before or behind the words: its rest. A panel is groups of G blocks, as many
// as have rests for a 64-byte line (one block where there is no rest), one after the other:
//
//   words  [G, W, 16] u32      16 rows' word w of block b in a line
//   rest   [G, 16, R] bytes    the R bytes more of block b of row r, padded to a line
//
// so that all of it is read front to back, which the hardware's prefetching wants (a rest section
// at the end of the panel cost a third of the speed). The last group may have fewer blocks. Words
// stand in the file's order, but for Q6_K, whose kernels read four high words, then the eight low
// ones that they belong to (panel_word).
//
// A matrix of n rows is ceil(n / 16) panels one after the other; rows beyond the last are zero
// bytes, which stand for weights of zero or whatever zero bytes mean in the type: kernels compute
// them and nobody reads the result. In a stack of matrices each begins with a panel of its own.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace tandem::quant {

inline constexpr int kPanelRows = 16;

struct PanelGeometry {
  int words;        // W: 32-bit words of a block
  int rest;         // R: bytes of a block beside them: 0, 1 or 2
  bool rest_first;  // they precede the words in the file's block
};

// Whether the type is packed into panels: the 32-wide types, the K-quants and IQ4_XS. The others
// (floats, and codebook types, whose indices do not split into words) keep their rows.
bool has_panels(DType dtype);
PanelGeometry panel_geometry(DType dtype);

// Place in the panel's block of the file's word w. Q6_K: scales | four high words, the low words of
// their elements 0-31 and 32-63 | ... for the lower and upper 16 of 32 elements, in both halves.
constexpr int panel_word(DType dtype, int w) {
  if (dtype != DType::kQ6_K) return w;
  if (w >= 48) return w - 48;
  const bool high = w >= 32;
  const int half = high ? (w - 32) / 8 : w / 16;
  const int set = 2 * half + w % 8 / 4;  // twelve words each
  return 4 + 12 * set + (high ? 0 : 4 + w % 16 / 8 * 4) + w % 4;
}

// Offsets in a panel, from W and R of the type.
constexpr int64_t panel_group(int rest) { return rest == 0 ? 1 : 4 / rest; }
constexpr int64_t panel_words_at(int words, int rest, int64_t block) {
  const int64_t group = panel_group(rest);
  return block / group * (group * words * 64 + (rest == 0 ? 0 : 64)) + block % group * words * 64;
}
// blocks: of a row.
constexpr int64_t panel_rest_at(int words, int rest, int64_t block, int64_t blocks) {
  const int64_t group = panel_group(rest);
  const int64_t first = block / group * group;
  const int64_t count = blocks - first < group ? blocks - first : group;
  return panel_words_at(words, rest, first) + count * words * 64 +
         (block - first) * kPanelRows * rest;
}

// Bytes of one panel of rows of k elements.
int64_t panel_bytes(DType dtype, int64_t k);

}  // namespace tandem::quant
