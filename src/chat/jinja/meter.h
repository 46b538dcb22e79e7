// What one rendering may use (steps, live bytes, depth), how rendering fails, and the only way to
// build text of a size that a template or a conversation decides.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/core.h>

namespace tandem::chat::jinja {

// Thrown and caught inside the engine only: chat_template.cc turns it into a Failure.
struct TemplateError {
  std::string message;
};

template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw TemplateError{fmt::format(format, std::forward<Args>(args)...)};
}

// A step is a node evaluated, an element visited or 32 bytes of text touched: some tens of
// nanoseconds. The step limit is far above what conversations need (1000 messages with 50 tools:
// below one million) and ends a loop in seconds.
constexpr std::size_t kMaxSteps = 20'000'000;
constexpr std::size_t kMaxLiveBytes = std::size_t{256} << 20;
constexpr std::size_t kMaxTextBytes = std::size_t{64} << 20;
constexpr std::size_t kMaxRange = 100'000;  // as in Jinja's sandbox
constexpr int kMaxDepth = 1500;             // evaluator frames; a frame takes below 1 KiB of stack
constexpr int kMaxValueDepth = 512;         // containers inside containers

class Meter {
 public:
  void step(std::size_t count = 1) {
    steps_ += count;
    if (steps_ > kMaxSteps) fail("the template runs too long (limit: {} steps)", kMaxSteps);
  }
  void touch_text(std::size_t bytes) { step(bytes / 32); }

  void take(std::size_t bytes) {
    if (bytes > kMaxLiveBytes - live_bytes_) {
      fail("the template needs too much memory (limit: {} MiB)", kMaxLiveBytes >> 20);
    }
    live_bytes_ += bytes;
  }
  void give_back(std::size_t bytes) noexcept { live_bytes_ -= bytes; }

 private:
  std::size_t steps_ = 0;
  std::size_t live_bytes_ = 0;
};

// Appends within the limits; its bytes count as live until taken or destroyed.
class TextBuilder {
 public:
  explicit TextBuilder(Meter& meter) : meter_(meter) {}
  TextBuilder(const TextBuilder&) = delete;
  TextBuilder& operator=(const TextBuilder&) = delete;
  ~TextBuilder() { meter_.give_back(bytes_.size()); }

  TextBuilder& append(std::string_view text) {
    admit(text.size());
    bytes_.append(text);
    return *this;
  }
  TextBuilder& append(std::size_t count, char byte) {
    admit(count);
    bytes_.append(count, byte);
    return *this;
  }

  std::string_view view() const { return bytes_; }
  std::string take() {
    meter_.give_back(bytes_.size());
    return std::exchange(bytes_, {});
  }

 private:
  void admit(std::size_t count) {
    if (count > kMaxTextBytes - bytes_.size()) {
      fail("text grows beyond {} MiB", kMaxTextBytes >> 20);
    }
    meter_.take(count);
    meter_.touch_text(count);
  }

  Meter& meter_;
  std::string bytes_;
};

}  // namespace tandem::chat::jinja
