// The messages of a chat request: checked, brought to the form that templates expect, and shielded
// so that no text of a user's can spell a control token.
#include <algorithm>

#include <boost/json.hpp>

#include "base/json.h"
#include "chat/shield.h"
#include "server/generation_request.h"

namespace tandem::server {
namespace {

namespace json = boost::json;

// A string member, or nothing.
const json::string* find_string(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value == nullptr ? nullptr : value->if_string();
}

// The text of a message's content: a string, or the text parts of a list, joined. Nothing for other
// kinds of parts.
std::optional<std::string> content_text(const json::value& content) {
  if (content.is_string()) return std::string(content.get_string());
  if (!content.is_array()) return std::nullopt;
  std::string text;
  for (const json::value& part : content.get_array()) {
    const json::object* object = part.if_object();
    const json::string* type = object == nullptr ? nullptr : find_string(*object, "type");
    if (type == nullptr || (*type != "text" && *type != "refusal")) return std::nullopt;
    const json::string* piece = find_string(*object, *type);
    if (piece == nullptr) return std::nullopt;
    text += *piece;
  }
  return text;
}

// Templates want a call's arguments as an object; the API sends JSON text. What is no JSON object
// stays text. False when the calls have not the API's form.
bool convert_tool_calls(json::value& calls) {
  if (!calls.is_array()) return false;
  for (json::value& call : calls.get_array()) {
    json::object* object = call.if_object();
    json::value* function = object == nullptr ? nullptr : object->if_contains("function");
    if (function == nullptr || !function->is_object()) return false;
    if (find_string(function->get_object(), "name") == nullptr) return false;
    json::value* arguments = function->get_object().if_contains("arguments");
    if (arguments == nullptr || !arguments->is_string()) continue;
    Result<json::value> parsed = parse_json(arguments->get_string());
    if (parsed && parsed->is_object()) *arguments = std::move(*parsed);
  }
  return true;
}

// The message in the templates' form.
Result<json::object> convert_message(const json::value& value) {
  const auto fault = [](std::string what) { return Failure{.message = std::move(what)}; };
  const json::object* message = value.if_object();
  const json::string* role = message == nullptr ? nullptr : find_string(*message, "role");
  if (role == nullptr) return fault("must be an object with a role");
  json::object out = *message;
  if (*role == "developer") {
    out["role"] = "system";
  } else if (*role == "function") {
    out["role"] = "tool";
  } else if (*role != "system" && *role != "user" && *role != "assistant" && *role != "tool") {
    return fault(fmt::format("has the unknown role '{}'", std::string_view(*role).substr(0, 64)));
  }

  json::value* calls = out.if_contains("tool_calls");
  if (calls != nullptr && calls->is_null()) {
    out.erase("tool_calls");
    calls = nullptr;
  }
  if (calls != nullptr && !convert_tool_calls(*calls)) {
    return fault("has 'tool_calls' that are not a list of functions with a name");
  }
  const json::value* content = message->if_contains("content");
  if (content == nullptr || content->is_null()) {
    const bool may_lack = *role == "assistant" && calls != nullptr && !calls->get_array().empty();
    if (!may_lack) return fault("has no content");
    out["content"] = "";
  } else if (const auto text = content_text(*content)) {
    out["content"] = json::string(*text);
  } else {
    return fault(
        "must have a string or a list of text parts as content; images, audio and files are not "
        "supported");
  }
  return out;
}

// Assistant turns keep the marks that templates cut thinking and calls by; the other control tokens
// are no more theirs to say than anybody's.
std::vector<std::string> shielded_in_assistant(const Model& model) {
  std::vector<std::string> texts;
  for (const std::string& text : model.tokenizer->special_texts()) {
    const bool mark =
        is_thinking_mark(model.output_format, text) || is_tool_mark(model.output_format, text);
    if (!mark) texts.push_back(text);
  }
  return texts;
}

// All messages at once, as the cost of preparing the special texts is paid at each call.
json::array shield_messages(const json::array& messages, const Model& model) {
  json::value of_assistant = json::array(), of_others = json::array();
  const auto list_of = [&](const json::value& message) -> json::array& {
    const bool assistant = message.get_object().at("role").get_string() == "assistant";
    return (assistant ? of_assistant : of_others).get_array();
  };
  for (const json::value& message : messages) list_of(message).push_back(message);
  chat::shield_strings(of_others, model.tokenizer->special_texts(), tokenizer::kShield);
  chat::shield_strings(of_assistant, shielded_in_assistant(model), tokenizer::kShield);

  json::array shielded;
  size_t next_of_assistant = 0, next_of_others = 0;
  for (const json::value& message : messages) {
    const bool assistant = &list_of(message) == &of_assistant.get_array();
    size_t& next = assistant ? next_of_assistant : next_of_others;
    json::object out = list_of(message)[next++].get_object();
    out["role"] = message.get_object().at("role");
    shielded.push_back(std::move(out));
  }
  return shielded;
}

}  // namespace

json::array read_messages(Fields& fields, const Model& model) {
  const json::array* list = fields.array("messages");
  if (list == nullptr) {
    fields.fail("messages", "'messages' is missing", "missing_required_parameter");
    return {};
  }
  if (list->empty()) fields.fail("messages", "'messages' must not be empty");
  json::array messages;
  for (size_t i = 0; i < list->size(); ++i) {
    Result<json::object> message = convert_message((*list)[i]);
    if (!message) {
      fields.fail("messages", fmt::format("message {} {}", i, message.failure().message));
      return {};
    }
    messages.push_back(std::move(*message));
  }
  return shield_messages(messages, model);
}

}  // namespace tandem::server
