// The shapes of OpenAI's API, field by field.
#include "server/answers.h"

#include <algorithm>
#include <cmath>

#include <boost/json.hpp>

#include "base/json.h"
#include "server/version.h"
#include "tokenizer/detokenizer.h"

namespace tandem::server {
namespace {

namespace json = boost::json;

// Bytes as valid UTF-8: what is none becomes U+FFFD.
json::string printable(const std::string& bytes) {
  return json::string(tokenizer::to_valid_utf8(bytes));
}

json::array byte_values(const std::string& bytes) {
  json::array values;
  for (const char c : bytes) values.push_back(static_cast<unsigned char>(c));
  return values;
}

// Six decimals; JSON has no infinities, so a banned token gets OpenAI's -9999.
double logprob_json(float logprob) {
  return std::round(std::max(static_cast<double>(logprob), -9999.0) * 1e6) / 1e6;
}

json::object token_json(const std::string& bytes, float logprob) {
  return {{"token", printable(bytes)},
          {"logprob", logprob_json(logprob)},
          {"bytes", byte_values(bytes)}};
}

json::value chat_logprobs(const GenerationRequest& request, const std::vector<TokenInfo>& tokens) {
  if (!request.logprobs) return nullptr;
  json::array content;
  for (const TokenInfo& token : tokens) {
    json::object entry = token_json(token.bytes, token.logprob);
    json::array top;
    for (const auto& [bytes, logprob] : token.top) top.push_back(token_json(bytes, logprob));
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return json::object{{"content", std::move(content)}, {"refusal", nullptr}};
}

// The older form: parallel arrays.
json::value completion_logprobs(const GenerationRequest& request,
                                const std::vector<TokenInfo>& tokens) {
  if (!request.logprobs) return nullptr;
  json::array texts, logprobs, tops, offsets;
  for (const TokenInfo& token : tokens) {
    texts.push_back(printable(token.bytes));
    logprobs.push_back(logprob_json(token.logprob));
    json::object top;
    // Of tokens with the same text the first, which is the likeliest, stays.
    for (const auto& [bytes, logprob] : token.top) {
      top.emplace(printable(bytes), logprob_json(logprob));
    }
    tops.push_back(std::move(top));
    offsets.push_back(token.text_offset);
  }
  return json::object{{"tokens", texts},
                      {"token_logprobs", logprobs},
                      {"top_logprobs", tops},
                      {"text_offset", offsets}};
}

json::object call_json(const chat::OutputDelta::ToolCall& call, bool with_index) {
  json::object function;
  if (!call.name.empty()) function["name"] = call.name;
  function["arguments"] = call.arguments;
  json::object out;
  if (with_index) out["index"] = call.index;
  if (!call.id.empty()) {
    out["id"] = call.id;
    out["type"] = "function";
  }
  out["function"] = std::move(function);
  return out;
}

json::object envelope(const AnswerHead& head, bool chunk) {
  const char* object = head.kind == RequestKind::kCompletion ? "text_completion"
                       : chunk                               ? "chat.completion.chunk"
                                                             : "chat.completion";
  return {{"id", head.id},
          {"object", object},
          {"created", head.created},
          {"model", head.model},
          {"system_fingerprint", fmt::format("tandem-{}", kVersion)}};
}

std::string chunk_event(const AnswerHead& head, json::object choice, ChunkUsage usage) {
  json::object chunk = envelope(head, true);
  chunk["choices"] = json::array{std::move(choice)};
  if (usage.asked) {
    chunk["usage"] =
        usage.usage == nullptr ? json::value(nullptr) : json::value(to_json(*usage.usage));
  }
  return sse_event(to_string(chunk));
}

json::object choice_json(const AnswerHead& head, const GenerationRequest& request, int index,
                         const GatheredChoice& c) {
  if (head.kind == RequestKind::kCompletion) {
    return {{"index", index},
            {"text", c.content},
            {"logprobs", completion_logprobs(request, c.tokens)},
            {"finish_reason", c.finish_reason}};
  }
  json::object message = {{"role", "assistant"}};
  if (c.content.empty() && !c.tool_calls.empty()) {
    message["content"] = nullptr;
  } else {
    message["content"] = c.content;
  }
  message["refusal"] = nullptr;
  if (!c.reasoning.empty()) message["reasoning_content"] = c.reasoning;
  if (!c.tool_calls.empty()) {
    json::array calls;
    for (const auto& call : c.tool_calls) calls.push_back(call_json(call, false));
    message["tool_calls"] = std::move(calls);
  }
  return {{"index", index},
          {"message", std::move(message)},
          {"logprobs", chat_logprobs(request, c.tokens)},
          {"finish_reason", c.finish_reason}};
}

}  // namespace

json::object to_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}, {"audio_tokens", 0}}},
          {"completion_tokens_details",
           {{"reasoning_tokens", usage.reasoning_tokens},
            {"audio_tokens", 0},
            {"accepted_prediction_tokens", 0},
            {"rejected_prediction_tokens", 0}}}};
}

void GatheredChoice::append(ChoiceDelta delta) {
  content += delta.output.content;
  reasoning += delta.output.reasoning;
  for (auto& call : delta.output.tool_calls) {
    if (!tool_calls.empty() && tool_calls.back().index == call.index) {
      tool_calls.back().arguments += call.arguments;
    } else {
      tool_calls.push_back(std::move(call));
    }
  }
  tokens.insert(tokens.end(), std::make_move_iterator(delta.tokens.begin()),
                std::make_move_iterator(delta.tokens.end()));
}

std::string whole_answer(const AnswerHead& head, const GenerationRequest& request,
                         const std::vector<GatheredChoice>& choices, const Usage& usage) {
  json::object answer = envelope(head, false);
  json::array list;
  for (size_t i = 0; i < choices.size(); ++i) {
    list.push_back(choice_json(head, request, static_cast<int>(i), choices[i]));
  }
  answer["choices"] = std::move(list);
  answer["usage"] = to_json(usage);
  answer["service_tier"] = "default";
  return to_string(answer);
}

std::string role_chunk(const AnswerHead& head, int index, ChunkUsage usage) {
  return chunk_event(head,
                     {{"index", index},
                      {"delta", {{"role", "assistant"}, {"content", ""}}},
                      {"logprobs", nullptr},
                      {"finish_reason", nullptr}},
                     usage);
}

std::string delta_chunk(const AnswerHead& head, const GenerationRequest& request, int index,
                        const ChoiceDelta& d, ChunkUsage usage) {
  if (head.kind == RequestKind::kCompletion) {
    return chunk_event(head,
                       {{"index", index},
                        {"text", d.output.content},
                        {"logprobs", completion_logprobs(request, d.tokens)},
                        {"finish_reason", nullptr}},
                       usage);
  }
  json::object delta;
  if (!d.output.reasoning.empty()) delta["reasoning_content"] = d.output.reasoning;
  if (!d.output.content.empty()) delta["content"] = d.output.content;
  if (!d.output.tool_calls.empty()) {
    json::array calls;
    for (const auto& call : d.output.tool_calls) calls.push_back(call_json(call, true));
    delta["tool_calls"] = std::move(calls);
  }
  return chunk_event(head,
                     {{"index", index},
                      {"delta", std::move(delta)},
                      {"logprobs", chat_logprobs(request, d.tokens)},
                      {"finish_reason", nullptr}},
                     usage);
}

std::string finish_chunk(const AnswerHead& head, int index, const char* reason, ChunkUsage usage) {
  json::object choice = {{"index", index}};
  if (head.kind == RequestKind::kCompletion) {
    choice["text"] = "";
  } else {
    choice["delta"] = json::object();
  }
  choice["logprobs"] = nullptr;
  choice["finish_reason"] = reason;
  return chunk_event(head, std::move(choice), usage);
}

std::string usage_chunk(const AnswerHead& head, const Usage& usage) {
  json::object chunk = envelope(head, true);
  chunk["choices"] = json::array();
  chunk["usage"] = to_json(usage);
  return sse_event(to_string(chunk));
}

std::string echo_chunk(const AnswerHead& head, int index, const std::string& text,
                       ChunkUsage usage) {
  return chunk_event(
      head, {{"index", index}, {"text", text}, {"logprobs", nullptr}, {"finish_reason", nullptr}},
      usage);
}

std::string sse_event(const std::string& data) { return "data: " + data + "\n\n"; }

}  // namespace tandem::server
