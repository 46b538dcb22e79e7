// A server in a thread on a real socket with a fake scheduler behind it, and ways to look at its
// responses.
#pragma once

#include <string>
#include <thread>
#include <vector>

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "server/server.h"
#include "tests/server/fakes.h"
#include "tests/server/raw_client.h"

namespace tandem::server {

namespace json = boost::json;
using testing::FakeScheduler;
using testing::RawClient;

inline constexpr char kChat[] = "/v1/chat/completions";
inline constexpr char kHello[] = R"({"messages": [{"role": "user", "content": "hi"}]})";

inline std::string hello_with(const std::string& fields) {
  return R"({"messages": [{"role": "user", "content": "hi"}], )" + fields + "}";
}

// A server in a thread.
class RunningServer {
 public:
  explicit RunningServer(Options options = {}) : server_(local(std::move(options))) {
    thread_ = std::thread([this] { server_.run(); });
  }
  ~RunningServer() { stop(); }

  void stop() {
    server_.stop();
    if (thread_.joinable()) thread_.join();
  }
  // Waits for an end that somebody else has begun.
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  Server& server() { return server_; }
  RawClient connect(int receive_buffer = 0) { return RawClient(server_.port(), receive_buffer); }
  std::string get(const std::string& path, const std::string& headers = "") {
    RawClient client(server_.port());
    client.get(path, headers);
    return client.read_response();
  }
  std::string post(const std::string& path, const std::string& body,
                   const std::string& headers = "") {
    RawClient client(server_.port());
    client.post(path, body, headers);
    return client.read_response();
  }

 private:
  static Options local(Options options) {
    options.host = "127.0.0.1";
    options.port = 0;
    return options;
  }
  Server server_;
  std::thread thread_;
};

class ServerTest : public ::testing::Test {
 protected:
  explicit ServerTest(Options options = {}) : running(std::move(options)) {
    running.server().set_model(testing::fake_model(), scheduler);
  }

  FakeScheduler scheduler;
  RunningServer running;
};

inline bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline std::string status_of(const std::string& response) { return response.substr(9, 3); }

inline json::value body_of(const std::string& response) {
  return json::parse(response.substr(response.find("\r\n\r\n") + 4));
}

inline std::string error_code(const std::string& response) {
  const json::value code = body_of(response).at("error").at("code");
  return code.is_null() ? "" : std::string(code.as_string());
}

// The data of each event in a stream.
inline std::vector<std::string> events_of(const std::string& response) {
  std::vector<std::string> events;
  for (size_t at = 0; (at = response.find("data: ", at)) != std::string::npos;) {
    const size_t end = response.find("\n\n", at);
    events.push_back(response.substr(at + 6, end - at - 6));
    at = end;
  }
  return events;
}

}  // namespace tandem::server
