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

bool is_authorised(const HttpRequest& request, std::string_view key) {
  if (key.empty()) return true;
  return equal_in_constant_time(bearer_token(request.header("authorization")), key) ||
         equal_in_constant_time(request.header("x-api-key"), key);
}

}  // namespace tandem::server
