// JSON of answers: chat completions and text completions, whole and in chunks.
#pragma once

#include <string>
#include <vector>

#include <boost/json/object.hpp>

#include "server/choice.h"

namespace tandem::server {

// What all parts of an answer share.
struct AnswerHead {
  RequestKind kind;
  std::string id;   // "chatcmpl-..." or "cmpl-..."
  int64_t created;  // seconds since 1970
  std::string model;
};

struct Usage {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
  int64_t reasoning_tokens = 0;
};
boost::json::object to_json(const Usage& usage);

// A choice gathered to the end.
struct GatheredChoice {
  std::string content = {};
  std::string reasoning = {};
  std::vector<chat::OutputDelta::ToolCall> tool_calls = {};
  std::vector<TokenInfo> tokens = {};
  std::string finish_reason = {};

  void append(ChoiceDelta delta);
};

std::string whole_answer(const AnswerHead& head, const GenerationRequest& request,
                         const std::vector<GatheredChoice>& choices, const Usage& usage);

// What a chunk says about usage: nothing unless the client asked for it; then null, or the numbers
// so far.
struct ChunkUsage {
  bool asked = false;
  const Usage* usage = nullptr;
};

// Server-sent events of one chunk each.
std::string role_chunk(const AnswerHead& head, int index, ChunkUsage usage);
std::string delta_chunk(const AnswerHead& head, const GenerationRequest& request, int index,
                        const ChoiceDelta& delta, ChunkUsage usage);
std::string finish_chunk(const AnswerHead& head, int index, const char* reason, ChunkUsage usage);
std::string usage_chunk(const AnswerHead& head, const Usage& usage);
std::string echo_chunk(const AnswerHead& head, int index, const std::string& text,
                       ChunkUsage usage);

// "data: ...\n\n"
std::string sse_event(const std::string& data);
inline constexpr char kSseDone[] = "data: [DONE]\n\n";
inline constexpr char kSsePing[] = ": ping\n\n";

}  // namespace tandem::server
