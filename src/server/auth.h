// The API keys.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http.h"

namespace tandem::server {

// Which of the keys the request carries, as a bearer token or as x-api-key; nothing for none of
// them. Without keys all pass, as number 0. Takes as long for a key that is nearly right as for one
// that is all wrong.
std::optional<size_t> find_key(const HttpRequest& request, const std::vector<std::string>& keys);

}  // namespace tandem::server
