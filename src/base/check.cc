// Prints a failed invariant and aborts; not for errors of the environment (base/error.h).
#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace tandem {

void check_failed(const char* file, int line, const char* expression, const std::string& detail) {
  std::fprintf(stderr, "tandem: bug at %s:%d: %s is false: %s\n", file, line, expression,
               detail.c_str());
  std::abort();
}

}  // namespace tandem
