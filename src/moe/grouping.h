// Which tokens each expert serves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tandem::moe {

// (token, rank) pairs by expert. Slots are numbered expert by expert, tokens ascending within one.
struct Grouping {
  std::vector<int32_t> first_slot;  // [E + 1]
  std::vector<int32_t> slot_token;  // [T * K] token of a slot
  std::vector<int32_t> slot_of;     // [T, K] slot of a token's rank, or -1
  std::vector<int32_t> active;      // experts with slots: in decode ascending, as they lie in
                                    // memory; else those of most tokens first

  void reserve(int64_t tokens, int experts, int used);
  // ids: [T, K] experts of each token; a negative one is nobody's and takes no slot.
  void assign(const int32_t* ids, int64_t tokens, int experts, int used);

  int32_t tokens_of(int32_t expert) const {
    const auto e = static_cast<size_t>(expert);
    return first_slot[e + 1] - first_slot[e];
  }
};

}  // namespace tandem::moe
