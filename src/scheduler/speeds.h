// What is cheaper, to copy pages or to compute their tokens again, by speeds measured while
// running.
#pragma once

#include <cstdint>

namespace tandem::scheduler {

// A rate that follows its last dozen of samples, large ones more than small ones.
class Speed {
 public:
  void add(double amount, double seconds) {
    constexpr double kKept = 0.9;  // of the past, at each sample
    amount_ = amount_ * kKept + amount;
    seconds_ = seconds_ * kKept + seconds;
  }
  // 0: nothing measured yet.
  double per_second() const { return seconds_ > 0.0 ? amount_ / seconds_ : 0.0; }

 private:
  double amount_ = 0.0;
  double seconds_ = 0.0;
};

// Bytes a second that are assumed until a copy was measured: a slow SSD's.
constexpr double kAssumedCopySpeed = 5e8;

// Whether copying `bytes` takes less time than computing `tokens`. Speeds in bytes and tokens a
// second, 0: unknown. Before anything was computed copying is taken for cheaper, as it is for
// every model but the smallest.
constexpr bool copy_is_cheaper(double bytes, double copy_speed, double tokens,
                               double compute_speed) {
  if (compute_speed <= 0.0) return true;
  return bytes / (copy_speed > 0.0 ? copy_speed : kAssumedCopySpeed) < tokens / compute_speed;
}

}  // namespace tandem::scheduler
