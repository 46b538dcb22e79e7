// The state machine over generated text. Whatever might still become a mark is held back, so the
// sum of the deltas does not depend on how the text was cut:
//
//   start ──<think>──> reasoning ──</think>──> content <──> call
//                                    DeepSeek, Kimi:   content <──> section <──> call
#include "chat/output_parser.h"

#include <algorithm>
#include <utility>

#include "chat/tool_calls.h"

namespace tandem::chat {
namespace {

constexpr std::size_t npos = std::string_view::npos;
constexpr std::string_view kNewlines = "\r\n";
constexpr std::string_view kSpace = " \t\r\n";

// Of one call within a section.
struct CallMarks {
  std::string_view open, close;
};
constexpr CallMarks kDeepSeekCall = {"<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"};
constexpr CallMarks kKimiCall = {"<|tool_call_begin|>", "<|tool_call_end|>"};

// Size of the longest end of `text` that is a beginning, but not all, of `mark`.
std::size_t unfinished(std::string_view text, std::string_view mark) {
  if (mark.empty()) return 0;
  for (std::size_t size = std::min(text.size(), mark.size() - 1); size > 0; --size) {
    if (text.ends_with(mark.substr(0, size))) return size;
  }
  return 0;
}

bool may_become(std::string_view text, std::string_view mark) {
  return text.size() < mark.size() && mark.starts_with(text);
}

std::string_view without_trailing(std::string_view text, std::string_view characters) {
  const std::size_t last = text.find_last_not_of(characters);
  return text.substr(0, last == npos ? 0 : last + 1);
}

class Machine final : public OutputParser {
 public:
  Machine(const OutputFormat& format, const Options& options)
      : format_(format), split_reasoning_(options.split_reasoning) {
    if (options.tools != nullptr) types_ = ParameterTypes(*options.tools);
    if (options.parse_tools && format.tools != OutputFormat::Tools::kNone) {
      CallMarks marks = {format.tool_open, format.tool_close};
      if (format.has_sections()) {
        section_ = {format.tool_open, format.tool_close};
        marks = format.tools == OutputFormat::Tools::kDeepSeek ? kDeepSeekCall : kKimiCall;
      }
      call_open_ = marks.open;
      call_close_ = marks.close;
    }
    const bool thinks = !format.think_close.empty();
    state_ = !thinks                       ? State::kContent
             : options.starts_in_reasoning ? State::kReasoningStart
                                           : State::kStart;
  }

  OutputDelta push(std::string_view text) override {
    pending_.append(text);
    while (step(false)) {
    }
    return std::exchange(delta_, {});
  }

  OutputDelta finish() override {
    while (step(true)) {
    }
    if (!call_is_last_) delta_.content += gap_;
    gap_.clear();
    return std::exchange(delta_, {});
  }

 private:
  enum class State { kStart, kReasoningStart, kReasoning, kContent, kSection, kCall };
  struct Section {
    std::string open, close;
  };

  // Does what the pending text allows; false when more text is needed. Ends: a step that returns
  // true took text from pending_ or went to a later state.
  bool step(bool last) {
    switch (state_) {
      case State::kStart:
        return start(last);
      case State::kReasoningStart:
        return reasoning_start(last);
      case State::kReasoning:
        return reasoning(last);
      case State::kContent:
        return content(last);
      case State::kSection:
        return section(last);
      case State::kCall:
        return call(last);
    }
    return false;
  }

  std::string take(std::size_t size) {
    std::string text = pending_.substr(0, size);
    pending_.erase(0, size);
    return text;
  }

  bool enter(State state) {
    state_ = state;
    return true;
  }

  // Thinking is only recognised where the answer begins.
  bool start(bool last) {
    const std::size_t space = leading(kSpace);
    const std::string_view text = std::string_view(pending_).substr(space);
    if (!last && may_become(text, format_.think_open)) return false;
    if (!text.starts_with(format_.think_open)) return enter(State::kContent);
    const std::string opening = take(space + format_.think_open.size());
    if (!split_reasoning_) emit_content(opening);
    return enter_reasoning();
  }

  // A model may repeat the opening tag that its prompt already ends with.
  bool reasoning_start(bool last) {
    if (!split_reasoning_) return enter_reasoning();
    const std::size_t space = leading(kSpace);
    const std::string_view text = std::string_view(pending_).substr(space);
    if (!last && may_become(text, format_.think_open)) return false;
    if (text.starts_with(format_.think_open)) take(space + format_.think_open.size());
    return enter_reasoning();
  }

  bool enter_reasoning() {
    skip_newlines_ = split_reasoning_;
    return enter(State::kReasoning);
  }

  std::size_t leading(std::string_view characters) const {
    return std::min(pending_.find_first_not_of(characters), pending_.size());
  }

  void skip_newlines() {
    if (!skip_newlines_) return;
    pending_.erase(0, leading(kNewlines));
    skip_newlines_ = pending_.empty();
  }

  bool reasoning(bool last) {
    skip_newlines();
    const std::size_t close = pending_.find(format_.think_close);
    if (close != std::string::npos) {
      if (split_reasoning_) {
        delta_.reasoning +=
            without_trailing(std::string_view(pending_).substr(0, close), kNewlines);
        pending_.erase(0, close + format_.think_close.size());
        skip_newlines_ = true;
      } else {
        emit_content(take(close + format_.think_close.size()));
      }
      return enter(State::kContent);
    }
    const std::size_t held = last ? 0 : unfinished(pending_, format_.think_close);
    std::string_view text = std::string_view(pending_).substr(0, pending_.size() - held);
    if (split_reasoning_) text = without_trailing(text, kNewlines);
    const std::string taken = take(text.size());
    if (split_reasoning_)
      delta_.reasoning += taken;
    else
      emit_content(taken);
    if (last) pending_.clear();
    return false;
  }

  bool content(bool last) {
    skip_newlines();
    const std::string& mark = section_.open.empty() ? call_open_ : section_.open;
    const std::size_t open = mark.empty() ? std::string::npos : pending_.find(mark);
    if (open != std::string::npos) {
      emit_content(take(open));
      pending_.erase(0, mark.size());
      if (section_.open.empty()) return begin_call();
      unread_ = section_.open;
      return enter(State::kSection);
    }
    const std::size_t held = last ? 0 : unfinished(pending_, mark);
    emit_content(take(pending_.size() - held));
    return false;
  }

  // Between the calls of a section.
  bool section(bool last) {
    const std::size_t space = leading(kSpace);
    const std::string_view text = std::string_view(pending_).substr(space);
    if (text.starts_with(call_open_)) {
      pending_.erase(0, space + call_open_.size());
      return begin_call();
    }
    const bool closed = text.starts_with(section_.close);
    if (!closed && !last && (may_become(text, call_open_) || may_become(text, section_.close)))
      return false;
    if (closed || text.empty()) {  // unread_: a section without a call stays content
      const std::string skipped = take(closed ? space + section_.close.size() : pending_.size());
      if (!unread_.empty()) emit_content(unread_ + skipped);
    } else {
      emit_content(unread_);
    }
    unread_.clear();
    return enter(State::kContent);
  }

  bool begin_call() {
    scanned_ = 0;
    false_ends_ = 0;
    return enter(State::kCall);
  }

  bool call(bool last) {
    std::size_t close = pending_.find(call_close_, scanned_);
    while (close != npos) {
      const CallReading reading =
          read_call(format_.tools, std::string_view(pending_).substr(0, close), types_);
      scanned_ = close + call_close_.size();
      if (reading.status != CallStatus::kIncomplete || ++false_ends_ > kMaxFalseEnds) {
        end_call(reading, scanned_);
        return enter(section_.open.empty() ? State::kContent : State::kSection);
      }
      close = pending_.find(call_close_, scanned_);
    }
    const std::size_t half_close = unfinished(pending_, call_close_);
    if (!last) {
      scanned_ = std::max(scanned_, pending_.size() - half_close);
      return false;
    }
    const std::string_view body =
        std::string_view(pending_).substr(0, pending_.size() - half_close);
    end_call(read_call(format_.tools, body, types_), pending_.size());
    return enter(State::kContent);
  }

  // size: of the call's text in pending_, closing mark included. What cannot be read becomes
  // content, marks and all.
  void end_call(const CallReading& reading, std::size_t size) {
    const std::string text = take(size);
    const std::string section_open = std::exchange(unread_, {});
    if (reading.status != CallStatus::kRead) return emit_content(section_open + call_open_ + text);
    for (const ToolCallText& call : reading.calls) {
      delta_.tool_calls.push_back({call_count_++, new_call_id(), call.name, call.arguments});
    }
    gap_.clear();
    call_is_last_ = true;
  }

  // White space at the end waits: before and between calls it is dropped.
  void emit_content(std::string_view text) {
    if (call_open_.empty()) {
      delta_.content += text;
      return;
    }
    const std::string_view body = without_trailing(text, kSpace);
    if (!body.empty()) {
      delta_.content += std::exchange(gap_, {});
      delta_.content += body;
      call_is_last_ = false;
    }
    gap_ += text.substr(body.size());
  }

  // How often a closing mark may turn out to lie inside a JSON text before the call counts as
  // broken: each costs a reading of the whole call.
  static constexpr int kMaxFalseEnds = 64;

  OutputFormat format_;
  bool split_reasoning_;
  ParameterTypes types_;
  Section section_;                     // empty: calls stand alone
  std::string call_open_, call_close_;  // empty: tool calls stay content

  State state_;
  std::string pending_;      // not yet understood
  std::string gap_;          // white space at the end of the content so far
  std::string unread_;       // the mark of an open section in which no call has been read
  std::size_t scanned_ = 0;  // how far pending_ has been searched for the call's end
  int false_ends_ = 0;
  int call_count_ = 0;
  bool call_is_last_ = false;  // no content since the latest call
  bool skip_newlines_ = false;
  OutputDelta delta_;
};

}  // namespace

std::unique_ptr<OutputParser> OutputParser::create(const OutputFormat& format,
                                                   const Options& options) {
  return std::make_unique<Machine>(format, options);
}

}  // namespace tandem::chat
