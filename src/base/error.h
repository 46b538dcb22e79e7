// Error: the environment's fault (a file, memory, a driver, an unsupported model). Thrown, caught
// in main and at thread edges only, printed as one line that says what, where and what to do.
#pragma once

#include <stdexcept>
#include <utility>

#include <fmt/core.h>

#include "base/text.h"

namespace tandem {

class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& message) : std::runtime_error(one_line(message)) {}

  template <typename... Args>
  explicit Error(fmt::format_string<Args...> format, Args&&... args) requires(sizeof...(Args) > 0)
      : Error(fmt::format(format, std::forward<Args>(args)...)) {}
};

}  // namespace tandem
