// Header look-up and error responses.
#include "server/http.h"

namespace tandem::server {

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (key == name) return value;
  }
  return {};
}

HttpResponse to_response(const ApiError& error) {
  HttpResponse response{.status = error.status, .body = error.body()};
  if (error.retry_after_seconds > 0) {
    response.headers.emplace_back("retry-after", std::to_string(error.retry_after_seconds));
  }
  // OpenAI's clients repeat what failed with 500; a second try would fail in the same way.
  // One that took too long would take as long again.
  if (error.status == 500 || error.status == 504)
    response.headers.emplace_back("x-should-retry", "false");
  return response;
}

}  // namespace tandem::server
