// Comparison in constant time.
#include "server/auth.h"

#include <algorithm>

#include <boost/algorithm/string/predicate.hpp>

namespace tandem::server {
namespace {

bool equal_in_constant_time(std::string_view given, std::string_view key) {
  unsigned difference = given.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i) {
    difference |= static_cast<unsigned>(static_cast<unsigned char>(given[i]) ^
                                        static_cast<unsigned char>(key[i % key.size()]));
  }
  return difference == 0;
}

std::string_view bearer_token(std::string_view header) {
  constexpr std::string_view kScheme = "bearer ";
  if (!boost::algorithm::istarts_with(header, kScheme)) return {};
  header.remove_prefix(kScheme.size());
  header.remove_prefix(std::min(header.find_first_not_of(' '), header.size()));
  return header;
}

}  // namespace

std::optional<size_t> find_key(const HttpRequest& request, const std::vector<std::string>& keys) {
  if (keys.empty()) return 0;
  const std::string_view bearer = bearer_token(request.header("authorization"));
  const std::string_view plain = request.header("x-api-key");
  std::optional<size_t> found;
  for (size_t i = 0; i < keys.size(); ++i) {
    const bool right = equal_in_constant_time(bearer, keys[i]);
    if (right || equal_in_constant_time(plain, keys[i])) found = i;
  }
  return found;
}

}  // namespace tandem::server
