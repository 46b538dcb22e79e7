// The table of routes.
#include "server/router.h"

#include <array>
#include <charconv>

namespace tandem::server {
namespace {

constexpr std::array<Route, 15> kRoutes = {{
    {RouteId::kChatCompletions, "/v1/chat/completions", true},
    {RouteId::kCompletions, "/v1/completions", true},
    {RouteId::kModels, "/v1/models", false},
    {RouteId::kModel, "/v1/models/", false},
    {RouteId::kHealth, "/health", false},
    {RouteId::kHealth, "/v1/health", false},
    {RouteId::kHealth, "/ping", false},
    {RouteId::kHealth, "/ready", false},
    {RouteId::kHealth, "/health/ready", false},
    {RouteId::kLive, "/live", false},
    {RouteId::kLive, "/health/live", false},
    {RouteId::kVersion, "/version", false},
    {RouteId::kMetrics, "/metrics", false},
    {RouteId::kDebugSteps, "/debug/steps", false},
    {RouteId::kDebugSteps, "/debug/steps/", false},
}};

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char byte = 0;
    const char* digits = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      out += static_cast<char>(byte);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

}  // namespace

bool Route::allows(std::string_view method) const {
  return post ? method == "POST" : method == "GET" || method == "HEAD";
}

RouteMatch find_route(std::string_view path) {
  for (const Route& route : kRoutes) {
    if (path == route.path && !route.path.ends_with('/')) return {.route = &route};
    if (route.path.ends_with('/') && path.size() > route.path.size() &&
        path.starts_with(route.path)) {
      return {.route = &route, .parameter = percent_decoded(path.substr(route.path.size()))};
    }
  }
  return {};
}

}  // namespace tandem::server
