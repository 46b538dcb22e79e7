// Requests and responses as routes see them, whatever library speaks HTTP.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <boost/asio/awaitable.hpp>

#include "server/api_error.h"

namespace tandem::server {

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;
  std::string path;  // without the query; percent-encoded as it came
  Headers headers;   // names in lower case
  std::string body;

  std::string_view header(std::string_view name) const;  // empty when absent
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  Headers headers = {};
};
HttpResponse to_response(const ApiError& error);

// One request's way back to its client. All calls on the connection's executor; exactly one
// response, by send() or by start() and what follows. False from an awaitable: the client is gone.
class ResponseWriter {
 public:
  virtual ~ResponseWriter() = default;

  virtual boost::asio::awaitable<bool> send(HttpResponse response) = 0;

  // A response without a known length: head, then pieces as they come, each sent at once.
  virtual boost::asio::awaitable<bool> start(HttpResponse head) = 0;
  virtual boost::asio::awaitable<bool> write(std::string data) = 0;
  // intact: false when the body had to be broken off; the connection will not be used again.
  virtual boost::asio::awaitable<bool> finish(bool intact) = 0;

  // From now until the response is finished, calls `gone` when the client hangs up.
  virtual void watch(std::function<void()> gone) = 0;

  // Ends the connection now, whatever is being written.
  virtual void abort() = 0;
};

}  // namespace tandem::server
