// Products of panels with quantised activations (quant/panels.h). The lanes of a vector are 16
// output rows; four neighbouring elements of a row are the bytes of its lane, and the same four
// activations are broadcast to all lanes:
//
//              row 0          row 1                row 15
//   weights  | k k+1 k+2 k+3 | k k+1 k+2 k+3 | ... | k k+1 k+2 k+3 |   64 bytes, one load for 4 k
//   a token  | a a+1 a+2 a+3 | a a+1 a+2 a+3 | ... | a a+1 a+2 a+3 |   4 bytes, broadcast
//
// so that a sum never crosses lanes, and one token and many walk K in the same order. A tile of
// kTokens tokens shares the decoding of a panel's words; further tiles find the panel in the cache.
//
// The instruction set is a class Isa with the types Words (16 x 32 bits), Ints (16 x int32), Floats
// (16 x float) and Scale, and the operations used below. Its multiply_group adds to kTokens sums
//   scale * (codes of kColumns words . activations),
// knowing the highest code, which tells it how far 16-bit sums can go.
#pragma once

#include <utility>

#include "kernels/cpu/kernels.h"
#include "kernels/cpu/x86/panel_types32.inl.h"
#include "quant/activation.h"

namespace tandem::cpu::x86 {

// body.operator()<0>() ... body.operator()<kCount - 1>(), unrolled.
template <int kCount, typename Body>
[[gnu::always_inline]] static inline void static_for(const Body& body) {
  [&]<int... i>(std::integer_sequence<int, i...>) { (body.template operator()<i>(), ...); }
  (std::make_integer_sequence<int, kCount>());
}

// d of block b, and the minimum's factor where the type keeps one beside it.
template <typename Isa>
struct PanelFactors {
  typename Isa::Floats d, minimum;
};
template <typename Isa, typename Type>
[[gnu::always_inline]] static inline PanelFactors<Isa> panel_factors(const std::byte* words,
                                                                     const std::byte* rest,
                                                                     int num_words) {
  if constexpr (Type::kType == DType::kMXFP4) {
    return {Isa::load_mxfp4_scales(rest), Isa::zero_floats()};
  } else if constexpr (Type::kD == DPlace::kRest) {
    return {Isa::load_halves(rest), Isa::zero_floats()};
  } else {
    const auto pair =
        Isa::load(words + (Type::kD == DPlace::kFirstWord ? 0 : (num_words - 1) * 64));
    if constexpr (Type::kMinima) return {Isa::low_halves(pair), Isa::high_halves(pair)};
    return {Isa::low_halves(pair), Isa::zero_floats()};
  }
}

// The 256-wide types.
template <typename Isa, template <typename> typename TypeOf>
struct Panel256 {
  using Type = TypeOf<Isa>;
  using Row = quant::A256Row<const std::byte>;
  using Floats = typename Isa::Floats;
  using Ints = typename Isa::Ints;
  using Words = typename Isa::Words;
  static constexpr DType kType = Type::kType;
  static constexpr int kGroups = 256 / Type::kGroup, kColumns = Type::kGroup / 4;
  // Signed codes may become unsigned ones that are higher by this.
  static constexpr int kOffset = Type::kSigned ? Isa::kSignedOffset : Type::kOffset;

  static Row row(const std::byte* x, int k) { return quant::a256_row(x, k); }

  // sums[t] += the products of four bytes a lane (groups 4i .. 4i + 3) with the sums of the groups'
  // activations.
  template <int kTokens, bool kSignedBytes, int i>
  [[gnu::always_inline]] static inline void multiply_sums(Words bytes, const Row* x, int block,
                                                          Ints* sums) {
    const Words even = Isa::template even_bytes<kSignedBytes>(bytes);  // groups 4i, 4i + 2
    const Words odd = Isa::template odd_bytes<kSignedBytes>(bytes);    // groups 4i + 1, 4i + 3
    const int first = block * quant::kA256Sums + (Type::kGroup == 16 ? 0 : 16) + 4 * i;
    for (int t = 0; t < kTokens; ++t) {
      sums[t] = Isa::multiply_add16(sums[t], even, Isa::broadcast32(x[t].sums + first));
      sums[t] = Isa::multiply_add16(sums[t], odd, Isa::broadcast32(x[t].sums + first + 2));
    }
  }

  template <int kTokens>
  [[gnu::always_inline]] static inline void multiply_block(const std::byte* words,
                                                           const std::byte* rest, const Row* x,
                                                           int block, Floats* acc) {
    Ints products[kTokens];
    for (int t = 0; t < kTokens; ++t) products[t] = Isa::zero_ints();
    if constexpr (kOffset != 0) {
      static_for<kGroups / 4>([&]<int i>() {
        multiply_sums<kTokens, Type::kSignedScales, i>(Type::template scale_bytes<i>(words), x,
                                                       block, products);
      });
      for (int t = 0; t < kTokens; ++t) {
        products[t] = Isa::negative_times(products[t], kOffset);
      }
    }
    const int8_t* a[kTokens];
    for (int t = 0; t < kTokens; ++t) a[t] = x[t].q + 256 * block;
    static_for<kGroups>([&]<int n>() {
      constexpr int kGroup = Type::template kVisit<n>;
      const Words scale_bytes = Type::template scale_bytes<kGroup / 4>(words);
      const auto scale = Isa::template scale<kGroup % 4, Type::kSignedScales>(scale_bytes);
      Isa::template multiply_group<kTokens, kColumns, Type::kHighestCode, Type::kSigned>(
          [&](int c) { return Type::template codes<kGroup>(words, c); }, a, kGroup * Type::kGroup,
          scale, products);
    });
    const auto factors = panel_factors<Isa, Type>(words, rest, kWords);
    for (int t = 0; t < kTokens; ++t) {
      acc[t] = Isa::fma(Isa::multiply(factors.d, Isa::broadcast_float(x[t].d + block)),
                        Isa::to_floats(products[t]), acc[t]);
    }
    if constexpr (Type::kMinima) {
      for (int t = 0; t < kTokens; ++t) products[t] = Isa::zero_ints();
      static_for<kGroups / 4>([&]<int i>() {
        multiply_sums<kTokens, false, i>(Type::template min_bytes<i>(words), x, block, products);
      });
      for (int t = 0; t < kTokens; ++t) {
        acc[t] = Isa::fnma(Isa::multiply(factors.minimum, Isa::broadcast_float(x[t].d + block)),
                           Isa::to_floats(products[t]), acc[t]);
      }
    }
  }

  static constexpr int kElements = 256;
  static constexpr int kWords = sizeof(typename quant::BlockOf<kType>::Type) / 4;
  static constexpr int kRest = sizeof(typename quant::BlockOf<kType>::Type) % 4;
};

// The 32-wide types: activations are 128 hi + lo.
template <typename Isa, template <typename> typename TypeOf>
struct Panel32 {
  using Type = TypeOf<Isa>;
  using Row = quant::A32Row<const std::byte>;
  using Floats = typename Isa::Floats;
  using Ints = typename Isa::Ints;
  static constexpr DType kType = Type::kType;
  static constexpr int kOffset = Type::kSigned ? Isa::kSignedOffset : Type::kOffset;

  static Row row(const std::byte* x, int k) { return quant::a32_row(x, k); }

  template <int kTokens>
  [[gnu::always_inline]] static inline void multiply_block(const std::byte* words,
                                                           const std::byte* rest, const Row* x,
                                                           int block, Floats* acc) {
    Ints products[kTokens];
    const int8_t *hi[kTokens], *lo[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      products[t] = kOffset == 0 ? Isa::zero_ints() : Isa::set_int(-kOffset * x[t].sum[block]);
      hi[t] = x[t].hi + 32 * block;
      lo[t] = x[t].lo + 32 * block;
    }
    Isa::template multiply_halves<kTokens, Type::kHighestCode, Type::kSigned>(
        [&](int c) { return Type::codes(words, c); }, hi, lo, products);
    const auto factors = panel_factors<Isa, Type>(words, rest, kWords);
    for (int t = 0; t < kTokens; ++t) {
      const Floats d = Isa::broadcast_float(x[t].d + block);
      acc[t] = Isa::fma(Isa::multiply(factors.d, d), Isa::to_floats(products[t]), acc[t]);
      if constexpr (Type::kMinima) {
        acc[t] = Isa::fma(Isa::multiply(factors.minimum, d),
                          Isa::to_floats(Isa::broadcast32(x[t].sum + block)), acc[t]);
      }
    }
  }

  static constexpr int kElements = 32;
  static constexpr int kWords = sizeof(typename quant::BlockOf<kType>::Type) / 4;
  static constexpr int kRest = sizeof(typename quant::BlockOf<kType>::Type) % 4;
};

// Tiles of so many tokens ask at least so far ahead: their products between two lines are too many
// for the loads to run ahead (one core of a Zen 4 EPYC reads Q4_K at 19 GB/s so, at 10 without).
constexpr int kManyTokens = 4;
constexpr int64_t kManyTokensPrefetch = 4096;

// Asks for the lines that stand `ahead` bytes behind a block and its rest, into the second-level
// cache. Nothing beyond `end`, which other threads read.
template <typename Panel>
[[gnu::always_inline]] static inline void prefetch_ahead(const std::byte* words, int64_t ahead,
                                                         const std::byte* end) {
  if (ahead == 0 || words + ahead >= end) return;
  constexpr int kLines = Panel::kWords + (Panel::kRest > 0 ? 1 : 0);
  for (int line = 0; line < kLines; ++line) {
    _mm_prefetch(reinterpret_cast<const char*>(words + ahead + line * 64), _MM_HINT_T1);
  }
}

// y[t, 0 .. rows) of a tile of tokens from one panel. Prefetches up to `prefetch_end`.
template <typename Isa, typename Panel, int kTokens>
static inline void multiply_panel(const LinearParams& p, const std::byte* panel, int rows,
                                  int first_token, const std::byte* prefetch_end, float* y) {
  typename Panel::Row x[kTokens];
  typename Isa::Floats acc[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    const int64_t row = p.x_rows != nullptr ? p.x_rows[first_token + t] : first_token + t;
    x[t] = Panel::row(p.x + row * p.x_stride, p.k);
    acc[t] = Isa::zero_floats();
  }
  const int64_t ahead = kTokens < kManyTokens || p.prefetch_bytes > kManyTokensPrefetch
                            ? p.prefetch_bytes
                            : kManyTokensPrefetch;
  const int blocks = p.k / Panel::kElements;
  for (int block = 0; block < blocks; ++block) {
    const std::byte* words = panel + quant::panel_words_at(Panel::kWords, Panel::kRest, block);
    const std::byte* rest =
        panel + quant::panel_rest_at(Panel::kWords, Panel::kRest, block, blocks);
    prefetch_ahead<Panel>(words, ahead, prefetch_end);
    Panel::template multiply_block<kTokens>(words, rest, x, block, acc);
  }
  for (int t = 0; t < kTokens; ++t) Isa::store_first(y + t * p.y_stride, acc[t], rows);
}

template <typename Isa, typename Panel>
static void linear_panels(const LinearParams& p) {
  const int panels = (p.n + quant::kPanelRows - 1) / quant::kPanelRows;
  int first = 0;
  const auto tiles_of = [&]<int kTokens>() {
    if constexpr (kTokens <= Isa::kMostTokens) {
      for (; p.t - first >= kTokens; first += kTokens) {
        // Later tiles find the panels in the cache.
        const std::byte* prefetch_end = first == 0 ? p.w + panels * p.w_stride : nullptr;
        for (int i = 0; i < panels; ++i) {
          const int n = i * quant::kPanelRows;
          const int rows = p.n - n < quant::kPanelRows ? p.n - n : quant::kPanelRows;
          multiply_panel<Isa, Panel, kTokens>(p, p.w + i * p.w_stride, rows, first, prefetch_end,
                                              p.y + first * p.y_stride + n);
        }
      }
    }
  };
  tiles_of.template operator()<8>();
  tiles_of.template operator()<4>();
  tiles_of.template operator()<2>();
  tiles_of.template operator()<1>();
}

// The kernel of a type with panels, null for others.
template <typename Isa>
static LinearFn panel256_kernel(DType dtype) {
  switch (dtype) {
    case DType::kQ2_K:
      return linear_panels<Isa, Panel256<Isa, PanelQ2K>>;
    case DType::kQ3_K:
      return linear_panels<Isa, Panel256<Isa, PanelQ3K>>;
    case DType::kQ4_K:
      return linear_panels<Isa, Panel256<Isa, PanelQ4K>>;
    case DType::kQ5_K:
      return linear_panels<Isa, Panel256<Isa, PanelQ5K>>;
    case DType::kQ6_K:
      return linear_panels<Isa, Panel256<Isa, PanelQ6K>>;
    case DType::kIQ4_XS:
      return linear_panels<Isa, Panel256<Isa, PanelIQ4XS>>;
    default:
      return nullptr;
  }
}

template <typename Isa>
static LinearFn panel32_kernel(DType dtype) {
  switch (dtype) {
    case DType::kQ4_0:
      return linear_panels<Isa, Panel32<Isa, PanelQ4_0>>;
    case DType::kQ4_1:
      return linear_panels<Isa, Panel32<Isa, PanelQ4_1>>;
    case DType::kQ5_0:
      return linear_panels<Isa, Panel32<Isa, PanelQ5_0>>;
    case DType::kQ5_1:
      return linear_panels<Isa, Panel32<Isa, PanelQ5_1>>;
    case DType::kQ8_0:
      return linear_panels<Isa, Panel32<Isa, PanelQ8_0>>;
    case DType::kIQ4_NL:
      return linear_panels<Isa, Panel32<Isa, PanelIQ4NL>>;
    case DType::kMXFP4:
      return linear_panels<Isa, Panel32<Isa, PanelMXFP4>>;
    default:
      return nullptr;
  }
}

}  // namespace tandem::cpu::x86
