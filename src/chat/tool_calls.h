// One tool call's text, without the tags around it -> name and arguments, for each family's
// spelling.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/array.hpp>

#include "chat/output_parser.h"

namespace tandem::chat {

struct ToolCallText {
  std::string name;
  std::string arguments;  // a JSON object
};

enum class CallStatus {
  kRead,
  kIncomplete,  // what looked like the end is inside a JSON string
  kInvalid,
};

struct CallReading {
  CallStatus status;
  std::vector<ToolCallText> calls = {};
};

// Which parameters the offered tools declare as text. The formats with untyped values need it: "7"
// is a number or a text only by the schema; a parameter without one is JSON if it reads as JSON.
class ParameterTypes {
 public:
  enum class Type { kUnknown, kText, kOther };

  ParameterTypes() = default;
  // tools as in a chat request: {"type": "function", "function": {"name", "parameters": schema}}.
  explicit ParameterTypes(const boost::json::array& tools);

  Type type_of(std::string_view tool, std::string_view parameter) const;

 private:
  std::map<std::string, std::map<std::string, Type, std::less<>>, std::less<>> types_;
};

CallReading read_call(OutputFormat::Tools format, std::string_view body,
                      const ParameterTypes& types);

// "call_" and 24 letters or digits; no two in a process are the same.
std::string new_call_id();

}  // namespace tandem::chat
