// Where a step's time goes, by operator. A step runs its operators one after the other, so the time
// of each is that of the thread that issues it. Off (a null profile) it costs a comparison.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
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
    // What the operator had to read and to multiply, where it says so; 0 elsewhere.
    int64_t bytes = 0;  // of weights, each once a call, however many tokens share it
    int64_t macs = 0;   // multiply-adds with them
  };

  void clear() { entries_ = {}; }
  // Called before an operator's clock stops: waits for what it only started.
  void settle_by(std::function<void()> settle) { settle_ = std::move(settle); }
  const Entry& of(Op op) const { return entries_[static_cast<size_t>(op)]; }

  // Times an operator from here to the end of the scope; scopes inside are counted to the outer
  // one, their work too.
  class Scope {
   public:
    Scope(Profile* profile, Op op) : profile_(profile) {
      if (profile_ == nullptr || profile_->depth_++ > 0) return;
      profile_->op_ = op;
      profile_->start_ = std::chrono::steady_clock::now();
    }
    ~Scope() {
      if (profile_ == nullptr || --profile_->depth_ > 0) return;
      if (profile_->settle_) profile_->settle_();
      Entry& entry = profile_->current();
      ++entry.calls;
      entry.seconds +=
          std::chrono::duration<double>(std::chrono::steady_clock::now() - profile_->start_)
              .count();
    }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

    // Bytes of weights read and multiply-adds done by this call.
    void add(int64_t bytes, int64_t macs) const {
      if (profile_ == nullptr) return;
      profile_->current().bytes += bytes;
      profile_->current().macs += macs;
    }

   private:
    Profile* profile_;
  };

 private:
  Entry& current() { return entries_[static_cast<size_t>(op_)]; }

  std::array<Entry, kNumOps> entries_ = {};
  std::function<void()> settle_;
  int depth_ = 0;
  Op op_ = Op::kEmbed;  // of the outermost scope, while there is one
  std::chrono::steady_clock::time_point start_;
};

}  // namespace tandem::ops
