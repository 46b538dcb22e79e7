// Common headers and the log line.
#include "server/exchange.h"

#include <algorithm>
#include <random>

#include "base/log.h"

namespace tandem::server {
namespace {

namespace asio = boost::asio;

constexpr size_t kMaxIdBytes = 128;
constexpr size_t kMaxLoggedPath = 128;
constexpr int kClientClosedRequest = 499;  // nginx' number, in the log only

std::string request_id(const HttpRequest& request) {
  const std::string_view given = request.header("x-request-id");
  const bool usable =
      !given.empty() && given.size() <= kMaxIdBytes &&
      std::all_of(given.begin(), given.end(), [](char c) { return c > ' ' && c < 127; });
  return usable ? std::string(given) : random_id("req_");
}

}  // namespace

std::string random_id(const std::string& prefix) {
  constexpr std::string_view kLetters =
      "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
  thread_local std::mt19937_64 generator{std::random_device{}()};
  std::uniform_int_distribution<size_t> letter(0, kLetters.size() - 1);
  std::string id = prefix;
  for (int i = 0; i < 24; ++i) id += kLetters[letter(generator)];
  return id;
}

Exchange::Exchange(HttpRequest request, ResponseWriter& writer, const Options& options)
    : request_(std::move(request)),
      writer_(writer),
      start_(Clock::now()),
      id_(request_id(request_)),
      has_keys_(!options.api_keys.empty()) {
  add_header("x-request-id", id_);
  if (options.cross_origin) {
    add_header("access-control-allow-origin", "*");
    add_header("access-control-expose-headers",
               "x-request-id, x-ignored-params, openai-processing-ms");
  }
}

double Exchange::seconds_since_start() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

void Exchange::add_header(std::string name, std::string value) {
  headers_.emplace_back(std::move(name), std::move(value));
}

void Exchange::complete(HttpResponse& response) {
  status_ = response.status;
  response.headers.insert(response.headers.end(), headers_.begin(), headers_.end());
  response.headers.emplace_back("openai-processing-ms",
                                fmt::format("{:.0f}", seconds_since_start() * 1e3));
}

asio::awaitable<bool> Exchange::reply(HttpResponse response) {
  complete(response);
  co_return co_await writer_.send(std::move(response));
}

asio::awaitable<bool> Exchange::reply(const ApiError& error) {
  HttpResponse response = to_response(error);
  co_return co_await reply(std::move(response));
}

asio::awaitable<bool> Exchange::start_stream() {
  HttpResponse head;
  head.content_type = "text/event-stream; charset=utf-8";
  head.headers.emplace_back("cache-control", "no-cache");
  head.headers.emplace_back("x-accel-buffering", "no");  // nginx must not gather the events
  complete(head);
  co_return co_await writer_.start(std::move(head));
}

void Exchange::set_result(const Usage& usage, std::string finish_reason) {
  usage_ = usage;
  finish_reason_ = std::move(finish_reason);
}

void Exchange::log() const {
  const int status = client_gone_ ? kClientClosedRequest : status_;
  std::string line = fmt::format("{} {} {} {:.0f} ms", request_.method,
                                 std::string_view(request_.path).substr(0, kMaxLoggedPath), status,
                                 seconds_since_start() * 1e3);
  if (!finish_reason_.empty()) {
    line += fmt::format(", prompt {} ({} cached), output {}, {}", usage_.prompt_tokens,
                        usage_.cached_tokens, usage_.completion_tokens, finish_reason_);
  }
  // Probes come every few seconds, also while the model is loading.
  const bool probe = request_.method != "POST" && (status == 200 || status == 503);
  log::write(probe ? log::Level::kDebug : log::Level::kInfo, line + ", " + id_);
}

}  // namespace tandem::server
