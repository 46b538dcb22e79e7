// A counting sort.
#include "moe/grouping.h"

#include <algorithm>

#include "base/check.h"

namespace tandem::moe {
namespace {

// Up to so many tokens reading an expert's weights costs more than computing with them, and all
// experts cost about the same.
constexpr int64_t kDecodeTokens = 8;

}  // namespace

void Grouping::reserve(int64_t tokens, int experts, int used) {
  first_slot.resize(static_cast<size_t>(experts) + 1);
  active.reserve(static_cast<size_t>(experts));
  slot_token.resize(static_cast<size_t>(tokens * used));
  slot_of.resize(static_cast<size_t>(tokens * used));
}

void Grouping::assign(const int32_t* ids, int64_t tokens, int experts, int used) {
  const int64_t slots = tokens * used;
  TANDEM_CHECK(static_cast<size_t>(slots) <= slot_of.size(), "{} slots, room for {}", slots,
               slot_of.size());
  std::fill(first_slot.begin(), first_slot.end(), 0);
  for (int64_t i = 0; i < slots; ++i) {
    if (ids[i] >= 0) ++first_slot[static_cast<size_t>(ids[i]) + 1];
  }
  active.clear();
  for (int e = 0; e < experts; ++e) {
    const auto index = static_cast<size_t>(e);
    if (first_slot[index + 1] > 0) active.push_back(e);
    first_slot[index + 1] += first_slot[index];
  }
  // Fill each expert's slots in token order; first_slot serves as the cursor and is shifted back
  // afterwards.
  for (int64_t i = 0; i < slots; ++i) {
    slot_of[static_cast<size_t>(i)] = -1;
    if (ids[i] < 0) continue;
    const int32_t slot = first_slot[static_cast<size_t>(ids[i])]++;
    slot_token[static_cast<size_t>(slot)] = static_cast<int32_t>(i / used);
    slot_of[static_cast<size_t>(i)] = slot;
  }
  for (auto e = static_cast<size_t>(experts); e > 0; --e) first_slot[e] = first_slot[e - 1];
  first_slot[0] = 0;

  if (tokens <= kDecodeTokens) return;
  std::sort(active.begin(), active.end(), [&](int32_t a, int32_t b) {
    const int32_t of_a = tokens_of(a), of_b = tokens_of(b);
    return of_a != of_b ? of_a > of_b : a < b;
  });
}

}  // namespace tandem::moe
