// One request and its response: what every response carries, and what the log says about it.
#pragma once

#include <chrono>
#include <string>

#include "server/answers.h"
#include "server/http.h"
#include "server/options.h"

namespace tandem::server {

class Exchange {
 public:
  using Clock = std::chrono::steady_clock;

  Exchange(HttpRequest request, ResponseWriter& writer, const Options& options);

  const HttpRequest& request() const { return request_; }
  // The body, which is in memory no longer than it is needed.
  std::string take_body() { return std::move(request_.body); }
  ResponseWriter& writer() { return writer_; }
  Clock::time_point start_time() const { return start_; }
  double seconds_since_start() const;

  void add_header(std::string name, std::string value);
  // The whole response; false: the client is gone.
  boost::asio::awaitable<bool> reply(HttpResponse response);
  boost::asio::awaitable<bool> reply(const ApiError& error);
  // The head of a stream of server-sent events.
  boost::asio::awaitable<bool> start_stream();

  bool has_replied() const { return status_ != 0; }
  // Of the API keys the one that came with the request.
  void set_key(size_t key) { key_ = key; }
  size_t key() const { return key_; }
  // As the scheduler numbers them; 0: there are no keys.
  uint64_t scheduler_key() const { return has_keys_ ? key_ + 1 : 0; }

  void set_client_gone() { client_gone_ = true; }
  void set_result(const Usage& usage, std::string finish_reason);

  // Writes the request's line into the log.
  void log() const;

 private:
  void complete(HttpResponse& response);

  HttpRequest request_;
  ResponseWriter& writer_;
  const Clock::time_point start_;
  const std::string id_;
  Headers headers_;  // of the response, whatever it is
  const bool has_keys_;
  size_t key_ = 0;
  int status_ = 0;
  bool client_gone_ = false;
  Usage usage_;
  std::string finish_reason_;  // empty: nothing was generated
};

// prefix and 24 random letters and digits.
std::string random_id(const std::string& prefix);

}  // namespace tandem::server
