// The spellings: JSON; DeepSeek's and Kimi's name, separator, JSON; tags around each parameter.
#include "chat/tool_calls.h"

#include <atomic>
#include <cstdint>
#include <optional>
#include <random>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/stream_parser.hpp>

namespace tandem::chat {
namespace {

namespace json = boost::json;

constexpr std::size_t npos = std::string_view::npos;

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  if (first == npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

json::parse_options lenient_bytes() {
  json::parse_options options;
  options.max_depth = 256;
  options.allow_invalid_utf8 = true;
  return options;
}

struct JsonReading {
  CallStatus status;
  json::value value = {};
};

JsonReading read_json(std::string_view text) {
  json::error_code error;
  json::value value = json::parse({text.data(), text.size()}, error, {}, lenient_bytes());
  if (!error) return {CallStatus::kRead, std::move(value)};
  if (error != json::error::incomplete) return {CallStatus::kInvalid};
  // Only inside a text may the mark that ended the call be part of the JSON.
  json::stream_parser parser({}, lenient_bytes());
  error = {};
  parser.write(text.data(), text.size(), error);
  if (!error) parser.write("<", 1, error);
  return {error ? CallStatus::kInvalid : CallStatus::kIncomplete};
}

bool is_json_object(std::string_view text) {
  const JsonReading reading = read_json(text);
  return reading.status == CallStatus::kRead && reading.value.is_object();
}

// Length of the JSON value at the beginning of text known to be valid JSON.
std::size_t value_length(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char byte = text[at];
    if (quoted) {
      if (byte == '\\') ++at;
      quoted = byte != '"';
      if (quoted || depth > 0) continue;
      return at + 1;
    }
    if (byte == '"') quoted = true;
    if (byte == '{' || byte == '[') ++depth;
    const bool closes = byte == '}' || byte == ']';
    if (depth == 0 && (byte == ',' || closes)) return at;
    if (closes && --depth == 0) return at + 1;
  }
  return text.size();
}

// The text of a member of an object known to be valid JSON, as the model wrote it; the last of
// several.
std::string_view member_text(std::string_view object, std::string_view wanted) {
  std::string_view found;
  std::size_t at = object.find('{') + 1;
  for (;;) {
    at = object.find_first_not_of(" \t\r\n,", at);
    if (at == npos || object[at] == '}') return found;
    const std::size_t key_size = value_length(object.substr(at));
    const std::string key(
        json::parse({object.data() + at, key_size}, {}, lenient_bytes()).as_string());
    at = object.find_first_not_of(" \t\r\n:", at + key_size);
    const std::size_t size = value_length(object.substr(at));
    if (key == wanted) found = trimmed(object.substr(at, size));
    at += size;
  }
}

// {"name": …, "arguments": {…}}; "parameters" is an alias, and arguments may be JSON inside a text.
std::optional<ToolCallText> call_of_object(std::string_view text, const json::value& value) {
  const auto* object = value.if_object();
  if (object == nullptr) return std::nullopt;
  const auto* name = object->if_contains("name");
  if (name == nullptr || !name->is_string() || name->get_string().empty()) return std::nullopt;
  ToolCallText call{std::string(name->get_string()), "{}"};
  const char* key = object->contains("arguments") ? "arguments" : "parameters";
  const auto* arguments = object->if_contains(key);
  if (arguments == nullptr || arguments->is_null()) return call;
  if (arguments->is_object()) {
    call.arguments = member_text(text, key);
    return call;
  }
  if (!arguments->is_string()) return std::nullopt;
  call.arguments =
      trimmed(std::string_view(arguments->get_string().data(), arguments->get_string().size()));
  if (!is_json_object(call.arguments)) return std::nullopt;
  return call;
}

CallReading read_json_call(std::string_view body) {
  const std::string_view text = trimmed(body);
  const JsonReading reading = read_json(text);
  if (reading.status != CallStatus::kRead) return {reading.status};
  auto call = call_of_object(text, reading.value);
  if (!call) return {CallStatus::kInvalid};
  return {CallStatus::kRead, {std::move(*call)}};
}

// V3.1: NAME<sep>{…}. V3 and R1: function<sep>NAME\n```json\n{…}\n```
CallReading read_deepseek_call(std::string_view body) {
  static constexpr std::string_view kSeparator = "<｜tool▁sep｜>";
  static constexpr std::string_view kFence = "```";
  const std::size_t separator = body.find(kSeparator);
  if (separator == npos) return {CallStatus::kInvalid};
  std::string_view name = trimmed(body.substr(0, separator));
  std::string_view arguments = trimmed(body.substr(separator + kSeparator.size()));
  if (!arguments.starts_with('{')) {
    const std::size_t line = std::min(arguments.find('\n'), arguments.size());
    name = trimmed(arguments.substr(0, line));
    arguments = trimmed(arguments.substr(line));
    if (arguments.starts_with(kFence)) {
      arguments =
          trimmed(arguments.substr(std::min(arguments.find_first_of("\n{"), arguments.size())));
      if (arguments.ends_with(kFence)) arguments.remove_suffix(kFence.size());
      arguments = trimmed(arguments);
    }
  }
  if (name.empty()) return {CallStatus::kInvalid};
  const JsonReading reading = read_json(arguments);
  if (reading.status != CallStatus::kRead) return {reading.status};
  if (!reading.value.is_object()) return {CallStatus::kInvalid};
  return {CallStatus::kRead, {{std::string(name), std::string(arguments)}}};
}

// functions.NAME:INDEX<argument>{…}; the index is the model's own count.
CallReading read_kimi_call(std::string_view body) {
  static constexpr std::string_view kArgument = "<|tool_call_argument_begin|>";
  static constexpr std::string_view kPrefix = "functions.";
  const std::size_t argument = body.find(kArgument);
  if (argument == npos) return {CallStatus::kInvalid};
  std::string_view name = trimmed(body.substr(0, argument));
  if (name.starts_with(kPrefix)) name.remove_prefix(kPrefix.size());
  const std::size_t colon = name.rfind(':');
  if (colon != npos && name.find_first_not_of("0123456789", colon + 1) == npos) {
    name = name.substr(0, colon);
  }
  const std::string_view arguments = trimmed(body.substr(argument + kArgument.size()));
  if (name.empty()) return {CallStatus::kInvalid};
  const JsonReading reading = read_json(arguments);
  if (reading.status != CallStatus::kRead) return {reading.status};
  if (!reading.value.is_object()) return {CallStatus::kInvalid};
  return {CallStatus::kRead, {{std::string(name), std::string(arguments)}}};
}

// Collects untyped values into a JSON object.
class ArgumentsWriter {
 public:
  ArgumentsWriter(std::string_view tool, const ParameterTypes& types)
      : tool_(tool), types_(types) {}

  void add(std::string_view parameter, std::string_view value) {
    const auto type = types_.type_of(tool_, parameter);
    const bool is_json = type != ParameterTypes::Type::kText &&
                         read_json(trimmed(value)).status == CallStatus::kRead;
    if (text_.size() > 1) text_ += ", ";
    text_ += quoted(parameter) + ": ";
    text_ += is_json ? std::string(trimmed(value)) : quoted(value);
  }

  std::string take() { return std::move(text_) + "}"; }

 private:
  static std::string quoted(std::string_view text) {
    return json::serialize(json::string_view(text.data(), text.size()));
  }

  std::string_view tool_;
  const ParameterTypes& types_;
  std::string text_ = "{";
};

std::string_view without_outer_newlines(std::string_view value) {
  if (value.starts_with('\n')) value.remove_prefix(1);
  if (value.ends_with('\n')) value.remove_suffix(1);
  return value;
}

// <function=N> <parameter=P> V </parameter> … </function>; a forgotten closing tag ends at the next
// tag.
CallReading read_xml_call(std::string_view body, const ParameterTypes& types) {
  static constexpr std::string_view kFunction = "<function=", kFunctionEnd = "</function>";
  static constexpr std::string_view kParameter = "<parameter=", kParameterEnd = "</parameter>";
  std::string_view rest = trimmed(body);
  if (!rest.starts_with(kFunction)) return {CallStatus::kInvalid};
  const std::size_t name_end = rest.find('>');
  if (name_end == npos) return {CallStatus::kInvalid};
  const std::string name(trimmed(rest.substr(kFunction.size(), name_end - kFunction.size())));
  if (name.empty()) return {CallStatus::kInvalid};
  rest = trimmed(rest.substr(name_end + 1));
  if (rest.ends_with(kFunctionEnd)) rest.remove_suffix(kFunctionEnd.size());

  ArgumentsWriter arguments(name, types);
  for (rest = trimmed(rest); !rest.empty(); rest = trimmed(rest)) {
    const std::size_t key_end = rest.find('>');
    if (!rest.starts_with(kParameter) || key_end == npos) return {CallStatus::kInvalid};
    const std::string_view key =
        trimmed(rest.substr(kParameter.size(), key_end - kParameter.size()));
    rest.remove_prefix(key_end + 1);
    const std::size_t end = std::min(rest.find(kParameterEnd), rest.size());
    const std::size_t next = std::min(rest.find(kParameter), rest.size());
    arguments.add(key, without_outer_newlines(rest.substr(0, std::min(end, next))));
    rest.remove_prefix(end <= next ? std::min(end + kParameterEnd.size(), rest.size()) : next);
  }
  return {CallStatus::kRead, {{name, arguments.take()}}};
}

// NAME <arg_key>K</arg_key> <arg_value>V</arg_value> …
CallReading read_key_value_call(std::string_view body, const ParameterTypes& types) {
  static constexpr std::string_view kTags[] = {"<arg_key>", "</arg_key>", "<arg_value>",
                                               "</arg_value>"};
  const std::size_t first = std::min(body.find(kTags[0]), body.size());
  const std::string name(trimmed(body.substr(0, first)));
  if (name.empty() || name.find_first_of(" \n<>{}") != npos) return {CallStatus::kInvalid};
  ArgumentsWriter arguments(name, types);
  std::string_view rest = trimmed(body.substr(first));
  const auto tagged = [&rest](std::string_view open,
                              std::string_view close) -> std::optional<std::string_view> {
    const std::size_t end = rest.find(close);
    if (!rest.starts_with(open) || end == npos) return std::nullopt;
    const std::string_view inside = rest.substr(open.size(), end - open.size());
    rest = trimmed(rest.substr(end + close.size()));
    return inside;
  };
  while (!rest.empty()) {
    const auto key = tagged(kTags[0], kTags[1]);
    if (!key) return {CallStatus::kInvalid};
    const auto value = tagged(kTags[2], kTags[3]);
    if (!value) return {CallStatus::kInvalid};
    arguments.add(trimmed(*key), *value);
  }
  return {CallStatus::kRead, {{name, arguments.take()}}};
}

const json::value* member(const json::value* value, std::string_view key) {
  const auto* object = value == nullptr ? nullptr : value->if_object();
  return object == nullptr ? nullptr : object->if_contains({key.data(), key.size()});
}

ParameterTypes::Type declared_type(const json::value& schema) {
  const auto* type = member(&schema, "type");
  if (type == nullptr) return ParameterTypes::Type::kUnknown;
  if (type->is_string()) {
    return type->get_string() == "string" ? ParameterTypes::Type::kText
                                          : ParameterTypes::Type::kOther;
  }
  return ParameterTypes::Type::kUnknown;
}

}  // namespace

ParameterTypes::ParameterTypes(const json::array& tools) {
  for (const json::value& tool : tools) {
    const auto* function = member(&tool, "function");
    const auto* name = member(function, "name");
    const auto* properties = member(member(function, "parameters"), "properties");
    if (name == nullptr || !name->is_string() || properties == nullptr || !properties->is_object())
      continue;
    auto& known = types_[std::string(name->get_string())];
    for (const auto& property : properties->get_object()) {
      known[std::string(property.key())] = declared_type(property.value());
    }
  }
}

ParameterTypes::Type ParameterTypes::type_of(std::string_view tool,
                                             std::string_view parameter) const {
  const auto found = types_.find(tool);
  if (found == types_.end()) return Type::kUnknown;
  const auto type = found->second.find(parameter);
  return type == found->second.end() ? Type::kUnknown : type->second;
}

CallReading read_call(OutputFormat::Tools format, std::string_view body,
                      const ParameterTypes& types) {
  switch (format) {
    case OutputFormat::Tools::kJsonInTags:
      return read_json_call(body);
    case OutputFormat::Tools::kDeepSeek:
      return read_deepseek_call(body);
    case OutputFormat::Tools::kKimi:
      return read_kimi_call(body);
    case OutputFormat::Tools::kXmlParameters:
      return read_xml_call(body, types);
    case OutputFormat::Tools::kArgKeyValue:
      return read_key_value_call(body, types);
    case OutputFormat::Tools::kNone:
      break;
  }
  return {CallStatus::kInvalid};
}

std::string new_call_id() {
  static constexpr std::string_view kAlphabet =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  static const std::uint64_t kStart =
      (std::uint64_t{std::random_device{}()} << 32) | std::random_device{}();
  static std::atomic<std::uint64_t> count{0};
  const std::uint64_t number = kStart + count.fetch_add(1, std::memory_order_relaxed);
  std::mt19937_64 random(number);
  std::string id = "call_";
  std::uint64_t serial = number;  // the first 11 characters alone tell ids apart
  for (int i = 0; i < 24; ++i) {
    id.push_back(kAlphabet[i < 11 ? serial % kAlphabet.size() : random() % kAlphabet.size()]);
    serial /= kAlphabet.size();
  }
  return id;
}

}  // namespace tandem::chat
