// Errors as OpenAI's API shows them: a status and a body with message, type, param and code.
#pragma once

#include <string>

#include "base/result.h"

namespace tandem::server {

struct ApiError {
  int status = 400;
  std::string type = "invalid_request_error";
  std::string message;
  std::string param = {};       // null in the body when empty
  std::string code = {};        // null in the body when empty
  int retry_after_seconds = 0;  // 0: none

  // {"error":{"message","type","param","code"}}
  std::string body() const;
};

// The one place where a Failure gets its status.
ApiError to_api_error(const Failure& failure);

ApiError route_not_found(const std::string& path);
ApiError model_not_found(const std::string& name);
ApiError method_not_allowed(const std::string& method);
ApiError wrong_key();
ApiError body_too_large(int64_t limit);
ApiError too_many_uploads();
ApiError unsupported_media_type(const std::string& type);
ApiError unsupported_encoding(const std::string& encoding);
ApiError malformed_http(const std::string& what);
ApiError model_loading();
ApiError stopping();
ApiError timed_out(double seconds);
ApiError route_is_off(const std::string& path, const std::string& flag);
ApiError internal_error(const std::string& what);

}  // namespace tandem::server
