// A step's requests with shuffled pages, on the host and the device, and a cache that holds their
// keys.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/cuda/attention.h"
#include "tests/kernels/cuda/device.h"

namespace tandem::cuda::testing {

// The nearest 16-bit float of a value, as a float and as bits.
inline uint16_t half_bits(float x, CacheType type) {
  if (type == CacheType::kF16) return std::bit_cast<uint16_t>(static_cast<_Float16>(x));
  const auto bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}
inline float from_half(uint16_t bits, CacheType type) {
  if (type == CacheType::kF16) return static_cast<float>(std::bit_cast<_Float16>(bits));
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}
inline void round_to_halves(std::vector<float>& values, CacheType type) {
  for (float& value : values) value = from_half(half_bits(value, type), type);
}

struct Request {
  int tokens;  // of this step
  int keys;    // these included
};

// Host arrays; requests beyond the given ones are empty, up to `padded`.
struct PagedBatch {
  std::vector<int32_t> token_starts = {0}, page_starts = {0}, keys, pages, last_page_keys;
  std::vector<int32_t> slots;      // [T] of this step's tokens
  std::vector<int32_t> positions;  // [T]
  int tokens = 0;

  AttentionBatch view() const {
    return {.token_starts = token_starts.data(),
            .page_starts = page_starts.data(),
            .keys = keys.data(),
            .requests = static_cast<int>(keys.size())};
  }
};

inline PagedBatch make_batch(const std::vector<Request>& requests, int page_size, int total_pages,
                             uint32_t seed, size_t padded = 0) {
  PagedBatch batch;
  std::vector<int32_t> free(static_cast<size_t>(total_pages));
  std::iota(free.begin(), free.end(), 0);
  std::shuffle(free.begin(), free.end(), std::mt19937(seed));
  for (const Request& request : requests) {
    const int pages = (request.keys + page_size - 1) / page_size;
    const auto first = static_cast<int>(batch.pages.size());
    batch.pages.insert(batch.pages.end(), free.end() - pages, free.end());
    free.resize(free.size() - static_cast<size_t>(pages));
    for (int i = request.keys - request.tokens; i < request.keys; ++i) {
      const int page = batch.pages[static_cast<size_t>(first + i / page_size)];
      batch.slots.push_back(page * page_size + i % page_size);
      batch.positions.push_back(i);
    }
    batch.tokens += request.tokens;
    batch.token_starts.push_back(batch.tokens);
    batch.page_starts.push_back(first + pages);
    batch.keys.push_back(request.keys);
    batch.last_page_keys.push_back(request.keys - (pages - 1) * page_size);
  }
  while (batch.keys.size() < padded) {
    batch.token_starts.push_back(batch.token_starts.back());
    batch.page_starts.push_back(batch.page_starts.back());
    batch.keys.push_back(0);
    batch.last_page_keys.push_back(1);
  }
  return batch;
}

// Device copies at addresses that stay, for graphs.
struct DeviceBatch {
  DeviceBatch(size_t requests, size_t pages)
      : token_starts(requests + 1),
        page_starts(requests + 1),
        pages(pages),
        last_page_keys(requests) {}
  void assign(const PagedBatch& batch) {
    token_starts.assign(batch.token_starts);
    page_starts.assign(batch.page_starts);
    pages.assign(batch.pages);
    last_page_keys.assign(batch.last_page_keys);
  }
  DeviceVector<int32_t> token_starts, page_starts, pages, last_page_keys;
};

// Planning's memory.
struct OwnedMemory {
  explicit OwnedMemory(const AttentionSizes& sizes)
      : staged(sizes.plan_bytes), plan(sizes.plan_bytes), scratch(sizes.scratch_bytes) {}
  AttentionMemory view() const { return {staged.data(), plan.data(), scratch.data()}; }
  platform::cuda::PinnedMemory staged;
  platform::cuda::DeviceMemory plan, scratch;
};

// Attention in double over float copies of the cache; key(request's key number, head) and value()
// give rows.
struct Oracle {
  int heads, kv_heads, key_dim, value_dim;
  double scale;

  template <typename Key, typename Value>
  std::vector<float> operator()(const PagedBatch& batch, const std::vector<float>& q,
                                const Key& key, const Value& value) const {
    std::vector<float> out(static_cast<size_t>(batch.tokens) * heads * value_dim);
    for (size_t r = 0; r < batch.keys.size(); ++r) {
      const int tokens = batch.token_starts[r + 1] - batch.token_starts[r];
      for (int i = 0; i < tokens; ++i) {
        const int seen = batch.keys[r] - tokens + i + 1;
        for (int h = 0; h < heads; ++h) {
          const size_t row = static_cast<size_t>(batch.token_starts[r] + i) * heads + h;
          one(seen, q.data() + row * key_dim, h / (heads / kv_heads), r, key, value,
              out.data() + row * value_dim);
        }
      }
    }
    return out;
  }

 private:
  template <typename Key, typename Value>
  void one(int seen, const float* q, int head, size_t request, const Key& key, const Value& value,
           float* out) const {
    std::vector<double> scores(static_cast<size_t>(seen)), sums(static_cast<size_t>(value_dim));
    double highest = -INFINITY, total = 0.0;
    for (int k = 0; k < seen; ++k) {
      const float* row = key(request, k, head);
      double dot = 0.0;
      for (int i = 0; i < key_dim; ++i) dot += static_cast<double>(q[i]) * row[i];
      highest = std::max(highest, scores[static_cast<size_t>(k)] = dot * scale);
    }
    for (int k = 0; k < seen; ++k) {
      const double weight = std::exp(scores[static_cast<size_t>(k)] - highest);
      const float* row = value(request, k, head);
      total += weight;
      for (int i = 0; i < value_dim; ++i) sums[static_cast<size_t>(i)] += weight * row[i];
    }
    for (int i = 0; i < value_dim; ++i) {
      out[i] = static_cast<float>(sums[static_cast<size_t>(i)] / total);
    }
  }
};

inline double worst_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0.0;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    worst = difference <= worst ? worst : difference;  // a NaN is the worst
  }
  return worst;
}

}  // namespace tandem::cuda::testing
