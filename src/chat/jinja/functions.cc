// Argument binding shared by all natives.
#include "chat/jinja/functions.h"

#include <algorithm>

#include "chat/jinja/operations.h"

namespace tandem::chat::jinja {

Native find_filter(std::string_view name) {
  const Native native = find_text_filter(name);
  return native != nullptr ? native : find_sequence_filter(name);
}

Value call_native(Native native, Runtime& runtime, const Value& self, const Arguments& arguments) {
  std::size_t bytes = 0;
  const auto count = [&bytes](const Value& value) {
    if (const Text* text = std::get_if<Text>(&value)) bytes += text->view().size();
  };
  count(self);
  for (const Value& value : arguments.positional) count(value);
  for (const auto& named : arguments.named) count(named.second);
  runtime.meter.touch_text(bytes);
  return native(runtime, self, arguments);
}

void bind_arguments(const Arguments& arguments, const char* const* names, const Value** bound,
                    std::size_t count, std::size_t required) {
  if (arguments.positional.size() > count) {
    fail("takes at most {} arguments, got {}", count, arguments.positional.size());
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) bound[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto found =
        std::find_if(names, names + count, [&](const char* known) { return name == known; });
    if (found == names + count) fail("got an unexpected keyword argument '{}'", name);
    const Value*& slot = bound[found - names];
    if (slot != nullptr) fail("got multiple values for argument '{}'", name);
    slot = &value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (bound[i] == nullptr) fail("missing argument '{}'", names[i]);
  }
}

std::string_view text_argument(const Value* argument, std::string_view fallback) {
  if (argument == nullptr || is<None>(*argument)) return fallback;
  const Text* text = std::get_if<Text>(argument);
  if (text == nullptr) fail("expected a string argument, not {}", type_name(*argument));
  return text->view();
}

Integer integer_argument(const Value* argument, Integer fallback) {
  if (argument == nullptr || is<None>(*argument)) return fallback;
  const auto integer = as_integer(*argument);
  if (!integer) fail("expected an integer argument, not {}", type_name(*argument));
  return *integer;
}

bool flag_argument(const Value* argument, bool fallback) {
  return argument == nullptr ? fallback : truthy(*argument);
}

}  // namespace tandem::chat::jinja
