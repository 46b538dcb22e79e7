// Stand-ins for what the server talks to: a tokenizer of single bytes, a small chat model, and a
// scheduler that plays a prepared answer.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "scheduler/scheduler.h"
#include "server/model.h"
#include "tokenizer/tokenizer.h"

namespace tandem::testing {

// Ids 0 to 255 are bytes; control tokens follow.
class ByteTokenizer : public tokenizer::Tokenizer {
 public:
  using Id = tokenizer::TokenId;
  static constexpr Id kBos = 256, kStart = 257, kEnd = 258, kThink = 259, kThinkEnd = 260,
                      kToolOpen = 261, kToolClose = 262, kSize = 263;

  std::vector<Id> encode(std::string_view text,
                         const tokenizer::EncodeOptions& options) const override {
    std::vector<Id> ids;
    while (!text.empty()) {
      Id id = -1;
      for (size_t i = 0; options.parse_special && i < specials_.size(); ++i) {
        if (text.starts_with(specials_[i])) id = kBos + static_cast<Id>(i);
      }
      if (id < 0) id = static_cast<unsigned char>(text[0]);
      text.remove_prefix(bytes(id).size());
      if (id != static_cast<unsigned char>(tokenizer::kShield)) ids.push_back(id);
    }
    if (options.add_bos && (ids.empty() || ids[0] != kBos)) ids.insert(ids.begin(), kBos);
    return ids;
  }

  std::string_view bytes(Id id) const override {
    if (id < 0 || id >= kSize) return {};
    if (id >= kBos) return specials_[static_cast<size_t>(id - kBos)];
    return {&all_bytes()[static_cast<size_t>(id)], 1};
  }

  int vocab_size() const override { return kSize; }
  Id bos() const override { return kBos; }
  Id eos() const override { return kEnd; }
  bool wants_bos() const override { return true; }
  bool is_special(Id id) const override { return id < 0 || id >= kBos; }
  std::span<const Id> end_tokens() const override { return ends_; }
  std::span<const std::string> special_texts() const override { return specials_; }
  bool strips_leading_space() const override { return true; }

 private:
  static const std::string& all_bytes() {
    static const std::string bytes = [] {
      std::string all;
      for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
      return all;
    }();
    return bytes;
  }

  const std::vector<std::string> specials_ = {"<s>",      "<|start|>",   "<|end|>",     "<think>",
                                              "</think>", "<tool_call>", "</tool_call>"};
  const std::vector<Id> ends_ = {kEnd};
};

inline server::Model fake_model() {
  // The prompt ends with an open thinking tag when the template is asked to.
  const char* source =
      "{%- for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}"
      "{%- for c in m.tool_calls or [] %}[{{ c.function.name }}:{{ c.function.arguments.city }}]"
      "{%- endfor %}<|end|>\n{% endfor %}"
      "{%- if tools %}[tools {{ tools | length }}]{% endif %}"
      "{%- if mood %}[{{ mood }}]{% endif %}"
      "{%- if add_generation_prompt %}{{ '<|start|>assistant\n' }}"
      "{%- if enable_thinking %}{{ '<think>\n' }}{% endif %}{% endif %}";
  server::Model model;
  model.name = "fake";
  model.tokenizer = std::make_shared<ByteTokenizer>();
  model.chat_template = chat::ChatTemplate::parse(source).value();
  model.output_format = {.think_open = "<think>",
                         .think_close = "</think>",
                         .tools = chat::OutputFormat::Tools::kJsonInTags,
                         .tool_open = "<tool_call>",
                         .tool_close = "</tool_call>"};
  model.context_length = 4096;
  model.vocab_size = ByteTokenizer::kSize;
  return model;
}

// The text a prompt was made from.
inline std::string text_of(const std::vector<tokenizer::TokenId>& ids) {
  static const ByteTokenizer tokenizer;
  std::string text;
  for (const auto id : ids) text += tokenizer.bytes(id);
  return text;
}

// Answers every request with the same text, a token at a time, from a thread of its own.
class FakeScheduler : public scheduler::Scheduler {
 public:
  struct Script {
    std::string answer = "Hello";             // then the end token
    bool endless = false;                     // the answer over and over, until max_tokens
    std::chrono::microseconds token_time{0};  // between two tokens
    bool silent = false;                      // no token ever
    std::string error = {};                   // instead of the end
  };

  FakeScheduler() : thread_([this] { run(); }) {}
  ~FakeScheduler() override {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  void play(Script script) {
    const std::lock_guard lock(mutex_);
    script_ = std::move(script);
  }
  void refuse_with(Failure failure) {
    const std::lock_guard lock(mutex_);
    refusal_ = std::move(failure);
  }
  std::vector<scheduler::Request> submitted() const {
    const std::lock_guard lock(mutex_);
    return submitted_;
  }
  // Requests that have a place and were not refused later.
  int64_t places() const { return place_.use_count() - 1; }
  // Waits for it, at most five seconds.
  bool wait_until(const std::function<bool(const scheduler::Stats&)>& condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(5), [&] { return condition(stats_); });
  }

  Result<scheduler::Place> reserve(uint64_t) override {
    const std::lock_guard lock(mutex_);
    if (refusal_ && refusal_->code != "context_length_exceeded") return *refusal_;
    return place_;
  }
  Result<scheduler::RequestId> submit(scheduler::Request request) override {
    const std::lock_guard lock(mutex_);
    if (refusal_) return *refusal_;
    submitted_.push_back(request);
    submitted_.back().place = nullptr;
    running_.push_back({++last_id_, std::move(request), script_, 0});
    ++stats_.running;
    changed_.notify_all();
    return last_id_;
  }
  void cancel(scheduler::RequestId id) override {
    const std::lock_guard lock(mutex_);
    for (Running& r : running_) r.cancelled = r.cancelled || r.id == id;
    changed_.notify_all();
  }
  void drain(double) override {}
  scheduler::Stats stats() const override {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

 private:
  struct Running {
    scheduler::RequestId id;
    scheduler::Request request;
    Script script;
    int32_t output = 0;
    bool cancelled = false;
    std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();

    bool is_late() const {
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
      return request.timeout_seconds > 0.0 && taken.count() >= request.timeout_seconds;
    }
  };

  void run() {
    std::unique_lock lock(mutex_);
    while (!stop_) {
      const bool all_silent = std::all_of(running_.begin(), running_.end(), [](const Running& r) {
        return r.script.silent && !r.cancelled && !r.is_late();
      });
      if (all_silent) {
        changed_.wait_for(lock, std::chrono::milliseconds(running_.empty() ? 1000 : 5));
        continue;
      }
      const auto pause = running_.front().script.token_time;
      std::erase_if(running_, [&](Running& r) { return advance(r); });
      changed_.notify_all();
      lock.unlock();
      std::this_thread::sleep_for(pause);
      lock.lock();
    }
  }

  // Returns whether the request has ended.
  bool advance(Running& r) {
    using scheduler::FinishReason;
    scheduler::TokenEvent event;
    event.prompt_tokens = static_cast<int32_t>(r.request.prompt.size());
    const Script& script = r.script;
    if (r.cancelled) {
      event.finish = FinishReason::kCancelled;
      ++stats_.cancelled;
    } else if (r.is_late()) {
      event.finish = FinishReason::kError;
      event.error_code = "timeout";
    } else if (script.silent) {
      return false;
    } else if (!script.endless && static_cast<size_t>(r.output) >= script.answer.size()) {
      event.token = ByteTokenizer::kEnd;
      event.finish = script.error.empty() ? FinishReason::kStop : FinishReason::kError;
      event.error = script.error;
      ++r.output;
    } else {
      const size_t at = static_cast<size_t>(r.output++) % script.answer.size();
      event.token = static_cast<unsigned char>(script.answer[at]);
      event.logprob = -0.5F;
      if (r.request.sampling.top_logprobs > 0) event.top = {{event.token, -0.5F}};
      if (r.output == r.request.max_tokens) event.finish = FinishReason::kLength;
    }
    event.output_tokens = r.output;
    const bool ended = event.finish != FinishReason::kNone;
    stats_.running -= ended ? 1 : 0;
    ++stats_.generated_tokens;
    if (ended) r.request.place = nullptr;
    r.request.on_event(std::move(event));
    return ended;
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  Script script_;
  std::optional<Failure> refusal_;
  const scheduler::Place place_ = std::make_shared<int>(0);
  std::vector<scheduler::Request> submitted_;
  std::deque<Running> running_;
  scheduler::Stats stats_;
  scheduler::RequestId last_id_ = 0;
  bool stop_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace tandem::testing
