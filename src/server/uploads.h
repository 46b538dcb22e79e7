// The memory that bodies of requests may take, all connections together: many clients that send
// large bodies at once must not fill the machine.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace tandem::server {

class Uploads {
 public:
  // Bodies up to this size are always taken, so that large ones cannot shut them out.
  static constexpr int64_t kFree = 64 << 10;

  explicit Uploads(int64_t limit) : limit_(limit) {}

  // One body's part; given back at its end.
  class Share {
   public:
    explicit Share(Uploads& uploads) : uploads_(uploads) {}
    ~Share() { uploads_.taken_ -= counted_; }
    Share(const Share&) = delete;
    Share& operator=(const Share&) = delete;

    // False: there is no room for a body of this size.
    bool grow(int64_t bytes) {
      const int64_t wanted = bytes > kFree ? bytes : 0;
      const int64_t more = wanted - std::exchange(counted_, wanted);
      return more <= 0 || uploads_.taken_.fetch_add(more) + more <= uploads_.limit_;
    }

   private:
    Uploads& uploads_;
    int64_t counted_ = 0;
  };

 private:
  const int64_t limit_;
  std::atomic<int64_t> taken_{0};
};

}  // namespace tandem::server
