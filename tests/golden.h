// Where recorded oracles are: tests/golden holds copies of what the tests need everywhere; larger
// ones are used in place from ../shared/golden when that folder is beside the checkout.
#pragma once

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace tandem::testing {

// The path of a golden file, or empty when it is in neither place.
inline std::string golden_path(const std::string& name) {
  for (const char* root : {"/tests/golden/", "/../shared/golden/"}) {
    const std::string path = std::string(TANDEM_SOURCE_DIR) + root + name;
    if (std::filesystem::exists(path)) return path;
  }
  return {};
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace tandem::testing
