// The letters that name dimensions everywhere in tandem, in trailing comments such as // [T, H, D]
// f32:
//   T tokens in the step     B sequences            H query heads      Hk key/value heads   D head
//   dim M hidden                 F expert hidden        E experts          K experts per token  V
//   vocabulary P pages                  S page size (tokens)   L layers
// In matrix products m, n, k: y[m, n] = sum over k of x[m, k] * w[n, k].
#pragma once

#include <array>
#include <cstdint>

namespace tandem {

// Outermost dimension first (the reverse of GGUF's ne order); unused dimensions are 1 and lead.
struct Shape {
  static constexpr int kMaxDims = 4;
  std::array<int64_t, kMaxDims> dim = {1, 1, 1, 1};

  int64_t elements() const { return dim[0] * dim[1] * dim[2] * dim[3]; }
  // Counted from the inside: inner(0) is the contiguous dimension.
  int64_t inner(int i) const { return dim[kMaxDims - 1 - i]; }
  bool operator==(const Shape&) const = default;
};

inline Shape shape(int64_t a) { return {{1, 1, 1, a}}; }
inline Shape shape(int64_t a, int64_t b) { return {{1, 1, a, b}}; }
inline Shape shape(int64_t a, int64_t b, int64_t c) { return {{1, a, b, c}}; }
inline Shape shape(int64_t a, int64_t b, int64_t c, int64_t d) { return {{a, b, c, d}}; }

}  // namespace tandem
