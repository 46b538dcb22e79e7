// Latent attention on integers equals its definition in kernels/cpu/latent.h, written here with
// scalars only, bit for bit, on every instruction set and on emulated tile registers; and that one
// is as close to double precision as a cache of halves.
#include <cstring>
#include <string>
#include <utility>

#include <gtest/gtest.h>

#include "kernels/cpu/amx/emulated.h"
#include "kernels/cpu/kernels.h"
#include "kernels/cpu/latent.h"
#include "tests/kernels/cpu/attention_scalar.h"

namespace tandem::cpu {
namespace {

using testing::random_floats;
using testing::scalar_exp;
using testing::SpanResult;

struct Case {
  int heads, key_dim, value_dim, page_size;
};

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  return std::to_string(c.heads) + "x" + std::to_string(c.key_dim) + "x" +
         std::to_string(c.value_dim) + "page" + std::to_string(c.page_size);
}

// All supported tables, and the avx512 one with what the amx table has of its own, emulated.
const std::vector<Table>& all_tables() {
  static const std::vector<Table> list = [] {
    std::vector<Table> result;
    for (const Table& table : tables()) {
      if (!table.supported) continue;
      result.push_back(table);
      if (table.name != "avx512") continue;
      Table& emulated = result.emplace_back(table);
      emulated.name = "emulated amx";
      amx::fill_emulated_table(emulated);
    }
    return result;
  }();
  return list;
}

// ---- The definition ----

struct Groups {
  std::vector<std::pair<int, int>> ranges;  // of columns
  size_t of_values;
};

Groups groups_of(const Case& c) {
  Groups g = {};
  for (int i = 0; i < c.value_dim; i += 128) {
    g.ranges.emplace_back(i, std::min(i + 128, c.value_dim));
  }
  g.of_values = g.ranges.size();
  for (int i = c.value_dim; i < c.key_dim; i += 128) {
    g.ranges.emplace_back(i, std::min(i + 128, c.key_dim));
  }
  return g;
}

int quantize(float x, float inverse, int lowest) {
  const float scaled = x * inverse;
  return scaled >= static_cast<float>(lowest) ? static_cast<int>(std::rint(scaled)) : lowest;
}
float inverse_of(float maximum, float highest) {
  return maximum >= 0x1p-110F ? highest / maximum : 0.0F;
}

struct Row {
  std::vector<int> q;        // [key_dim]
  std::vector<float> scale;  // [groups]
};

Row quantize_row(const float* x, const Groups& groups) {
  Row row;
  for (const auto& [begin, end] : groups.ranges) {
    float maximum = 0.0F;
    for (int i = begin; i < end; ++i)
      maximum = std::fabs(x[i]) > maximum ? std::fabs(x[i]) : maximum;
    row.scale.push_back(maximum / 4095.0F);
    for (int i = begin; i < end; ++i) {
      row.q.push_back(quantize(x[i], inverse_of(maximum, 4095.0F), -4095));
    }
  }
  return row;
}

float score_of(const Row& q, const Row& key, const Groups& groups) {
  float score = 0.0F;
  for (size_t g = 0; g < groups.ranges.size(); ++g) {
    int dot = 0;
    for (int i = groups.ranges[g].first; i < groups.ranges[g].second; ++i) {
      dot += q.q[static_cast<size_t>(i)] * key.q[static_cast<size_t>(i)];
    }
    score = std::fma(static_cast<float>(dot), q.scale[g] * key.scale[g], score);
  }
  return score;
}

// keys: the first n of a span.
SpanResult define_span(const Row& q, const Row* keys, int n, const Groups& groups, const Case& c,
                       float scale) {
  SpanResult r = {.output = std::vector<float>(static_cast<size_t>(c.value_dim))};
  for (int first = 0; first < n; first += 64) {
    const int count = std::min(64, n - first);
    const Row* key = keys + first;
    float weight[64] = {};
    float maximum = r.maximum;
    for (int i = 0; i < count; ++i) {
      weight[i] = score_of(q, key[i], groups) * scale;
      maximum = std::max(maximum, weight[i]);
    }
    const float correction = scalar_exp(r.maximum - maximum);
    r.maximum = maximum;
    for (int i = 0; i < count; ++i) weight[i] = scalar_exp(weight[i] - maximum);
    r.sum = std::fma(r.sum, correction, testing::tree_of(weight, 64));
    for (size_t g = 0; g < groups.of_values; ++g) {
      float largest = 0.0F;
      for (int i = 0; i < count; ++i) largest = std::max(largest, weight[i] * key[i].scale[g]);
      int integer[64];
      for (int i = 0; i < count; ++i) {
        integer[i] = quantize(weight[i] * key[i].scale[g], inverse_of(largest, 8191.0F), 0);
      }
      for (int column = groups.ranges[g].first; column < groups.ranges[g].second; ++column) {
        int sum = 0;
        for (int i = 0; i < count; ++i) sum += integer[i] * key[i].q[static_cast<size_t>(column)];
        float& out = r.output[static_cast<size_t>(column)];
        out = std::fma(static_cast<float>(sum), largest / 8191.0F, out * correction);
      }
    }
  }
  return r;
}

// ---- A cache and queries for it ----

// Two key/value heads, of which the second is read, on scattered pages of what integers must not
// stumble over.
class Cache {
 public:
  // Keys of other magnitudes from one to the next, some of them nothing at all.
  Cache(const Case& c, int num_keys, std::byte unwritten)
      : case_(c), groups_(groups_of(c)), tile_bytes_(latent_tile_bytes(c.key_dim, c.value_dim)) {
    const int64_t page_bytes = c.page_size / 32 * 2 * tile_bytes_;
    const int num_pages = (num_keys + c.page_size - 1) / c.page_size;
    memory_.assign(static_cast<size_t>(page_bytes * (num_pages + 1)), unwritten);
    for (int i = 0; i < num_pages; ++i) pages_.push_back(num_pages - i);
    for (int key = 0; key < num_keys; ++key) {
      const float magnitude = key % 50 == 7 ? 0.0F : key % 10 == 3 ? 30.0F : 1.0F;
      const auto x = random_floats(static_cast<size_t>(c.key_dim), magnitude, 100U + key);
      floats_.insert(floats_.end(), x.begin(), x.end());
      rows_.push_back(quantize_row(x.data(), groups_));
    }
    params_.page_stride = page_bytes;
    params_.k_tile_stride = params_.v_tile_stride = 2 * tile_bytes_;
    params_.k = params_.v = memory_.data() + tile_bytes_;
    params_.pages = pages_.data();
    params_.page_size = c.page_size;
    params_.heads = c.heads;
    params_.key_dim = c.key_dim;
    params_.value_dim = c.value_dim;
    params_.scale = 0.25F / std::sqrt(static_cast<float>(c.key_dim));
    params_.kv_dtype = DType::kI16;
  }
  Cache(const Cache&) = delete;

  void store(const Table& table, int num_keys) {
    for (int key = 0; key < num_keys; ++key) {
      table.store_latent({.x = floats_.data() + key * case_.key_dim,
                          .tile = memory_.data() + tile_at(key),
                          .in_tile = key % 32,
                          .key_dim = case_.key_dim,
                          .value_dim = case_.value_dim});
    }
  }
  const std::vector<std::byte>& memory() const { return memory_; }
  const std::vector<float>& floats() const { return floats_; }  // [num_keys, key_dim]
  float scale() const { return params_.scale; }

  // q: [tokens, heads + 1, key_dim], the last head unused -> [tokens, heads, value_dim]
  std::vector<float> run(const Table& table, const std::vector<float>& q, int first_keys,
                         int tokens) const {
    AttentionParams p = with(q, first_keys, tokens);
    std::vector<float> out(static_cast<size_t>(tokens * case_.heads * case_.value_dim));
    std::vector<float> scratch = make_scratch();
    p.out = out.data();
    p.out_token_stride = case_.heads * case_.value_dim;
    p.scratch = aligned(scratch);
    table.attention(p);
    return out;
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
      p.scratch = aligned(scratch);
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
        const Row query =
            quantize_row(q.data() + (t * (case_.heads + 1) + h) * case_.key_dim, groups_);
        const auto one = testing::define_in_spans(first_keys + t, [&](int first, int count) {
          return define_span(query, rows_.data() + first, count, groups_, case_, params_.scale);
        });
        out.insert(out.end(), one.begin(), one.end());
      }
    }
    return out;
  }

 private:
  int64_t tile_at(int key) const {
    return pages_[static_cast<size_t>(key / case_.page_size)] * params_.page_stride +
           (2 * (key % case_.page_size / 32) + 1) * tile_bytes_;
  }
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
    return std::vector<float>(n + 16, std::nanf(""));
  }
  static float* aligned(std::vector<float>& floats) {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(floats.data()) + 63) / 64 * 64);
  }

  Case case_;
  Groups groups_;
  int64_t tile_bytes_;
  std::vector<std::byte> memory_;
  std::vector<int32_t> pages_;
  std::vector<float> floats_;
  std::vector<Row> rows_;
  AttentionParams params_ = {};
};

void expect_same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  ASSERT_EQ(a.size(), b.size());
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
}

class LatentAttention : public ::testing::TestWithParam<Case> {};

TEST_P(LatentAttention, EqualsTheDefinitionBitForBit) {
  const Case& c = GetParam();
  constexpr int kKeys = 300;
  // As floats, the first pattern is not a number.
  for (const std::byte unwritten : {std::byte{0xff}, std::byte{0x7f}}) {
    Cache cache(c, kKeys, unwritten);
    cache.store(tables()[0], kKeys);
    const int lanes = (c.heads + 15) / 16 * 16;
    for (const auto& [first_keys, tokens] : std::vector<std::pair<int, int>>{{1, 1},
                                                                             {33, 1},
                                                                             {64, 1},
                                                                             {65, 1},
                                                                             {300, 1},
                                                                             {1, 2},
                                                                             {1, 3},
                                                                             {30, 4},
                                                                             {61, 4},
                                                                             {257, 4},
                                                                             {127, 2}}) {
      if (tokens * lanes > kAttentionQueries) continue;
      if (unwritten == std::byte{0x7f} && first_keys < 61) continue;
      SCOPED_TRACE(std::to_string(tokens) + " tokens from " + std::to_string(first_keys));
      const auto q = random_floats(static_cast<size_t>(tokens * (c.heads + 1) * c.key_dim), 2.0F,
                                   static_cast<uint32_t>(8 + first_keys));
      const std::vector<float> truth = cache.define(q, first_keys, tokens);
      for (const Table& table : all_tables()) {
        SCOPED_TRACE(std::string(table.name));
        expect_same_bits(cache.run(table, q, first_keys, tokens), truth);
        expect_same_bits(cache.run_spans(table, q, first_keys, tokens), truth);
      }
    }
  }
}

TEST_P(LatentAttention, EveryTableStoresTheSameRows) {
  const Case& c = GetParam();
  Cache expected(c, 40, std::byte{0x55});
  expected.store(tables()[0], 40);
  for (const Table& table : all_tables()) {
    Cache actual(c, 40, std::byte{0x55});
    actual.store(table, 40);
    EXPECT_EQ(actual.memory(), expected.memory()) << table.name;
  }
}

INSTANTIATE_TEST_SUITE_P(Shapes, LatentAttention,
                         ::testing::Values(Case{1, 576, 512, 256}, Case{16, 576, 512, 64},
                                           Case{17, 288, 256, 32}, Case{4, 288, 256, 256},
                                           Case{64, 80, 48, 64}, Case{5, 16, 16, 32},
                                           Case{3, 336, 144, 64}, Case{9, 208, 160, 32},
                                           Case{16, 48, 32, 32}, Case{33, 144, 128, 64}),
                         name_of);

// Splits that only long sequences have: spans of more than one tile, and at most 16 of them.
TEST(LatentAttentionOfManyKeys, EqualsTheDefinition) {
  const Case c = {3, 48, 32, 64};
  Cache cache(c, 2100, std::byte{0xff});
  cache.store(tables()[0], 2100);
  for (const int keys : {1024, 1025, 2049, 2098}) {
    const int tokens = keys % 64 == 1 ? 1 : 3;  // in the same span
    const auto q = random_floats(static_cast<size_t>(tokens * (c.heads + 1) * c.key_dim), 2.0F, 3);
    const int first_keys = keys - tokens + 1;
    const std::vector<float> truth = cache.define(q, first_keys, tokens);
    for (const Table& table : all_tables()) {
      SCOPED_TRACE(std::string(table.name) + " " + std::to_string(keys));
      expect_same_bits(cache.run(table, q, first_keys, tokens), truth);
      expect_same_bits(cache.run_spans(table, q, first_keys, tokens), truth);
    }
  }
}

// Queries and keys that no model has, but a file or an overflow may lead to.
TEST(LatentAttentionOfAnything, IsTheSameOnEveryTable) {
  const Case c = {4, 144, 128, 64};
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> q = random_floats(static_cast<size_t>(4 * (c.heads + 1) * c.key_dim), 2.0F, 3);
  q[5] = infinity;
  q[200] = std::nanf("");
  q[400] = 1e-38F;
  q[700] = -3e38F;
  Cache cache(c, 100, std::byte{0xff});
  cache.store(tables()[0], 100);
  const std::vector<float> truth = cache.run(tables()[0], q, 97, 4);
  for (const Table& table : all_tables()) {
    const std::vector<float> actual = cache.run(table, q, 97, 4);
    for (size_t i = 0; i < truth.size(); ++i) {
      const bool both_nan = std::isnan(actual[i]) && std::isnan(truth[i]);
      ASSERT_TRUE(both_nan || actual[i] == truth[i]) << table.name << " " << i;
    }
  }
}

// Root mean square of the difference to attention in double precision, over that of the output.
double relative_error(const std::vector<float>& actual, const std::vector<double>& expected) {
  double error = 0.0, total = 0.0;
  for (size_t i = 0; i < expected.size(); ++i) {
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    total += expected[i] * expected[i];
  }
  return std::sqrt(error / total);
}

// One query, all keys; `round` is what the cache makes of an element.
template <typename T, typename Round>
std::vector<T> softmax_of_products(const float* q, const std::vector<float>& keys, const Case& c,
                                   float scale, const Round& round) {
  const size_t n = keys.size() / static_cast<size_t>(c.key_dim);
  std::vector<double> weights;
  for (size_t key = 0; key < n; ++key) {
    double s = 0.0;
    for (int d = 0; d < c.key_dim; ++d) {
      s += static_cast<double>(q[d]) * round(keys[key * static_cast<size_t>(c.key_dim) + d]);
    }
    weights.push_back(s * scale);
  }
  const double highest = *std::max_element(weights.begin(), weights.end());
  double total = 0.0;
  for (double& w : weights) total += w = std::exp(w - highest);
  std::vector<double> out(static_cast<size_t>(c.value_dim));
  for (size_t key = 0; key < n; ++key) {
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] += weights[key] / total * round(keys[key * static_cast<size_t>(c.key_dim) + i]);
    }
  }
  return {out.begin(), out.end()};
}

TEST(LatentAttentionError, IsThatOfACacheOfHalves) {
  const Case c = {16, 576, 512, 64};
  constexpr int kKeys = 300;
  Cache cache(c, kKeys, std::byte{0xff});
  cache.store(tables()[0], kKeys);
  const auto q = random_floats(static_cast<size_t>((c.heads + 1) * c.key_dim), 2.0F, 8);
  const std::vector<float> out = cache.run(tables()[0], q, kKeys, 1);
  double integers = 0.0, halves = 0.0;
  for (int h = 0; h < c.heads; ++h) {
    const float* query = q.data() + h * c.key_dim;
    const auto exact = softmax_of_products<double>(query, cache.floats(), c, cache.scale(),
                                                   [](float x) { return x; });
    const auto rounded = softmax_of_products<float>(
        query, cache.floats(), c, cache.scale(),
        [](float x) { return static_cast<float>(static_cast<_Float16>(x)); });
    const float* own = out.data() + h * c.value_dim;
    integers += relative_error({own, own + c.value_dim}, exact) / c.heads;
    halves += relative_error(rounded, exact) / c.heads;
  }
  std::printf("relative error: integers %.2e, halves %.2e\n", integers, halves);
  EXPECT_LT(integers, 2 * halves);
}

}  // namespace
}  // namespace tandem::cpu
