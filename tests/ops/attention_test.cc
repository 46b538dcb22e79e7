// A token's attention has the same bits however its prompt is cut, whoever shares the step, and on
// any number of threads; and appended keys are the ones that are read.
#include "ops/attention.h"

#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace tandem::ops {
namespace {

struct Form {
  int heads, kv_heads, key_dim, value_dim, page_size;
  bool shared;
};

// A slice of a sequence in a step: `count` tokens from position `first` on.
struct Slice {
  int sequence, first, count;
};

class AttentionOp : public ::testing::TestWithParam<Form> {
 protected:
  static constexpr int kSequences = 3;
  static constexpr int kLength = 1200;  // beyond 1024 the spans change
  static constexpr int kMaxTokens = 300;

  // Queries, keys and values of token i of a sequence, the same whenever they are asked for.
  static std::vector<float> rows(int sequence, int position, int kind, int64_t n) {
    std::minstd_rand generator(static_cast<uint32_t>((sequence * 3 + kind) * 5000 + position + 1));
    std::vector<float> values(static_cast<size_t>(n));
    for (float& v : values) v = static_cast<float>(generator() % 4096) / 1024.0F - 2.0F;
    return values;
  }

  struct Cache {
    KvLayer layer;
    std::vector<std::byte> memory;
    std::vector<std::vector<int32_t>> pages;
  };
  static Cache make_cache(const Form& f) {
    Cache cache;
    cache.layer = {.data = nullptr,
                   .dtype = f.shared ? DType::kI16 : DType::kF16,
                   .page_size = f.page_size,
                   .page_bytes = 0,
                   .kv_heads = f.kv_heads,
                   .key_dim = f.key_dim,
                   .value_dim = f.value_dim,
                   .shared_values = f.shared};
    cache.layer.page_bytes = kv_page_bytes(cache.layer);
    const int pages = (kLength + f.page_size - 1) / f.page_size;
    // What is not written yet is not a number.
    cache.memory.assign(static_cast<size_t>(cache.layer.page_bytes * pages * kSequences),
                        std::byte{0xff});
    cache.layer.data = cache.memory.data();
    for (int s = 0; s < kSequences; ++s) {
      cache.pages.emplace_back();
      for (int i = 0; i < pages; ++i)
        cache.pages.back().push_back((pages - 1 - i) * kSequences + s);
    }
    return cache;
  }

  // Runs the steps and returns what sequence 0's tokens got: [kLength, H, value_dim].
  static std::vector<float> run(const Form& f, int threads,
                                const std::vector<std::vector<Slice>>& steps) {
    platform::ThreadPool pool({.threads = threads, .pin = false});
    Cache cache = make_cache(f);
    Workspace workspace(attention_workspace_bytes(cache.layer, kMaxTokens, threads));
    Context ctx{pool, cpu::select(), workspace};
    const int64_t q_row = f.heads * f.key_dim, out_row = f.heads * f.value_dim;
    std::vector<float> result(static_cast<size_t>(kLength * out_row), -1.0F);
    for (const std::vector<Slice>& step : steps) {
      std::vector<float> q, k, v;
      std::vector<int32_t> positions;
      std::vector<const int32_t*> pages;
      const auto append = [](std::vector<float>& to, const std::vector<float>& from) {
        to.insert(to.end(), from.begin(), from.end());
      };
      for (const Slice& s : step) {
        for (int i = s.first; i < s.first + s.count; ++i) {
          append(q, rows(s.sequence, i, 0, q_row));
          append(k, rows(s.sequence, i, 1, f.kv_heads * f.key_dim));
          append(v, rows(s.sequence, i, 2, f.kv_heads * f.value_dim));
          positions.push_back(i);
          pages.push_back(cache.pages[static_cast<size_t>(s.sequence)].data());
        }
      }
      const auto tokens = static_cast<int64_t>(positions.size());
      const PagedTokens where{tokens, positions.data(), pages.data()};
      std::vector<float> out(static_cast<size_t>(tokens * out_row), std::nanf(""));
      append_kv(ctx, cache.layer, where, k.data(), f.shared ? nullptr : v.data());
      attention(ctx, cache.layer, where, q.data(), f.heads, 0.25F, out.data());
      int64_t t = 0;
      for (const Slice& s : step) {
        if (s.sequence == 0) {
          std::copy_n(out.data() + t * out_row, s.count * out_row,
                      result.data() + s.first * out_row);
        }
        t += s.count;
      }
    }
    return result;
  }

  // Sequence 0 in chunks of a size.
  static std::vector<std::vector<Slice>> chunks(int size) {
    std::vector<std::vector<Slice>> steps;
    for (int first = 0; first < kLength; first += size) {
      steps.push_back({{0, first, std::min(size, kLength - first)}});
    }
    return steps;
  }
};

TEST_P(AttentionOp, SameBitsHoweverItIsRun) {
  const Form& f = GetParam();
  const std::vector<float> truth = run(f, 1, chunks(kMaxTokens));
  for (const float x : truth) ASSERT_TRUE(std::isfinite(x));
  const auto expect_truth = [&](const std::string& what, int threads,
                                const std::vector<std::vector<Slice>>& steps) {
    const std::vector<float> actual = run(f, threads, steps);
    EXPECT_EQ(std::memcmp(actual.data(), truth.data(), truth.size() * sizeof(float)), 0) << what;
  };
  expect_truth("chunks of 1", 2, chunks(1));
  expect_truth("chunks of 7", 1, chunks(7));
  expect_truth("chunks of 100", 2, chunks(100));
  expect_truth("three threads", 3, chunks(kMaxTokens));

  // Neighbours before and behind: one that decodes, one whose prompt is cut.
  std::vector<std::vector<Slice>> steps;
  for (int first = 0, i = 0; first < kLength; ++i) {
    const int count = std::min(i % 3 == 0 ? 1 : 90 + i, kLength - first);
    steps.push_back({{1, i, 1}, {0, first, count}, {2, 40 * i, 40}});
    first += count;
  }
  expect_truth("neighbours", 2, steps);
  expect_truth("neighbours on one thread", 1, steps);
}

INSTANTIATE_TEST_SUITE_P(
    Forms, AttentionOp,
    ::testing::Values(Form{3, 1, 16, 16, 32, false}, Form{14, 2, 32, 16, 64, false},
                      Form{2, 2, 16, 32, 64, false}, Form{70, 1, 16, 16, 32, false},
                      Form{16, 1, 48, 32, 256, true}, Form{5, 1, 32, 16, 64, true},
                      Form{80, 1, 32, 16, 64, true}));

}  // namespace
}  // namespace tandem::ops
