// POST /v1/chat/completions: messages, tools and thinking switches -> a prompt by the model's
// template.
#include <algorithm>
#include <array>
#include <ctime>

#include <boost/json.hpp>
#include <fmt/format.h>

#include "chat/shield.h"
#include "server/generation_request.h"

namespace tandem::server {
namespace {

namespace json = boost::json;

constexpr char kNoConstraints[] = "constrained output is not available";

class ChatRequestParser {
 public:
  ChatRequestParser(const json::object& body, const Options& options, const Model& model)
      : fields_(body), options_(options), model_(model) {}

  Result<GenerationRequest> parse() {
    if (model_.chat_template == nullptr) {
      const std::string& why = model_.chat_template_error;
      return Failure{.message = why.empty() ? "this model has no chat template; use /v1/completions"
                                            : "this model's chat template is unusable: " + why,
                     .code = "chat_template_error"};
    }
    request_.kind = RequestKind::kChat;
    read_common_fields(fields_, options_, model_, request_);
    read_lengths();
    read_logprobs();
    read_template_arguments();
    read_thinking();
    read_tools();
    refuse_what_is_missing();
    messages_ = read_messages(fields_, model_);
    if (auto failure = check_fields(fields_, options_, request_)) return *failure;
    return render();
  }

 private:
  json::value shielded(json::value value) const {
    chat::shield_strings(value, model_.tokenizer->special_texts(), tokenizer::kShield);
    return value;
  }

  void read_lengths() {
    const auto max_tokens = read_max_tokens(fields_);
    const auto completion = fields_.integer("max_completion_tokens", 1, INT32_MAX);
    request_.max_tokens = completion.value_or(max_tokens.value_or(-1));
  }

  void read_logprobs() {
    request_.logprobs = fields_.boolean("logprobs").value_or(false);
    const auto top = fields_.integer("top_logprobs", 0, 20);
    if (top && !request_.logprobs) {
      fields_.fail("top_logprobs", "'top_logprobs' needs 'logprobs' to be true");
    }
    if (request_.logprobs) request_.sampling.top_logprobs = static_cast<int32_t>(top.value_or(0));
  }

  void read_template_arguments() {
    if (const json::object* arguments = fields_.object("chat_template_kwargs")) {
      context_ = shielded(*arguments).get_object();
    }
    if (const json::array* documents = fields_.array("documents")) {
      context_["documents"] = shielded(*documents);
    }
    if (const auto verbosity = fields_.text("verbosity")) {
      context_["verbosity"] = shielded(json::string(*verbosity));
    }
    continue_final_ = fields_.boolean("continue_final_message").value_or(false);
    const auto generation_prompt = fields_.boolean("add_generation_prompt");
    if (continue_final_ && generation_prompt.value_or(false)) {
      fields_.fail("continue_final_message",
                   "'continue_final_message' and 'add_generation_prompt' exclude each other");
    }
    context_["add_generation_prompt"] = generation_prompt.value_or(!continue_final_);
  }

  void read_thinking() {
    if (const auto effort = fields_.text("reasoning_effort")) {
      constexpr std::array<std::string_view, 7> kEfforts = {"none", "minimal", "low", "medium",
                                                            "high", "xhigh",   "max"};
      if (std::find(kEfforts.begin(), kEfforts.end(), *effort) == kEfforts.end()) {
        return fields_.fail("reasoning_effort", fmt::format("'reasoning_effort' must be one of {}",
                                                            fmt::join(kEfforts, ", ")));
      }
      context_["reasoning_effort"] = json::string(*effort);
      switch_thinking(*effort != "none");
    }
    if (const json::object* thinking = fields_.object("thinking")) {
      const json::value* type = thinking->if_contains("type");
      const json::value enabled = "enabled", disabled = "disabled";
      if (type == nullptr || (*type != enabled && *type != disabled)) {
        return fields_.fail(
            "thinking", "'thinking' must be {\"type\": \"enabled\"} or {\"type\": \"disabled\"}");
      }
      switch_thinking(*type == enabled);
    }
    const auto format = fields_.text("reasoning_format");
    if (format && *format != "none" && *format != "auto" && *format != "deepseek") {
      fields_.fail("reasoning_format", "'reasoning_format' must be none, auto or deepseek");
    }
    request_.split_reasoning = format != "none";
    request_.show_reasoning = fields_.boolean("include_reasoning").value_or(true);
  }

  // Templates differ in the name they use.
  void switch_thinking(bool on) { context_["enable_thinking"] = context_["thinking"] = on; }

  void read_tools() {
    const json::array* tools = fields_.array("tools");
    if (tools != nullptr && !check_tools(*tools)) return;
    request_.parallel_tool_calls = fields_.boolean("parallel_tool_calls").value_or(true);
    bool use_tools = tools != nullptr && !tools->empty();
    if (const json::value* choice = fields_.any("tool_choice")) {
      const json::value none = "none", automatic = "auto", required = "required";
      if (choice->is_object() || *choice == required) {
        return fields_.fail("tool_choice",
                            "'tool_choice' can be none or auto; a forced call needs constrained "
                            "output, which is not available",
                            "unsupported_parameter");
      }
      if (*choice != none && *choice != automatic) {
        return fields_.fail("tool_choice", "'tool_choice' must be none or auto");
      }
      use_tools = use_tools && *choice == automatic;
    }
    if (!use_tools) return;
    request_.parse_tools = true;
    request_.tools = *tools;
    context_["tools"] = shielded(*tools);
  }

  bool check_tools(const json::array& tools) {
    for (const json::value& tool : tools) {
      const json::object* object = tool.if_object();
      const json::value* type = object == nullptr ? nullptr : object->if_contains("type");
      if (type == nullptr || !type->is_string()) {
        fields_.fail("tools", "each of 'tools' must be an object with a type");
        return false;
      }
      if (type->get_string() != "function") {
        fields_.fail("tools", "only tools of type 'function' are supported",
                     "unsupported_tool_type");
        return false;
      }
      const json::value* function = object->if_contains("function");
      const json::value* name = function == nullptr || !function->is_object()
                                    ? nullptr
                                    : function->get_object().if_contains("name");
      if (name == nullptr || !name->is_string()) {
        fields_.fail("tools", "the function of a tool must have a name");
        return false;
      }
    }
    return true;
  }

  void refuse_what_is_missing() {
    if (const json::object* format = fields_.object("response_format")) {
      const json::value* type = format->if_contains("type");
      if (type == nullptr || !type->is_string()) {
        fields_.fail("response_format", "'response_format' must have a type");
      } else if (type->get_string() != "text") {
        fields_.fail("response_format",
                     fmt::format("{}; 'response_format' can only be text", kNoConstraints),
                     "unsupported_parameter");
      }
    }
    if (const json::array* modalities = fields_.array("modalities")) {
      const json::value text = "text";
      const bool only_text = std::all_of(modalities->begin(), modalities->end(),
                                         [&](const json::value& item) { return item == text; });
      if (!only_text) {
        fields_.fail("modalities", "only the modality 'text' is supported",
                     "unsupported_parameter");
      }
    }
    for (const char* name : {"audio", "web_search_options", "moderation"}) {
      fields_.refuse(name, "this server has text only");
    }
    for (const char* name : {"functions", "function_call"}) {
      fields_.refuse(name, "use 'tools' and 'tool_choice'");
    }
    fields_.refuse("chat_template", "the model's own template is used");
    fields_.refuse("echo", "it belongs to /v1/completions");
    fields_.refuse("thinking_token_budget", "this server does not have it");
    if (const auto best_of = fields_.integer("best_of", 1, 128); best_of && *best_of != 1) {
      fields_.fail("best_of", "'best_of' is not supported for chat", "unsupported_parameter");
    }
  }

  Result<GenerationRequest> render() {
    const json::object& last = messages_.back().get_object();
    const bool ends_in_assistant = last.at("role").get_string() == "assistant";
    const std::string last_content(last.at("content").get_string());
    context_["messages"] = std::move(messages_);
    const tokenizer::Tokenizer& tokenizer = *model_.tokenizer;
    context_["bos_token"] = json::string(tokenizer.bytes(tokenizer.bos()));
    context_["eos_token"] = json::string(tokenizer.bytes(tokenizer.eos()));
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    Result<std::string> rendered = model_.chat_template->render(context_, local);
    if (!rendered) {
      Failure failure = rendered.failure();
      failure.param = "messages";
      return failure;
    }
    std::string prompt = std::move(*rendered);
    if (continue_final_ && (!ends_in_assistant || !cut_after(prompt, last_content))) {
      return Failure{
          .message = "'continue_final_message' needs a last message of the assistant's with text",
          .param = "continue_final_message"};
    }
    open_thinking(prompt);
    Result<std::vector<tokenizer::TokenId>> ids = tokenize_prompt(prompt, model_, "messages");
    if (!ids) return ids.failure();
    request_.prompts.push_back(std::move(*ids));
    if (request_.prompts[0].empty()) {
      return Failure{.message = "the messages have no tokens", .param = "messages"};
    }
    return std::move(request_);
  }

  // Cuts what the template put behind the last message; templates may trim its text.
  static bool cut_after(std::string& prompt, std::string_view content) {
    const size_t end = content.find_last_not_of(" \t\r\n");
    if (end == std::string_view::npos) return false;
    const std::string_view trimmed = content.substr(0, end + 1);
    for (const std::string_view text : {content, trimmed}) {
      const size_t at = prompt.rfind(text);
      if (at == std::string::npos) continue;
      prompt.resize(at + text.size());
      return true;
    }
    return false;
  }

  // Whether the prompt ends inside a thinking block; --force_think makes it so.
  void open_thinking(std::string& prompt) {
    const std::string& tag = model_.output_format.think_open;
    if (tag.empty()) return;
    const auto is_open = [&] {
      const size_t last = prompt.find_last_not_of(" \t\r\n");
      return last != std::string::npos &&
             std::string_view(prompt).substr(0, last + 1).ends_with(tag);
    };
    const bool forced = options_.force_think && !continue_final_;
    if (forced && !is_open()) prompt += tag + "\n";
    // Clients of the original find the tag in the text when thinking is not split off.
    if (forced && !request_.split_reasoning) request_.content_prefix = tag + "\n";
    request_.starts_in_reasoning = is_open();
  }

  Fields fields_;
  const Options& options_;
  const Model& model_;
  GenerationRequest request_;
  json::array messages_;
  json::object context_;
  bool continue_final_ = false;
};

}  // namespace

Result<GenerationRequest> parse_chat_request(const json::object& body, const Options& options,
                                             const Model& model) {
  return ChatRequestParser(body, options, model).parse();
}

}  // namespace tandem::server
