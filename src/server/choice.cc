// Tokens -> text -> stop strings -> reasoning, content, tool calls.
#include "server/choice.h"

#include <algorithm>

namespace tandem::server {

using scheduler::FinishReason;

namespace {

chat::OutputParser::Options parser_options(const GenerationRequest& request) {
  return {.starts_in_reasoning = request.starts_in_reasoning,
          .split_reasoning = request.split_reasoning,
          .parse_tools = request.parse_tools,
          .tools = request.parse_tools ? &request.tools : nullptr};
}

int64_t count_characters(std::string_view utf8) {
  return std::count_if(utf8.begin(), utf8.end(),
                       [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
}

}  // namespace

Choice::Choice(const GenerationRequest& request, const Model& model, size_t prompt)
    : request_(request),
      model_(model),
      detokenizer_(*model.tokenizer, false),
      stop_(request.stop, request.include_stop) {
  if (request.kind == RequestKind::kChat) {
    parser_ = chat::OutputParser::create(model.output_format, parser_options(request));
  } else {
    // The text goes on where the prompt ends: a leading space stays.
    detokenizer_.push(request.prompts[prompt].back());
  }
}

// Control tokens are hidden, except those that the output parser lives on.
bool Choice::shows(tokenizer::TokenId id) const {
  if (!request_.skip_special || !model_.tokenizer->is_special(id)) return true;
  if (parser_ == nullptr) return false;
  const std::string_view text = model_.tokenizer->bytes(id);
  return is_thinking_mark(model_.output_format, text) ||
         (request_.parse_tools && is_tool_mark(model_.output_format, text));
}

TokenInfo Choice::describe(const scheduler::TokenEvent& event) {
  const tokenizer::Tokenizer& tokenizer = *model_.tokenizer;
  TokenInfo info{.bytes = std::string(tokenizer.bytes(event.token)),
                 .logprob = event.logprob,
                 .text_offset = characters_};
  for (const auto& [token, logprob] : event.top) {
    info.top.emplace_back(std::string(tokenizer.bytes(token)), logprob);
  }
  characters_ += count_characters(info.bytes);
  return info;
}

void Choice::append(chat::OutputDelta delta, ChoiceDelta& to) {
  if (request_.show_reasoning) to.output.reasoning += delta.reasoning;
  to.output.content += delta.content;
  for (chat::OutputDelta::ToolCall& call : delta.tool_calls) {
    if (!request_.parallel_tool_calls && call.index > 0) continue;
    tool_calls_ = std::max(tool_calls_, call.index + 1);
    to.output.tool_calls.push_back(std::move(call));
  }
  if (!delta.reasoning.empty() || !delta.content.empty() || !delta.tool_calls.empty()) {
    // Tokens held back until now belong to what they became.
    if (!delta.reasoning.empty()) reasoning_tokens_ += output_tokens_ - attributed_tokens_;
    attributed_tokens_ = output_tokens_;
  }
}

void Choice::finish(const char* reason, ChoiceDelta& delta) {
  finished_ = true;
  if (parser_ != nullptr) append(parser_->finish(), delta);
  finish_reason_ = tool_calls_ > 0 && std::string_view(reason) == "stop" ? "tool_calls" : reason;
}

ChoiceDelta Choice::push(const scheduler::TokenEvent& event) {
  ChoiceDelta delta;
  if (finished_) return delta;
  output_tokens_ = event.output_tokens;
  if (event.finish == FinishReason::kError || event.finish == FinishReason::kCancelled) {
    const bool failed = event.finish == FinishReason::kError;
    error_ = failed ? "the generation failed: " + event.error : "the generation was cancelled";
    finished_ = true;
    return delta;
  }
  if (!begun_) delta.output.content = request_.content_prefix;
  begun_ = true;

  std::string text;
  if (event.finish != FinishReason::kStop && shows(event.token)) {
    text = detokenizer_.push(event.token);
    if (request_.logprobs) delta.tokens.push_back(describe(event));
  }
  const bool last = event.finish != FinishReason::kNone;
  if (last) text += detokenizer_.flush();
  // Before min_tokens nothing ends the text.
  std::string visible = output_tokens_ > request_.min_tokens ? stop_.push(text) : std::move(text);
  if (last && !stop_.matched()) visible += stop_.flush();
  if (parser_ != nullptr) {
    append(parser_->push(visible), delta);
  } else {
    delta.output.content += visible;
  }

  const bool only_call_done = !request_.parallel_tool_calls && tool_calls_ > 0;
  if (stop_.matched() || only_call_done) {
    ended_early_ = !last;
    finish("stop", delta);
  } else if (last) {
    finish(event.finish == FinishReason::kLength ? "length" : "stop", delta);
  }
  return delta;
}

}  // namespace tandem::server
