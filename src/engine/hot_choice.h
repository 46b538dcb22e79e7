// Which experts of each layer are hot: those that most tokens went to lately. Plain arithmetic on
// counts; what is copied when, and where to, is engine/hot_experts.h's.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace tandem::engine {

// When an expert takes another's slot: when it has more than `ratio` times its count and `margin`.
// Counts of experts that are used alike differ by chance; without both, copies would never end.
struct HotPolicy {
  double ratio = 1.25;
  double margin = 8.0;
  // Tokens after which a count weighs half: some answers' worth, so that what people ask for counts
  // and not the last sentence.
  double half_life = 4096.0;
};

class HotChoice {
 public:
  // slots: [L] of each layer, at most `experts`.
  HotChoice(std::vector<int> slots, int experts, const HotPolicy& policy = {});

  int layers() const { return static_cast<int>(slots_.size()); }
  int experts() const { return experts_; }
  int slots(int layer) const { return slots_[static_cast<size_t>(layer)]; }
  std::span<const double> counts() const { return counts_; }  // [L, E]

  // Counts of an earlier run, before fill(). [L, E]
  void set_counts(std::span<const double> counts);
  // Gives every layer's slots to its most used experts, lower ones first where counts are equal.
  void fill();

  // What `tokens` tokens went to: [L, E] pairs.
  void add(std::span<const uint32_t> pairs, int64_t tokens);

  // An expert that should have the slot of the least used.
  struct Switch {
    int layer;
    int expert;
    int slot;
    int evicted;  // expert, which has no slot from now on
  };
  // After fill(). It owns the slot when settle() says so; several may be on their way. Looks at a
  // few layers only, from where the last call ended.
  std::optional<Switch> next();
  void settle(const Switch& done);

  // The slot that the expert is in; -1: none, or it is on its way.
  int slot_of(int layer, int expert) const {
    const int slot = slot_of_[at(layer, expert)];
    return slot == kOnItsWay ? kNone : slot;
  }
  int used_slots() const { return used_slots_; }

 private:
  static constexpr int kNone = -1, kOnItsWay = -2;

  size_t at(int layer, int expert) const {
    return static_cast<size_t>(layer) * static_cast<size_t>(experts_) + static_cast<size_t>(expert);
  }
  std::optional<Switch> switch_in(int layer) const;

  std::vector<int> slots_;  // [L]
  int experts_;
  HotPolicy policy_;
  std::vector<double> counts_;  // [L, E]
  std::vector<int> slot_of_;    // [L, E]
  double tokens_ = 0.0;         // since counts were last lowered
  int next_layer_ = 0;
  int used_slots_ = 0;
};

}  // namespace tandem::engine
