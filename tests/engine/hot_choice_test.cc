// The choice of hot experts: who gets slots, when they move, and that one slot has one expert.
#include "engine/hot_choice.h"

#include <random>
#include <set>

#include <gtest/gtest.h>

namespace tandem::engine {
namespace {

std::set<int> hot_in(const HotChoice& choice, int layer) {
  std::set<int> hot;
  for (int e = 0; e < choice.experts(); ++e) {
    if (choice.slot_of(layer, e) >= 0) hot.insert(e);
  }
  return hot;
}

TEST(HotChoice, FillsWithTheMostUsedAndOtherwiseTheFirst) {
  HotChoice choice({2, 0, 4}, 4);
  choice.set_counts(std::vector<double>{0, 5, 1, 9, 1, 2, 3, 4, 0, 0, 0, 0});
  choice.fill();
  EXPECT_EQ(hot_in(choice, 0), (std::set<int>{1, 3}));
  EXPECT_EQ(hot_in(choice, 1), std::set<int>{});
  EXPECT_EQ(hot_in(choice, 2), (std::set<int>{0, 1, 2, 3}));
  EXPECT_EQ(choice.used_slots(), 6);
  HotChoice cold({2}, 4);
  cold.fill();
  EXPECT_EQ(hot_in(cold, 0), (std::set<int>{0, 1}));
}

TEST(HotChoice, AnExpertTakesTheLeastUsedOnesSlotOnceItIsCopied) {
  HotChoice choice({2}, 4, {.ratio = 1.5, .margin = 2.0});
  choice.set_counts(std::vector<double>{10, 4, 0, 0});
  choice.fill();
  const int slot = choice.slot_of(0, 1);
  choice.add(std::vector<uint32_t>{0, 0, 0, 8}, 8);
  EXPECT_FALSE(choice.next());  // 8 is not above 1.5 * 4 + 2
  choice.add(std::vector<uint32_t>{0, 0, 0, 1}, 1);
  const auto move = choice.next();
  ASSERT_TRUE(move);
  EXPECT_EQ(move->expert, 3);
  EXPECT_EQ(move->evicted, 1);
  EXPECT_EQ(move->slot, slot);
  EXPECT_EQ(hot_in(choice, 0), std::set<int>{0});  // neither has it while it is written
  EXPECT_EQ(choice.used_slots(), 1);
  EXPECT_FALSE(choice.next());  // the other one has more
  choice.settle(*move);
  EXPECT_EQ(hot_in(choice, 0), (std::set<int>{0, 3}));
  EXPECT_EQ(choice.slot_of(0, 3), slot);
  EXPECT_FALSE(choice.next());
}

TEST(HotChoice, CountsWeighHalfAfterTheHalfLife) {
  HotChoice choice({1}, 2, {.half_life = 64.0});
  choice.set_counts(std::vector<double>{100, 0});
  choice.fill();
  for (int i = 0; i < 64; ++i) choice.add(std::vector<uint32_t>{0, 0}, 1);
  EXPECT_NEAR(choice.counts()[0], 50.0, 1e-9);
  choice.add(std::vector<uint32_t>{0, 0}, 128);
  EXPECT_NEAR(choice.counts()[0], 12.5, 1e-9);
}

// What was hot is left when people ask for something else, and comes back no sooner than that.
TEST(HotChoice, FollowsTheTokens) {
  constexpr int kExperts = 16, kSlots = 4, kLayers = 3;
  HotChoice choice({kSlots, kSlots, kSlots}, kExperts, {.half_life = 256.0});
  choice.fill();
  std::mt19937 random(1);
  for (const int first : {8, 2}) {
    for (int token = 0; token < 2000; ++token) {
      std::vector<uint32_t> pairs(kLayers * kExperts);
      for (int layer = 0; layer < kLayers; ++layer) {
        // Nine tokens of ten go to four experts, which differ by layer.
        const int expert = random() % 10 < 9 ? first + layer + static_cast<int>(random() % 4)
                                             : static_cast<int>(random() % kExperts);
        ++pairs[static_cast<size_t>(layer * kExperts + expert)];
      }
      choice.add(pairs, 1);
      if (const auto move = choice.next()) choice.settle(*move);
    }
    for (int layer = 0; layer < kLayers; ++layer) {
      const int l = first + layer;
      EXPECT_EQ(hot_in(choice, layer), (std::set<int>{l, l + 1, l + 2, l + 3})) << layer;
    }
  }
}

// Experts that are used alike differ by chance: that moves nobody.
TEST(HotChoice, EvenUseMovesNothing) {
  HotChoice choice({16}, 64);
  std::mt19937 random(1);
  const auto token = [&] {
    std::vector<uint32_t> pairs(64);
    for (int i = 0; i < 8; ++i) ++pairs[random() % 64];
    choice.add(pairs, 1);
  };
  for (int i = 0; i < 20000; ++i) token();
  choice.fill();
  int moves = 0;
  for (int i = 0; i < 20000; ++i) {
    token();
    const auto move = choice.next();
    if (!move) continue;
    choice.settle(*move);
    ++moves;
  }
  EXPECT_LE(moves, 8);
}

// Whatever moves: a slot never has two experts, and every expert in one has a valid one.
TEST(HotChoice, SlotsHaveOneExpertEach) {
  HotChoice choice({3, 1, 8}, 8, {.ratio = 0.0, .margin = -1.0});
  choice.fill();
  std::mt19937 random(2);
  int moves = 0;
  std::vector<HotChoice::Switch> moving;
  for (int step = 0; step < 500; ++step) {
    std::vector<uint32_t> pairs(24);
    for (uint32_t& count : pairs) count = random() % 3;
    choice.add(pairs, 2);
    if (!moving.empty() && random() % 2 == 0) {
      choice.settle(moving.front());
      moving.erase(moving.begin());
    }
    if (moving.size() < 5) {
      if (const auto move = choice.next()) {
        moving.push_back(*move);
        ++moves;
      }
    }
    for (int layer = 0; layer < 3; ++layer) {
      std::set<int> slots;
      for (int e = 0; e < 8; ++e) {
        const int slot = choice.slot_of(layer, e);
        if (slot < 0) continue;
        EXPECT_LT(slot, choice.slots(layer));
        EXPECT_TRUE(slots.insert(slot).second) << "slot " << slot;
      }
      for (const HotChoice::Switch& move : moving) {
        if (move.layer != layer) continue;
        EXPECT_TRUE(slots.insert(move.slot).second) << "slot " << move.slot;
      }
      EXPECT_EQ(static_cast<int>(slots.size()), choice.slots(layer));
    }
  }
  EXPECT_GT(moves, 100);
}

}  // namespace
}  // namespace tandem::engine
