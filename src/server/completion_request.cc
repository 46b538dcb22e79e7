// POST /v1/completions: prompts as text or token ids.
#include <boost/json.hpp>

#include "server/generation_request.h"

namespace tandem::server {
namespace {

namespace json = boost::json;

constexpr size_t kMaxChoices = 128;  // prompts times n
constexpr int kDefaultMaxTokens = 16;

// An array of token ids; false when an item is none.
bool read_ids(const json::array& items, const Model& model, std::vector<tokenizer::TokenId>& ids) {
  for (const json::value& item : items) {
    if (!item.is_int64() || item.get_int64() < 0 || item.get_int64() >= model.vocab_size) {
      return false;
    }
    ids.push_back(static_cast<tokenizer::TokenId>(item.get_int64()));
  }
  return true;
}

// Appends the prompt in `value`, a string or an array of ids. The fault when it is neither, or is
// too long.
std::optional<Failure> read_prompt(const json::value& value, const Model& model,
                                   GenerationRequest& request) {
  if (const json::string* text = value.if_string()) {
    auto ids = tokenize_prompt(std::string(*text), model, "prompt");
    if (!ids) return ids.failure();
    request.prompts.push_back(std::move(*ids));
  } else if (!value.is_array() ||
             !read_ids(value.get_array(), model, request.prompts.emplace_back())) {
    return Failure{.message = fmt::format("'prompt' must be a string, a list of strings, a list of "
                                          "token ids below {} or a list of such lists",
                                          model.vocab_size)};
  }
  if (request.prompts.back().empty()) return Failure{.message = "'prompt' has no tokens"};
  return std::nullopt;
}

// prompt: string, [string], [id] or [[id]].
void read_prompts(Fields& fields, const Model& model, GenerationRequest& request) {
  const json::value* prompt = fields.any("prompt");
  if (prompt == nullptr) {
    return fields.fail("prompt", "'prompt' is missing", "missing_required_parameter");
  }
  const json::array* list = prompt->if_array();
  const bool several = list != nullptr && !list->empty() && !list->front().is_number();
  const size_t count = several ? list->size() : 1;
  if (count * static_cast<size_t>(request.choices) > kMaxChoices) {
    return fields.fail("prompt", fmt::format("{} prompts times 'n' {} are more than {} answers",
                                             count, request.choices, kMaxChoices));
  }
  for (size_t i = 0; i < count; ++i) {
    if (auto failure = read_prompt(several ? (*list)[i] : *prompt, model, request)) {
      return fields.fail("prompt", std::move(failure->message), std::move(failure->code));
    }
  }
}

}  // namespace

Result<GenerationRequest> parse_completion_request(const json::object& body, const Options& options,
                                                   const Model& model) {
  Fields fields(body);
  GenerationRequest request;
  request.kind = RequestKind::kCompletion;
  read_common_fields(fields, options, model, request);
  request.max_tokens = read_max_tokens(fields).value_or(kDefaultMaxTokens);
  if (const auto logprobs = fields.integer("logprobs", 0, 5)) {
    request.logprobs = true;
    request.sampling.top_logprobs = static_cast<int32_t>(*logprobs);
  }
  const bool echo = fields.boolean("echo").value_or(false);
  if (echo && request.logprobs) {
    fields.fail("echo", "'echo' together with 'logprobs' is not supported",
                "unsupported_parameter");
  }
  if (const auto best_of = fields.integer("best_of", 1, 128)) {
    if (*best_of != 1 && *best_of != request.choices) {
      fields.fail("best_of", "'best_of' other than 1 or 'n' is not supported",
                  "unsupported_parameter");
    }
  }
  fields.refuse("suffix", "filling in the middle is not available");
  fields.refuse("response_format", "constrained output is not available");
  // Last, as it is the expensive part.
  if (!fields.failure()) read_prompts(fields, model, request);
  if (auto failure = check_fields(fields, options, request)) return *failure;
  if (echo) {
    for (const auto& ids : request.prompts) {
      request.echoes.push_back(model.tokenizer->decode(ids, true));
    }
  }
  return request;
}

}  // namespace tandem::server
