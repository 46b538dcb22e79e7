// A small HTTP client for the verbs that look at a running server. Plain HTTP only.
#pragma once

#include <string>

namespace tandem::cli {

struct Url {
  std::string host;
  std::string port;

  std::string text() const { return "http://" + host + ":" + port; }
};

// "http://host:port", "host:port" or "host". Throws Error for https and for what is no address.
Url parse_url(const std::string& text);

struct HttpReply {
  int status = 0;
  std::string body;
};

// key: empty for none. Throws Error when there is no answer within five seconds.
HttpReply http_get(const Url& url, const std::string& path, const std::string& key);

}  // namespace tandem::cli
