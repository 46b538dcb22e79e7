// A validated request, whatever route it came by.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>

#include "base/result.h"
#include "scheduler/scheduler.h"
#include "server/fields.h"
#include "server/model.h"
#include "server/options.h"

namespace tandem::server {

enum class RequestKind { kChat, kCompletion };

struct GenerationRequest {
  RequestKind kind = RequestKind::kChat;
  std::vector<std::vector<tokenizer::TokenId>> prompts;  // one for chat
  std::vector<std::string> echoes;  // completions with echo: the prompts' texts
  scheduler::SamplingParams sampling;
  int64_t max_tokens = -1;  // -1: the server's default
  int32_t min_tokens = 0;
  bool ignore_eos = false;
  std::vector<tokenizer::TokenId> stop_token_ids;
  std::vector<std::string> stop;
  bool include_stop = false;
  bool skip_special = true;
  int choices = 1;       // n
  double timeout = 0.0;  // seconds for all of it; 0: no end
  bool stream = false;
  bool include_usage = false;
  bool continuous_usage = false;
  bool logprobs = false;

  // Chat only.
  bool split_reasoning = true;
  bool show_reasoning = true;
  bool starts_in_reasoning = false;  // the prompt ends with an open thinking tag
  std::string content_prefix;        // what the content begins with, before the model's own text
  bool parse_tools = false;
  boost::json::array tools;
  bool parallel_tool_calls = true;

  std::vector<std::string> ignored_fields;
};

// Fields that chat and text completions share: sampling, lengths, stops, streaming.
void read_common_fields(Fields& fields, const Options& options, const Model& model,
                        GenerationRequest& request);

// The limit of the answer's tokens under its older names; -1: none.
std::optional<int64_t> read_max_tokens(Fields& fields);

// To be called when all fields were read: the first fault, if any; fields that nobody read are one
// with strict_params, otherwise they are listed in the request.
std::optional<Failure> check_fields(const Fields& fields, const Options& options,
                                    GenerationRequest& request);

// The tokens of a text, or a Failure for one that is so long that it need not be tokenised: that
// would only keep a worker busy. `param` is the field it came from.
Result<std::vector<tokenizer::TokenId>> tokenize_prompt(const std::string& text, const Model& model,
                                                        const char* param);

// The conversation as templates expect it, with user text shielded. The first fault is reported to
// `fields`.
boost::json::array read_messages(Fields& fields, const Model& model);

Result<GenerationRequest> parse_chat_request(const boost::json::object& body,
                                             const Options& options, const Model& model);
Result<GenerationRequest> parse_completion_request(const boost::json::object& body,
                                                   const Options& options, const Model& model);

}  // namespace tandem::server
