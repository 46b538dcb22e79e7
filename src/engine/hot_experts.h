// Hot experts while serving: asks engine/hot_choice.h who should have a slot on the GPU, has
// ops/hot_slots.h copy them between steps, and keeps the counts in a file.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "engine/hot_choice.h"
#include "engine/load.h"
#include "models/model.h"
#include "ops/gpu.h"

namespace tandem::engine {

class HotExperts {
 public:
  // Reserves slots of `bytes` in all, the same share of each layer's experts, so that no layer is
  // waited for longer than others. None where not one expert of each layer fits, or nothing is in
  // host memory. Throws Error for a file of another model.
  static std::unique_ptr<HotExperts> create(ops::Gpu& gpu, const models::Decoder& decoder,
                                            const HotOptions& options, int64_t bytes,
                                            int max_tokens, int max_sequences);
  // Over slots that are reserved already; create() has the rest.
  HotExperts(ops::HotSlots& slots, HotChoice choice, std::vector<int> layers, std::string file);
  ~HotExperts();
  HotExperts(const HotExperts&) = delete;
  HotExperts& operator=(const HotExperts&) = delete;

  // Once the weights are there: all slots get their experts.
  void fill(platform::ThreadPool& pool);
  // Forgets what was counted so far, of steps that nobody asked for.
  void forget() { slots_.forget(); }
  // After each step: counts it, and goes on with moving experts.
  void after_step(platform::ThreadPool& pool, int64_t tokens);

  // Whether there are slots for all experts of the model's layer.
  bool holds_all(int layer) const;
  const HotStatistics& statistics() const { return statistics_; }

 private:
  void move(platform::ThreadPool& pool, int64_t tokens);
  void save() const;

  ops::HotSlots& slots_;
  HotChoice choice_;
  std::vector<int> layers_;               // of the model, by index
  std::string file_;                      // empty: none
  std::deque<HotChoice::Switch> moving_;  // in the order of their copies
  HotStatistics statistics_;
  std::chrono::steady_clock::time_point saved_;
};

}  // namespace tandem::engine
