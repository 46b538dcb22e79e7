// Spelling of flags: underscores as the original has them, dashes accepted too.
#pragma once

#include <algorithm>
#include <string>

namespace tandem::cli {

// "max_new_tokens" -> "--max_new_tokens,--max-new-tokens"
inline std::string flag(const std::string& name) {
  std::string dashed = name;
  std::replace(dashed.begin(), dashed.end(), '_', '-');
  return dashed == name ? "--" + name : "--" + name + ",--" + dashed;
}

}  // namespace tandem::cli
