// Attention of every instruction set equals its definition in kernels.h, written here with scalars
// only, bit for bit; and that one is right to a tolerance.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/cpu/kernels.h"
#include "tests/kernels/cpu/attention_scalar.h"

namespace tandem::cpu {
namespace {

using testing::define_in_spans;
using testing::random_floats;
using testing::scalar_exp;
using testing::tree_of;
using Result = testing::SpanResult;

struct Case {
  int heads, key_dim, value_dim, page_size;
  bool shared;
  DType dtype;
};

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  const char* dtype = c.dtype == DType::kF32 ? "F32" : c.dtype == DType::kF16 ? "F16" : "BF16";
  return std::to_string(c.heads) + "x" + std::to_string(c.key_dim) + "x" +
         std::to_string(c.value_dim) + (c.shared ? "shared" : "") + dtype + "page" +
         std::to_string(c.page_size);
}

// ---- The definition ----

// keys [n, key_dim], values [n, value_dim]: the first tile's first key is key 0 of a span.
Result define_span(const float* q, const float* keys, const float* values, int n, const Case& c,
                   float scale) {
  Result r = {.output = std::vector<float>(static_cast<size_t>(c.value_dim))};
  for (int first = 0; first < n; first += 32) {
    const int count = std::min(32, n - first);
    float weight[32] = {};
    float maximum = r.maximum;
    for (int i = 0; i < count; ++i) {
      float dot = 0.0F;
      for (int d = 0; d < c.key_dim; ++d) {
        dot = std::fma(q[d], keys[(first + i) * c.key_dim + d], dot);
      }
      weight[i] = dot * scale;
      maximum = std::max(maximum, weight[i]);
    }
    const float correction = scalar_exp(r.maximum - maximum);
    r.maximum = maximum;
    for (int i = 0; i < count; ++i) weight[i] = scalar_exp(weight[i] - maximum);
    r.sum = std::fma(r.sum, correction, tree_of(weight, 32));
    for (int column = 0; column < c.value_dim; ++column) {
      float& out = r.output[static_cast<size_t>(column)];
      out *= correction;
      for (int i = 0; i < count; ++i) {
        out = std::fma(weight[i], values[(first + i) * c.value_dim + column], out);
      }
    }
  }
  return r;
}

std::vector<float> define_attention(const float* q, const float* keys, const float* values, int n,
                                    const Case& c, float scale) {
  return define_in_spans(n, [&](int first, int count) {
    return define_span(q, keys + first * c.key_dim, values + first * c.value_dim, count, c, scale);
  });
}

// ---- A cache and queries for it ----

float decode(const std::byte* p, DType type) {
  if (type == DType::kF32) {
    float f;
    std::memcpy(&f, p, 4);
    return f;
  }
  if (type == DType::kF16) {
    _Float16 h;
    std::memcpy(&h, p, 2);
    return static_cast<float>(h);
  }
  uint16_t high;
  std::memcpy(&high, p, 2);
  const uint32_t bits = static_cast<uint32_t>(high) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

// Two key/value heads, of which the second is read, on scattered pages full of NaN.
class Cache {
 public:
  Cache(const Case& c, int num_keys) : case_(c) {
    const Table& table = tables()[0];
    const int64_t width = c.dtype == DType::kF32 ? 4 : 2;
    const int64_t k_tile = 32 * c.key_dim * width, v_tile = c.shared ? 0 : 32 * c.value_dim * width;
    const int64_t tiles = c.page_size / 32;
    const int num_pages = (num_keys + c.page_size - 1) / c.page_size;
    params_.page_stride = tiles * 2 * (k_tile + v_tile);
    params_.k_tile_stride = 2 * k_tile;
    params_.v_tile_stride = 2 * v_tile;
    memory_.assign(static_cast<size_t>(params_.page_stride * (num_pages + 1)), std::byte{0xff});
    params_.k = memory_.data() + k_tile;
    params_.v = c.shared ? params_.k : memory_.data() + tiles * 2 * k_tile + v_tile;
    for (int i = 0; i < num_pages; ++i) pages_.push_back(num_pages - i);
    for (int key = 0; key < num_keys; ++key) {
      const int64_t page = pages_[static_cast<size_t>(key / c.page_size)] * params_.page_stride;
      const int64_t tile = key % c.page_size / 32, in_tile = key % 32;
      std::byte* k =
          memory_.data() + (params_.k - memory_.data()) + page + tile * params_.k_tile_stride;
      std::byte* v =
          memory_.data() + (params_.v - memory_.data()) + page + tile * params_.v_tile_stride;
      const auto x = random_floats(static_cast<size_t>(c.key_dim), 1.0F, 100U + key);
      std::vector<std::byte> row(static_cast<size_t>(c.key_dim * width));
      table.store_kv(x.data(), row.data(), c.key_dim, c.dtype);
      for (int i = 0; i < c.key_dim; ++i) keys_.push_back(decode(&row[i * width], c.dtype));
      if (c.shared) {
        table.store_kv(x.data(), k + in_tile * c.key_dim * width, c.key_dim, c.dtype);
        values_.insert(values_.end(), keys_.end() - c.key_dim,
                       keys_.end() - c.key_dim + c.value_dim);
        continue;
      }
      table.store_kv_column(x.data(), k + in_tile * width, c.key_dim, c.dtype);
      const auto y = random_floats(static_cast<size_t>(c.value_dim), 1.0F, 9000U + key);
      v += in_tile * c.value_dim * width;
      table.store_kv(y.data(), v, c.value_dim, c.dtype);
      for (int i = 0; i < c.value_dim; ++i) values_.push_back(decode(v + i * width, c.dtype));
    }
    params_.pages = pages_.data();
    params_.page_size = c.page_size;
    params_.heads = c.heads;
    params_.key_dim = c.key_dim;
    params_.value_dim = c.value_dim;
    params_.scale = 1.0F / std::sqrt(static_cast<float>(c.key_dim));
    params_.kv_dtype = c.dtype;
  }
  Cache(const Cache&) = delete;

  // q: [tokens, heads + 1, key_dim], the last head unused -> [tokens, heads, value_dim]
  std::vector<float> run(const Table& table, const std::vector<float>& q, int first_keys,
                         int tokens) const {
    constexpr float kUntouched = 7.0F;
    AttentionParams p = with(q, first_keys, tokens);
    const size_t row = static_cast<size_t>(case_.heads * case_.value_dim);
    std::vector<float> out(static_cast<size_t>(tokens) * (row + 3), kUntouched);
    std::vector<float> scratch = make_scratch();
    p.out = out.data();
    p.out_token_stride = static_cast<int64_t>(row) + 3;
    p.scratch = scratch.data();
    table.attention(p);
    std::vector<float> result;
    for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) {
      const auto begin = out.begin() + static_cast<int64_t>(t * (row + 3));
      result.insert(result.end(), begin, begin + static_cast<int64_t>(row));
      for (size_t i = 0; i < 3; ++i) EXPECT_EQ(begin[static_cast<int64_t>(row + i)], kUntouched);
    }
    return result;
  }

  // The same span by span.
  std::vector<float> run_spans(const Table& table, const std::vector<float>& q, int first_keys,
                               int tokens) const {
    const int queries = tokens * case_.heads;
    const int span = attention_span(first_keys + tokens - 1);
    const int spans = (first_keys + tokens - 2) / span + 1;
    const int64_t row = attention_partial_floats(case_.value_dim);
    std::vector<float> partial(static_cast<size_t>(row * queries * spans));
    std::vector<float> scratch = make_scratch();
    for (int s = spans - 1; s >= 0; --s) {
      AttentionParams p = with(q, first_keys, tokens);
      p.partial = partial.data() + s * queries * row;
      p.span = s;
      p.scratch = scratch.data();
      table.attention(p);
    }
    std::vector<float> out(static_cast<size_t>(queries * case_.value_dim));
    for (int i = 0; i < queries; ++i) {
      table.merge_attention({.partial = partial.data() + i * row,
                             .span_stride = queries * row,
                             .spans = spans,
                             .value_dim = case_.value_dim,
                             .out = out.data() + i * case_.value_dim});
    }
    return out;
  }

  std::vector<float> define(const std::vector<float>& q, int first_keys, int tokens) const {
    std::vector<float> out;
    for (int t = 0; t < tokens; ++t) {
      for (int h = 0; h < case_.heads; ++h) {
        const float* query = q.data() + (t * (case_.heads + 1) + h) * case_.key_dim;
        const auto one = define_attention(query, keys_.data(), values_.data(), first_keys + t,
                                          case_, params_.scale);
        out.insert(out.end(), one.begin(), one.end());
      }
    }
    return out;
  }

  // One query in double precision, without tiles.
  std::vector<double> in_double(const float* q, int num_keys) const {
    std::vector<double> scores, out(static_cast<size_t>(case_.value_dim));
    for (int key = 0; key < num_keys; ++key) {
      double s = 0.0;
      for (int d = 0; d < case_.key_dim; ++d) {
        s += static_cast<double>(q[d]) * keys_[static_cast<size_t>(key * case_.key_dim + d)];
      }
      scores.push_back(s * params_.scale);
    }
    const double highest = *std::max_element(scores.begin(), scores.end());
    double total = 0.0;
    for (double& s : scores) total += s = std::exp(s - highest);
    for (int key = 0; key < num_keys; ++key) {
      for (int i = 0; i < case_.value_dim; ++i) {
        out[static_cast<size_t>(i)] += scores[static_cast<size_t>(key)] / total *
                                       values_[static_cast<size_t>(key * case_.value_dim + i)];
      }
    }
    return out;
  }

 private:
  AttentionParams with(const std::vector<float>& q, int first_keys, int tokens) const {
    AttentionParams p = params_;
    p.q = q.data();
    p.q_token_stride = (case_.heads + 1) * case_.key_dim;
    p.first_keys = first_keys;
    p.tokens = tokens;
    return p;
  }
  std::vector<float> make_scratch() const {
    const auto n = static_cast<size_t>(attention_scratch_floats(case_.key_dim, case_.value_dim));
    return std::vector<float>(n, std::nanf(""));
  }

  Case case_;
  std::vector<std::byte> memory_;
  std::vector<int32_t> pages_;
  std::vector<float> keys_, values_;  // as stored: [num_keys, dim]
  AttentionParams params_ = {};
};

void expect_same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
}

class Attention : public ::testing::TestWithParam<Case> {};

TEST_P(Attention, EqualsTheDefinitionBitForBit) {
  const Case& c = GetParam();
  constexpr int kKeys = 300;
  const Cache cache(c, kKeys);
  const int lanes = c.shared ? (c.heads + 15) / 16 * 16 : c.heads;
  // Blocks below and at the limit of queries, that begin anywhere but cross no multiple of 64.
  for (const auto& [first_keys, tokens] : std::vector<std::pair<int, int>>{{1, 1},
                                                                           {2, 1},
                                                                           {31, 1},
                                                                           {32, 1},
                                                                           {33, 1},
                                                                           {64, 1},
                                                                           {65, 1},
                                                                           {129, 1},
                                                                           {300, 1},
                                                                           {1, 2},
                                                                           {1, 3},
                                                                           {30, 5},
                                                                           {61, 4},
                                                                           {257, 8},
                                                                           {1, 16},
                                                                           {65, 64}}) {
    if (tokens * lanes > kAttentionQueries) continue;
    SCOPED_TRACE(std::to_string(tokens) + " tokens from " + std::to_string(first_keys));
    const auto q = random_floats(static_cast<size_t>(tokens * (c.heads + 1) * c.key_dim), 2.0F,
                                 static_cast<uint32_t>(8 + first_keys));
    const std::vector<float> truth = cache.define(q, first_keys, tokens);
    for (const Table& table : tables()) {
      if (!table.supported) continue;
      SCOPED_TRACE(std::string(table.name));
      expect_same_bits(cache.run(table, q, first_keys, tokens), truth);
      expect_same_bits(cache.run_spans(table, q, first_keys, tokens), truth);
    }
  }
}

TEST_P(Attention, IsSoftmaxOfProducts) {
  const Case& c = GetParam();
  constexpr int kKeys = 300;
  const Cache cache(c, kKeys);
  const auto q = random_floats(static_cast<size_t>((c.heads + 1) * c.key_dim), 2.0F, 8);
  const std::vector<float> out = cache.run(tables()[0], q, kKeys, 1);
  for (int h = 0; h < c.heads; ++h) {
    const std::vector<double> expected = cache.in_double(q.data() + h * c.key_dim, kKeys);
    for (int i = 0; i < c.value_dim; ++i) {
      // Values are about 1; scores lose some 1e-6 relative, which exp turns into the same share of
      // a weight.
      EXPECT_NEAR(out[static_cast<size_t>(h * c.value_dim + i)], expected[static_cast<size_t>(i)],
                  2e-5);
    }
  }
}

constexpr DType kF32 = DType::kF32, kF16 = DType::kF16, kBF16 = DType::kBF16;
INSTANTIATE_TEST_SUITE_P(
    Shapes, Attention,
    ::testing::Values(Case{1, 16, 16, 32, false, kF32}, Case{1, 64, 64, 64, false, kF16},
                      Case{2, 64, 64, 256, false, kBF16}, Case{3, 64, 64, 64, false, kF16},
                      Case{5, 96, 96, 32, false, kF32}, Case{7, 128, 128, 64, false, kF16},
                      Case{8, 128, 128, 64, false, kBF16}, Case{12, 80, 48, 32, false, kF16},
                      Case{4, 192, 128, 64, false, kF16}, Case{64, 32, 32, 32, false, kF16},
                      Case{1, 576, 512, 256, true, kF32}, Case{16, 576, 512, 256, true, kF32},
                      Case{64, 96, 80, 64, true, kF32}, Case{5, 288, 256, 32, true, kF32},
                      Case{20, 48, 32, 64, true, kF32}),
    name_of);

// Splits that only long sequences have: spans of more than 64 keys, and at most 16 of them.
TEST(Attention, LongSequencesHaveAtMostSixteenSpans) {
  EXPECT_EQ(attention_span(1), 64);
  EXPECT_EQ(attention_span(1024), 64);
  EXPECT_EQ(attention_span(1025), 128);
  for (const Case& c : {Case{3, 16, 16, 64, false, kF16}, Case{3, 32, 16, 64, true, kF32}}) {
    const Cache cache(c, 2100);
    for (const int keys : {1024, 1025, 2048, 2049, 2100}) {
      const auto q = random_floats(static_cast<size_t>((c.heads + 1) * c.key_dim), 2.0F, 3);
      const std::vector<float> truth = cache.define(q, keys, 1);
      for (const Table& table : tables()) {
        if (!table.supported) continue;
        SCOPED_TRACE(std::string(table.name) + " " + std::to_string(keys));
        expect_same_bits(cache.run(table, q, keys, 1), truth);
        expect_same_bits(cache.run_spans(table, q, keys, 1), truth);
      }
    }
  }
}

}  // namespace
}  // namespace tandem::cpu
