// Which route a path means, and what it allows.
#pragma once

#include <string>
#include <string_view>

namespace tandem::server {

enum class RouteId {
  kChatCompletions,
  kCompletions,
  kModels,
  kModel,
  kHealth,
  kLive,
  kVersion,
  kMetrics,
  kDebugSteps,
};

struct Route {
  RouteId id;
  std::string_view path;  // ends in '/': what follows is the parameter
  bool post;              // POST; otherwise GET and HEAD

  std::string_view allow() const { return post ? "POST, OPTIONS" : "GET, HEAD, OPTIONS"; }
  bool allows(std::string_view method) const;
};

struct RouteMatch {
  const Route* route = nullptr;  // null: there is none
  std::string parameter = {};    // percent-decoded
};

RouteMatch find_route(std::string_view path);

}  // namespace tandem::server
