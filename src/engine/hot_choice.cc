// Counts lose their weight in steps: lowering all of them for every token would cost more than
// counting does.
#include "engine/hot_choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace tandem::engine {
namespace {

constexpr double kSteps = 16.0;  // of a half-life
// A microsecond's work: a layer is one pass over its experts.
constexpr int kLayersAtOnce = 8;

}  // namespace

HotChoice::HotChoice(std::vector<int> slots, int experts, const HotPolicy& policy)
    : slots_(std::move(slots)),
      experts_(experts),
      policy_(policy),
      counts_(slots_.size() * static_cast<size_t>(experts)),
      slot_of_(counts_.size(), kNone) {
  for (const int count : slots_) {
    TANDEM_CHECK(count >= 0 && count <= experts, "{} slots for {} experts", count, experts);
  }
}

void HotChoice::set_counts(std::span<const double> counts) {
  TANDEM_CHECK(counts.size() == counts_.size(), "{} counts of {}", counts.size(), counts_.size());
  std::copy(counts.begin(), counts.end(), counts_.begin());
}

void HotChoice::fill() {
  std::vector<int> order(static_cast<size_t>(experts_));
  std::fill(slot_of_.begin(), slot_of_.end(), kNone);
  used_slots_ = 0;
  for (int layer = 0; layer < layers(); ++layer) {
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return counts_[at(layer, a)] > counts_[at(layer, b)]; });
    for (int slot = 0; slot < slots(layer); ++slot) {
      slot_of_[at(layer, order[static_cast<size_t>(slot)])] = slot;
    }
    used_slots_ += slots(layer);
  }
}

void HotChoice::add(std::span<const uint32_t> pairs, int64_t tokens) {
  TANDEM_CHECK(pairs.size() == counts_.size(), "{} counts of {}", pairs.size(), counts_.size());
  for (size_t i = 0; i < pairs.size(); ++i) counts_[i] += pairs[i];
  tokens_ += static_cast<double>(tokens);
  const double steps = std::floor(tokens_ * kSteps / policy_.half_life);
  if (steps < 1.0) return;
  tokens_ -= steps * policy_.half_life / kSteps;
  const double factor = std::exp2(-steps / kSteps);
  for (double& count : counts_) count *= factor;
}

std::optional<HotChoice::Switch> HotChoice::switch_in(int layer) const {
  int best = -1, least = -1;
  for (int e = 0; e < experts_; ++e) {
    const int slot = slot_of_[at(layer, e)];
    if (slot == kOnItsWay) continue;
    int& candidate = slot >= 0 ? least : best;
    const double count = counts_[at(layer, e)];
    if (candidate < 0 || (slot >= 0 ? count < counts_[at(layer, candidate)]
                                    : count > counts_[at(layer, candidate)])) {
      candidate = e;
    }
  }
  if (best < 0 || least < 0) return std::nullopt;
  const double wanted = policy_.ratio * counts_[at(layer, least)] + policy_.margin;
  if (counts_[at(layer, best)] <= wanted) return std::nullopt;
  return Switch{layer, best, slot_of_[at(layer, least)], least};
}

std::optional<HotChoice::Switch> HotChoice::next() {
  for (int i = 0; i < std::min(kLayersAtOnce, layers()); ++i) {
    const int layer = next_layer_;
    next_layer_ = (next_layer_ + 1) % layers();
    const std::optional<Switch> found = switch_in(layer);
    if (!found) continue;
    slot_of_[at(layer, found->evicted)] = kNone;
    slot_of_[at(layer, found->expert)] = kOnItsWay;
    --used_slots_;
    return found;
  }
  return std::nullopt;
}

void HotChoice::settle(const Switch& done) {
  int& slot = slot_of_[at(done.layer, done.expert)];
  TANDEM_CHECK(slot == kOnItsWay, "expert {} of layer {} is not on its way", done.expert,
               done.layer);
  slot = done.slot;
  ++used_slots_;
}

}  // namespace tandem::engine
