// Where a step's time goes, by operator. A step runs its operators one after the other, so the time
// of each is that of the thread that issues it. Off (a null profile) it costs a comparison.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <string_view>

namespace tandem::ops {

enum class Op : uint8_t {
  kEmbed,
  kNorm,
  kLinear,
  kRope,
  kAppendKv,
  kAttention,
  kRoute,
  kExperts,
  kElementwise,
  kOutput,  // the output matrix
  kSample,
};
inline constexpr int kNumOps = 11;
std::string_view name_of(Op op);

class Profile {
 public:
  struct Entry {
    int64_t calls = 0;
    double seconds = 0.0;
  };

  void clear() { entries_ = {}; }
  const Entry& of(Op op) const { return entries_[static_cast<size_t>(op)]; }

  // Times an operator from here to the end of the scope; scopes inside are counted to the outer
  // one.
  class Scope {
   public:
    Scope(Profile* profile, Op op) : profile_(profile), op_(op) {
      if (profile_ == nullptr) return;
      if (profile_->depth_++ == 0) start_ = std::chrono::steady_clock::now();
    }
    ~Scope() {
      if (profile_ == nullptr || --profile_->depth_ > 0) return;
      Entry& entry = profile_->entries_[static_cast<size_t>(op_)];
      ++entry.calls;
      entry.seconds +=
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Profile* profile_;
    Op op_;
    std::chrono::steady_clock::time_point start_;
  };

 private:
  std::array<Entry, kNumOps> entries_ = {};
  int depth_ = 0;
};

}  // namespace tandem::ops
