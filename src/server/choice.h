// One choice of a request while it is generated: token events in, text, reasoning and tool calls
// out.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/generation_request.h"
#include "server/stop_matcher.h"
#include "tokenizer/detokenizer.h"

namespace tandem::server {

// A token as answers show it.
struct TokenInfo {
  std::string bytes;
  float logprob = 0.0F;
  std::vector<std::pair<std::string, float>> top = {};
  int64_t text_offset = 0;  // characters of the choice's text before it
};

struct ChoiceDelta {
  chat::OutputDelta output;
  std::vector<TokenInfo> tokens;  // with logprobs
  bool empty() const {
    return output.content.empty() && output.reasoning.empty() && output.tool_calls.empty() &&
           tokens.empty();
  }
};

class Choice {
 public:
  // request and model must outlive the choice. prompt: the one of the request's that it answers.
  Choice(const GenerationRequest& request, const Model& model, size_t prompt);

  // What became visible with the event. finished() is true after the last one, or after a stop
  // string.
  ChoiceDelta push(const scheduler::TokenEvent& event);

  bool finished() const { return finished_; }
  // It was ended here, not by the scheduler: its generation is to be cancelled.
  bool ended_early() const { return ended_early_; }
  const char* finish_reason() const { return finish_reason_; }
  int32_t output_tokens() const { return output_tokens_; }
  int32_t reasoning_tokens() const { return reasoning_tokens_; }
  // Not empty: the generation failed.
  const std::string& error() const { return error_; }

 private:
  bool shows(tokenizer::TokenId id) const;
  TokenInfo describe(const scheduler::TokenEvent& event);
  void append(chat::OutputDelta delta, ChoiceDelta& to);
  void finish(const char* reason, ChoiceDelta& delta);

  const GenerationRequest& request_;
  const Model& model_;
  tokenizer::Detokenizer detokenizer_;
  StopMatcher stop_;
  std::unique_ptr<chat::OutputParser> parser_;  // chat only
  bool begun_ = false;
  bool finished_ = false;
  bool ended_early_ = false;
  int tool_calls_ = 0;
  int32_t output_tokens_ = 0;
  int32_t reasoning_tokens_ = 0;
  int32_t attributed_tokens_ = 0;  // known to be reasoning or not
  int64_t characters_ = 0;         // of all tokens described
  const char* finish_reason_ = "stop";
  std::string error_;
};

}  // namespace tandem::server
