// Sampling, lengths, stops and streaming: the fields of every generation request.
#include <charconv>
#include <random>

#include <boost/json.hpp>

#include "server/generation_request.h"

namespace tandem::server {
namespace {

namespace json = boost::json;

// Every token is searched for every stop string, so their number and length have bounds.
constexpr size_t kMaxStops = 16;
constexpr size_t kMaxStopBytes = 512;
constexpr size_t kMaxStopTokens = 256;
constexpr size_t kMaxMetadata = 16;  // as OpenAI
constexpr size_t kMaxQuoted = 32;    // bytes of a key, in messages

void read_stop(Fields& fields, GenerationRequest& request) {
  const json::value* value = fields.any("stop");
  if (value == nullptr) return;
  const json::array one = {*value};
  const json::array* list = value->is_string() ? &one : value->if_array();
  if (list == nullptr || list->size() > kMaxStops) {
    return fields.fail(
        "stop", fmt::format("'stop' must be a string or a list of at most {} strings", kMaxStops));
  }
  for (const json::value& item : *list) {
    if (!item.is_string()) return fields.fail("stop", "'stop' must hold strings only");
    if (item.get_string().size() > kMaxStopBytes) {
      return fields.fail("stop",
                         fmt::format("a string of 'stop' is longer than {} bytes", kMaxStopBytes));
    }
    request.stop.emplace_back(item.get_string());
  }
}

std::optional<tokenizer::TokenId> token_id(const json::value& value, const Model& model) {
  if (!value.is_int64() || value.get_int64() < 0 || value.get_int64() >= model.vocab_size) {
    return std::nullopt;
  }
  return static_cast<tokenizer::TokenId>(value.get_int64());
}

void read_logit_bias(Fields& fields, const Model& model, GenerationRequest& request) {
  const json::object* map = fields.object("logit_bias");
  if (map == nullptr) return;
  for (const auto& [key, value] : *map) {
    int id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 ||
        id >= model.vocab_size) {
      return fields.fail(
          "logit_bias", fmt::format("'logit_bias' names '{}', which is no token id below {}",
                                    std::string_view(key).substr(0, kMaxQuoted), model.vocab_size));
    }
    if (!value.is_number() || !(std::abs(value.to_number<double>()) <= 100.0)) {
      return fields.fail("logit_bias", "'logit_bias' values must be numbers from -100 to 100");
    }
    const auto bias = value.to_number<float>();
    // OpenAI: -100 bans a token outright.
    request.sampling.logit_bias.push_back(
        {id, bias <= -100.0F ? -std::numeric_limits<float>::infinity() : bias});
  }
}

void read_stop_token_ids(Fields& fields, const Model& model, GenerationRequest& request) {
  const json::array* list = fields.array("stop_token_ids");
  if (list == nullptr) return;
  if (list->size() > kMaxStopTokens) {
    return fields.fail("stop_token_ids",
                       fmt::format("'stop_token_ids' has more than {} ids", kMaxStopTokens));
  }
  for (const json::value& item : *list) {
    const auto id = token_id(item, model);
    if (!id) {
      return fields.fail("stop_token_ids", "'stop_token_ids' must hold token ids of the model");
    }
    request.stop_token_ids.push_back(*id);
  }
}

void read_stream(Fields& fields, GenerationRequest& request) {
  request.stream = fields.boolean("stream").value_or(false);
  const json::object* options = fields.object("stream_options");
  if (options == nullptr) return;
  if (!request.stream) {
    return fields.fail("stream_options", "'stream_options' is only allowed when 'stream' is true");
  }
  Fields inner(*options);
  request.include_usage = inner.boolean("include_usage").value_or(false);
  request.continuous_usage = inner.boolean("continuous_usage_stats").value_or(false);
  if (inner.failure()) fields.fail("stream_options", inner.failure()->message);
}

uint64_t random_seed() {
  thread_local std::mt19937_64 generator{std::random_device{}()};
  return generator();
}

void read_sampling(Fields& fields, const Options& options, scheduler::SamplingParams& sampling) {
  const auto real = [&](std::string_view name, double lowest, double highest, double fallback) {
    return static_cast<float>(fields.number(name, lowest, highest).value_or(fallback));
  };
  sampling.temperature = real("temperature", 0.0, 2.0, options.temperature.value_or(1.0F));
  sampling.top_p = real("top_p", 0.0, 1.0, options.top_p.value_or(1.0F));
  sampling.min_p = real("min_p", 0.0, 1.0, 0.0);
  sampling.frequency_penalty = real("frequency_penalty", -2.0, 2.0, 0.0);
  sampling.presence_penalty = real("presence_penalty", -2.0, 2.0, 0.0);
  sampling.top_k = static_cast<int32_t>(
      fields.integer("top_k", -1, INT32_MAX).value_or(options.top_k.value_or(0)));
  if (sampling.top_k < 0) sampling.top_k = 0;
  sampling.repetition_penalty =
      real("repetition_penalty", 0.01, 100.0, options.repetition_penalty.value_or(1.0F));
  if (fields.any("repeat_penalty") != nullptr) {  // llama.cpp's name
    sampling.repetition_penalty = real("repeat_penalty", 0.01, 100.0, 1.0);
  }
  const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX);
  sampling.seed = seed ? static_cast<uint64_t>(*seed) : random_seed();
}

// What has no effect on the answer, and hints.
void read_labels(Fields& fields) {
  for (const char* name : {"model", "user", "safety_identifier", "prompt_cache_key",
                           "prompt_cache_retention", "service_tier"}) {
    fields.text(name);
  }
  if (const json::object* metadata = fields.object("metadata");
      metadata != nullptr && metadata->size() > kMaxMetadata) {
    fields.fail("metadata", fmt::format("'metadata' has more than {} entries", kMaxMetadata));
  }
  if (fields.boolean("store").value_or(false)) fields.ignore("store");
  fields.accept({"prompt_cache_options", "prediction", "cache_prompt",
                 "spaces_between_special_tokens", "id_slot", "mm_processor_kwargs",
                 "length_penalty", "request_id"});
}

}  // namespace

std::optional<int64_t> read_max_tokens(Fields& fields) {
  auto max_tokens = fields.integer("max_tokens", -1, INT32_MAX);
  if (max_tokens == 0) fields.fail("max_tokens", "'max_tokens' must be at least 1, or -1");
  if (const auto predict = fields.integer("n_predict", -1, INT32_MAX)) {  // llama.cpp's name
    if (predict == 0) fields.fail("n_predict", "'n_predict' must be at least 1, or -1");
    if (!max_tokens) max_tokens = predict;
  }
  return max_tokens;
}

void read_common_fields(Fields& fields, const Options& options, const Model& model,
                        GenerationRequest& request) {
  read_sampling(fields, options, request.sampling);
  read_stop(fields, request);
  read_logit_bias(fields, model, request);
  read_stop_token_ids(fields, model, request);
  read_stream(fields, request);
  request.choices = static_cast<int>(fields.integer("n", 1, 128).value_or(1));
  if (request.choices > options.max_choices) {
    fields.fail(
        "n", fmt::format("'n' is {}, this server allows {}", request.choices, options.max_choices));
  }
  request.min_tokens = static_cast<int32_t>(fields.integer("min_tokens", 0, INT32_MAX).value_or(0));
  request.timeout = options.request_timeout;
  // LiteLLM's name and unit. A client may ask for less than the server allows, not for more.
  if (const auto timeout = fields.number("timeout", 0.0, 1e9); timeout && *timeout > 0.0) {
    request.timeout = request.timeout > 0.0 ? std::min(request.timeout, *timeout) : *timeout;
  }
  request.ignore_eos = fields.boolean("ignore_eos").value_or(false);
  request.include_stop = fields.boolean("include_stop_str_in_output").value_or(false);
  request.skip_special = fields.boolean("skip_special_tokens").value_or(true);
  read_labels(fields);
  fields.refuse("use_beam_search", "there is no beam search");
  for (const char* name : {"guided_json", "guided_regex", "guided_choice", "guided_grammar",
                           "grammar", "structured_outputs", "json_schema"}) {
    fields.refuse(name, "constrained output is not available");
  }
  for (const char* name :
       {"prompt_logprobs", "bad_words", "allowed_token_ids", "truncate_prompt_tokens",
        "return_token_ids", "mirostat", "dry_multiplier", "xtc_probability", "n_probs"}) {
    fields.refuse(name, "this server does not have it");
  }
  // Samplers of llama.cpp, with the value at which each does nothing.
  for (const auto& [name, neutral] :
       {std::pair("typical_p", 1.0), std::pair("top_n_sigma", -1.0)}) {
    const auto value = fields.number(name, -1.0, 100.0);
    if (value && *value != neutral) {
      fields.fail(name, fmt::format("'{}' is not supported: this server does not have it", name),
                  "unsupported_parameter");
    }
  }
}

Result<std::vector<tokenizer::TokenId>> tokenize_prompt(const std::string& text, const Model& model,
                                                        const char* param) {
  if (static_cast<int64_t>(text.size()) > model.max_prompt_bytes) {
    return Failure{.message = fmt::format(
                       "This model's maximum context length is {} tokens. However, your messages "
                       "have {} bytes, and no more than {} can fit.",
                       model.context_length, text.size(), model.max_prompt_bytes),
                   .param = param,
                   .code = "context_length_exceeded"};
  }
  return model.tokenizer->encode(text, {.add_bos = true, .parse_special = true});
}

std::optional<Failure> check_fields(const Fields& fields, const Options& options,
                                    GenerationRequest& request) {
  if (fields.failure()) return fields.failure();
  request.ignored_fields = fields.ignored();
  if (options.strict_params && !request.ignored_fields.empty()) {
    const std::string& name = request.ignored_fields.front();
    return Failure{.message = fmt::format("the field '{}' is unknown or has no effect here", name),
                   .param = name,
                   .code = "unknown_parameter"};
  }
  return std::nullopt;
}

}  // namespace tandem::server
