// Options of the server room.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tandem::server {

struct Options {
  std::string host = "0.0.0.0";
  int port = 10002;                       // 0: any free one
  int threads = 2;                        // of HTTP
  std::vector<std::string> api_keys;      // none: open to all
  std::string ssl_keyfile, ssl_certfile;  // both or none
  bool cross_origin = true;               // answers may be read by web pages from anywhere
  int64_t max_body_bytes = 8 << 20;
  double header_seconds = 10.0;    // for a request's head, once it has begun
  double body_seconds = 60.0;      // for its body
  double write_seconds = 60.0;     // for one write to a slow client
  double idle_seconds = 75.0;      // between the requests of a connection
  double sse_ping_seconds = 15.0;  // of silence in a stream before a comment; 0: never
  double drain_seconds = 10.0;     // to finish running requests at the end
  double request_timeout = 0.0;    // seconds for one request, waiting included; 0: no end
  bool share_cache = true;         // prompts of different API keys may share cached pages
  // A stream whose client is so many tokens behind is cut off: what waits for it takes memory.
  int max_tokens_behind = 32768;
  bool debug_steps = false;    // GET /debug/steps answers
  bool strict_params = false;  // unknown fields are errors
  bool force_think = false;    // every chat answer begins inside a thinking block
  int max_choices = 16;        // n at most
  // Where a request does not say.
  std::optional<float> temperature, top_p, repetition_penalty;
  std::optional<int> top_k;
};

}  // namespace tandem::server
