// HTTP/1.1 on a stream: Beast parses requests; responses are written as bytes. The only file that
// knows Beast.
//
//   wait for a byte (idle limit) -> head (head limit) -> body (body limit) -> Service::handle
//          ^                                                                     |
//          +------------------------------ keep-alive ---------------------------+
//
// While a request is answered, a second coroutine reads on: what comes belongs to the next request,
// and the end of the stream tells that the client hung up.
#include "server/session.h"

#include <algorithm>
#include <ctime>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/log.h"
#include "server/service.h"

namespace tandem::server {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr size_t kMaxHeadBytes = 32 << 10;
constexpr size_t kMaxReadAhead = 64 << 10;  // of further requests while one is answered
// Of what is parsed at once: a head, a chunk's line, trailers. The parser asks for more and more of
// them until it finds their end.
constexpr size_t kMaxBuffered = 128 << 10;
constexpr size_t kMaxDiscarded = 64 << 20;  // of a refused request
constexpr double kHandshakeSeconds = 10.0;
constexpr double kGoodbyeSeconds = 2.0;

// Closes a socket when time is over.
class Deadline {
 public:
  Deadline(tcp::socket& socket) : socket_(socket), timer_(socket.get_executor()) {}

  // owner keeps the socket alive while the timer runs.
  void arm(double seconds, std::shared_ptr<void> owner) {
    timer_.expires_after(
        std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
    timer_.async_wait([this, owner = std::move(owner)](error_code) {
      // Armed anew or disarmed since this was posted: the time is another then.
      if (timer_.expiry() > Clock::now()) return;
      error_code ignored;
      socket_.close(ignored);
    });
  }
  void disarm() { timer_.expires_at(Clock::time_point::max()); }

 private:
  tcp::socket& socket_;
  asio::steady_timer timer_;
};

std::string date_now() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[40];
  return {text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc)};
}

// The path of a request's target, which may be a whole URL.
std::string path_of(std::string_view target) {
  target = target.substr(0, target.find('?'));
  for (const std::string_view scheme : {"http://", "https://"}) {
    if (!boost::beast::iequals(target.substr(0, scheme.size()), scheme)) continue;
    const size_t slash = target.find('/', scheme.size());
    return slash == std::string_view::npos ? "/" : std::string(target.substr(slash));
  }
  return std::string(target);
}

HttpRequest to_request(http::request<http::string_body> message) {
  HttpRequest request{.method = std::string(message.method_string()),
                      .path = path_of(message.target()),
                      .headers = {},
                      .body = std::move(message.body())};
  for (const auto& field : message) {
    std::string name(field.name_string());
    std::transform(name.begin(), name.end(), name.begin(),
                   [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
    request.headers.emplace_back(std::move(name), std::string(field.value()));
  }
  return request;
}

template <typename Stream>
class Session final : public ResponseWriter, public std::enable_shared_from_this<Session<Stream>> {
 public:
  template <typename... Args>
  explicit Session(Service& service, Args&&... args)
      : service_(service),
        stream_(std::forward<Args>(args)...),
        deadline_(socket()),
        watch_ended_(stream_.get_executor()) {}

  asio::awaitable<void> run() {
    if (co_await shake_hands()) {
      bool again = true;
      while (again) again = co_await serve_one();
      co_await say_goodbye();
    }
    deadline_.disarm();
  }

  asio::awaitable<bool> send(HttpResponse response) override {
    // RFC 9110: neither has a body; a HEAD response tells the length all the same.
    const bool bodiless = method_ == "HEAD" || response.status == 204;
    std::string data = head(response);
    if (response.status != 204) data += fmt::format("content-length: {}\r\n", response.body.size());
    data += "\r\n";
    if (!bodiless) data += response.body;
    co_return co_await write_bytes(std::move(data));
  }

  asio::awaitable<bool> start(HttpResponse response) override {
    chunked_ = version_ >= 11;
    if (!chunked_) keep_alive_ = false;  // the end of the connection ends the body
    std::string data = head(response);
    data += chunked_ ? "transfer-encoding: chunked\r\n\r\n" : "\r\n";
    co_return co_await write_bytes(std::move(data));
  }

  asio::awaitable<bool> write(std::string data) override {
    if (chunked_) data = fmt::format("{:x}\r\n{}\r\n", data.size(), data);
    co_return co_await write_bytes(std::move(data));
  }

  asio::awaitable<bool> finish(bool intact) override {
    if (!intact) keep_alive_ = false;
    if (intact && chunked_) co_return co_await write_bytes("0\r\n\r\n");
    co_return intact;
  }

  void watch(std::function<void()> gone) override {
    gone_ = std::move(gone);
    watching_ = true;
    asio::co_spawn(stream_.get_executor(), read_ahead(),
                   asio::bind_cancellation_slot(stop_watching_.slot(), [this](std::exception_ptr) {
                     watching_ = false;
                     watch_ended_.cancel();
                   }));
  }

  void abort() override {
    intact_ = false;
    error_code ignored;
    socket().close(ignored);
  }

 private:
  static constexpr bool kTls = !std::is_same_v<Stream, tcp::socket>;
  using Parser = http::request_parser<http::string_body>;

  tcp::socket& socket() {
    if constexpr (kTls) {
      return stream_.next_layer();
    } else {
      return stream_;
    }
  }

  void limit(double seconds) { deadline_.arm(seconds, this->shared_from_this()); }

  asio::awaitable<bool> shake_hands() {
    if constexpr (kTls) {
      limit(kHandshakeSeconds);
      auto [error] = co_await stream_.async_handshake(asio::ssl::stream_base::server, kTuple);
      deadline_.disarm();
      co_return !error;
    }
    co_return true;
  }

  // Whether the connection may carry another request.
  asio::awaitable<bool> serve_one() {
    Parser parser;
    parser.header_limit(kMaxHeadBytes);
    parser.body_limit(static_cast<uint64_t>(service_.options().max_body_bytes));
    Uploads::Share share(service_.uploads());
    const error_code error = co_await read_request(parser, share);
    method_ = std::string(parser.get().method_string());
    if (error) {
      co_await refuse(error);
      co_return false;
    }
    version_ = parser.get().version();
    keep_alive_ = parser.get().keep_alive();
    chunked_ = false;
    co_await service_.handle(to_request(parser.release()), *this);
    co_await end_watch();
    co_return keep_alive_&& intact_;
  }

  asio::awaitable<error_code> read_request(Parser& parser, Uploads::Share& share) {
    if (buffer_.size() == 0) {
      limit(service_.options().idle_seconds);
      auto [error, size] = co_await stream_.async_read_some(buffer_.prepare(4096), kTuple);
      if (error) co_return error;
      buffer_.commit(size);
    }
    limit(service_.options().header_seconds);
    auto [head_error, head_size] =
        co_await http::async_read_header(stream_, buffer_, parser, kTuple);
    if (head_error) co_return head_error;
    // Where a body ends that is coded otherwise, nobody can tell.
    if (parser.get().count(http::field::transfer_encoding) > 0 && !parser.chunked()) {
      co_return http::error::bad_transfer_encoding;
    }
    if (!parser.is_done() &&
        boost::beast::iequals(parser.get()[http::field::expect], "100-continue")) {
      co_await write_bytes("HTTP/1.1 100 Continue\r\n\r\n");
    }
    limit(service_.options().body_seconds);
    while (!parser.is_done()) {
      auto [error, size] = co_await http::async_read_some(stream_, buffer_, parser, kTuple);
      if (error) co_return error;
      if (!share.grow(static_cast<int64_t>(parser.get().body().size()))) {
        co_return make_error_code(boost::system::errc::not_enough_memory);
      }
    }
    deadline_.disarm();
    co_return error_code();
  }

  // What is no request gets an answer where there is still somebody to read it.
  asio::awaitable<void> refuse(error_code error) {
    keep_alive_ = false;
    ApiError answer = malformed_http(error.message());
    if (error == http::error::body_limit) {
      answer = body_too_large(service_.options().max_body_bytes);
    } else if (error == boost::system::errc::not_enough_memory) {
      answer = too_many_uploads();
    } else if (error == http::error::header_limit) {
      answer.status = 431;
    } else if (error == http::error::end_of_stream || error == http::error::partial_message ||
               error.category() != http::make_error_code(http::error::bad_method).category()) {
      co_return;
    }
    log::info("refused a request: {} {}", answer.status, answer.message);
    HttpResponse response = to_response(answer);
    co_await send(std::move(response));
    discard_ = true;
  }

  std::string head(const HttpResponse& response) {
    if (service_.is_stopping()) keep_alive_ = false;
    const auto reason = http::obsolete_reason(static_cast<http::status>(response.status));
    std::string text =
        fmt::format("HTTP/1.1 {} {}\r\ndate: {}\r\nserver: tandem\r\nconnection: {}\r\n",
                    response.status, std::string_view(reason.data(), reason.size()), date_now(),
                    keep_alive_ ? "keep-alive" : "close");
    if (response.status != 204) text += fmt::format("content-type: {}\r\n", response.content_type);
    for (const auto& [name, value] : response.headers) {
      text += fmt::format("{}: {}\r\n", name, value);
    }
    return text;
  }

  asio::awaitable<bool> write_bytes(std::string data) {
    limit(service_.options().write_seconds);
    auto [error, size] = co_await asio::async_write(stream_, asio::buffer(data), kTuple);
    deadline_.disarm();
    if (error) intact_ = false;
    co_return !error;
  }

  asio::awaitable<void> read_ahead() {
    while (buffer_.size() < kMaxReadAhead) {
      auto [error, size] = co_await stream_.async_read_some(buffer_.prepare(4096), kTuple);
      if (error == asio::error::operation_aborted) co_return;
      if (error) {
        intact_ = false;
        gone_();
        co_return;
      }
      buffer_.commit(size);
    }
  }

  asio::awaitable<void> end_watch() {
    if (watching_) stop_watching_.emit(asio::cancellation_type::terminal);
    while (watching_) {
      watch_ended_.expires_at(Clock::time_point::max());
      co_await watch_ended_.async_wait(kTuple);
    }
    gone_ = nullptr;
  }

  // Closing with unread data would make the system drop the response on its way: the rest is read
  // until the client has closed, within limits.
  asio::awaitable<void> say_goodbye() {
    limit(kGoodbyeSeconds);
    if constexpr (kTls) {
      if (!discard_) co_await stream_.async_shutdown(kTuple);
    }
    error_code ignored;
    socket().shutdown(tcp::socket::shutdown_send, ignored);
    std::vector<char> scrap(64 << 10);
    for (size_t total = 0; discard_ && total < kMaxDiscarded;) {
      auto [error, size] = co_await socket().async_read_some(asio::buffer(scrap), kTuple);
      if (error) break;
      total += size;
    }
    socket().close(ignored);
  }

  Service& service_;
  Stream stream_;
  Deadline deadline_;
  boost::beast::flat_buffer buffer_{kMaxBuffered};

  // Of the request being answered.
  std::string method_;
  unsigned version_ = 11;
  bool keep_alive_ = true;
  bool chunked_ = false;

  bool intact_ = true;    // the connection works
  bool discard_ = false;  // what the client still sends is of no use

  std::function<void()> gone_;
  bool watching_ = false;
  asio::cancellation_signal stop_watching_;
  asio::steady_timer watch_ended_;
};

}  // namespace

asio::awaitable<void> run_session(tcp::socket socket, Service& service, asio::ssl::context* tls) {
  try {
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    if (tls != nullptr) {
      using TlsStream = asio::ssl::stream<tcp::socket>;
      const auto session = std::make_shared<Session<TlsStream>>(service, std::move(socket), *tls);
      co_await session->run();
    } else {
      const auto session = std::make_shared<Session<tcp::socket>>(service, std::move(socket));
      co_await session->run();
    }
  } catch (const std::exception& error) {
    log::error("a connection ended with: {}", error.what());
  }
}

}  // namespace tandem::server
