// The API key.
#pragma once

#include <string_view>

#include "server/http.h"

namespace tandem::server {

// Whether the request carries the key, as a bearer token or as x-api-key. An empty key lets all
// pass. Takes as long for a key that is nearly right as for one that is all wrong.
bool is_authorised(const HttpRequest& request, std::string_view key);

}  // namespace tandem::server
