// TANDEM_CHECK: an invariant of our own code. A failure is our bug: it prints the expression and
// the values given, then aborts. Never used for what a file, a client or the machine may cause.
#pragma once

#include <string>

#include <fmt/core.h>

namespace tandem {

[[noreturn]] void check_failed(const char* file, int line, const char* expression,
                               const std::string& detail);

}  // namespace tandem

// TANDEM_CHECK(cond, "format {}", values...): the format is required, so that a report says
// something.
#define TANDEM_CHECK(cond, ...)                                                      \
  do {                                                                               \
    if (!(cond)) [[unlikely]]                                                        \
      ::tandem::check_failed(__FILE__, __LINE__, #cond, ::fmt::format(__VA_ARGS__)); \
  } while (false)
