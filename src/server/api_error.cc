// Bodies and statuses of errors.
#include "server/api_error.h"

#include <boost/json.hpp>

#include "base/json.h"
#include "tokenizer/detokenizer.h"

namespace tandem::server {
namespace {

constexpr int kLoadingRetrySeconds = 5;
constexpr int kQueueRetrySeconds = 2;
constexpr size_t kMaxQuoted = 200;  // of what a client sent
constexpr size_t kMaxMessage = 2000;

std::string cut(const std::string& text, size_t size) {
  return text.size() <= size ? text : text.substr(0, size) + "...";
}

std::string quoted(const std::string& text) { return cut(text, kMaxQuoted); }

// What was quoted may be cut inside a character, or never have been text.
boost::json::string json_text(const std::string& text, size_t size) {
  return boost::json::string(tokenizer::to_valid_utf8(cut(text, size)));
}

boost::json::value text_or_null(const std::string& text) {
  if (text.empty()) return nullptr;
  return json_text(text, kMaxQuoted);
}

}  // namespace

std::string ApiError::body() const {
  return to_string(boost::json::object{
      {"error", boost::json::object{{"message", json_text(message, kMaxMessage)},
                                    {"type", type},
                                    {"param", text_or_null(param)},
                                    {"code", text_or_null(code)}}}});
}

ApiError to_api_error(const Failure& failure) {
  ApiError error{.message = failure.message, .param = failure.param, .code = failure.code};
  if (failure.code == "queue_full" || failure.code == "key_queue_full") {
    error.status = 429;
    error.type = "rate_limit_error";
    error.retry_after_seconds = kQueueRetrySeconds;
  } else if (failure.code == "unavailable") {
    error.status = 503;
    error.type = "unavailable_error";
    error.retry_after_seconds = kLoadingRetrySeconds;
  }
  return error;
}

ApiError route_not_found(const std::string& path) {
  return {.status = 404,
          .type = "not_found_error",
          .message = "there is no route " + quoted(path),
          .code = "not_found"};
}

ApiError model_not_found(const std::string& name) {
  return {.status = 404,
          .message = "the model '" + quoted(name) + "' does not exist",
          .param = "model",
          .code = "model_not_found"};
}

ApiError method_not_allowed(const std::string& method) {
  return {.status = 405,
          .message = "the method " + quoted(method) + " is not allowed on this route",
          .code = "method_not_allowed"};
}

ApiError wrong_key() {
  return {.status = 401,
          .type = "authentication_error",
          .message = "the API key is missing or wrong; send it as 'Authorization: Bearer KEY'",
          .code = "invalid_api_key"};
}

ApiError body_too_large(int64_t limit) {
  return {.status = 413,
          .message = fmt::format("the request's body has more than {} bytes", limit),
          .code = "request_too_large"};
}

ApiError too_many_uploads() {
  return to_api_error(
      {.message = "too many large requests are being received; try again", .code = "unavailable"});
}

ApiError unsupported_media_type(const std::string& type) {
  return {.status = 415,
          .message = "the content type '" + quoted(type) +
                     "' is not JSON; send the header 'Content-Type: application/json'",
          .code = "unsupported_media_type"};
}

ApiError unsupported_encoding(const std::string& encoding) {
  return {.status = 415,
          .message =
              "the content encoding '" + quoted(encoding) + "' is not supported; send plain JSON",
          .code = "unsupported_media_type"};
}

ApiError malformed_http(const std::string& what) {
  return {.message = "not a valid HTTP request: " + what, .code = "invalid_http"};
}

ApiError model_loading() {
  return {.status = 503,
          .type = "unavailable_error",
          .message = "the model is being loaded; try again later",
          .code = "model_loading",
          .retry_after_seconds = kLoadingRetrySeconds};
}

ApiError stopping() {
  return to_api_error({.message = "the server is stopping", .code = "unavailable"});
}

ApiError timed_out(double seconds) {
  return {.status = 504,
          .type = "timeout_error",
          .message = fmt::format("the request was not finished within {} seconds", seconds),
          .code = "request_timeout"};
}

ApiError route_is_off(const std::string& path, const std::string& flag) {
  return {.status = 404,
          .type = "not_found_error",
          .message = quoted(path) + " is off; start the server with " + flag,
          .code = "not_found"};
}

ApiError internal_error(const std::string& what) {
  return {.status = 500, .type = "server_error", .message = what, .code = "internal_error"};
}

}  // namespace tandem::server
