// Text from outside on its way to a terminal or a log.
#pragma once

#include <algorithm>
#include <string>

namespace tandem {

// Control characters become '?': names in a file or a request must not break a line or speak to the
// terminal.
inline std::string one_line(std::string text) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; };
  std::replace_if(text.begin(), text.end(), is_control, '?');
  return text;
}

}  // namespace tandem
