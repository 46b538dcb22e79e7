// One connection for each request, with a limit of time for all of it.
#include "cli/client/http.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>

#include "base/error.h"

namespace tandem::cli {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;

namespace {

constexpr auto kLimit = std::chrono::seconds(5);
constexpr char kDefaultPort[] = "10002";

// Runs what was begun; its error is stored by the handler.
void finish(asio::io_context& io, const error_code& error, const Url& url) {
  io.restart();
  io.run();
  if (error) throw Error("{}: {}", url.text(), error.message());
}

}  // namespace

Url parse_url(const std::string& text) {
  std::string rest = text;
  if (rest.starts_with("https://")) {
    throw Error("{}: only http:// is supported here; name the port behind the proxy", text);
  }
  if (rest.starts_with("http://")) rest = rest.substr(7);
  rest = rest.substr(0, rest.find('/'));
  const size_t colon = rest.rfind(':');
  if (colon == std::string::npos) return {.host = rest, .port = kDefaultPort};
  Url url{.host = rest.substr(0, colon), .port = rest.substr(colon + 1)};
  if (url.host.empty() || url.port.empty()) throw Error("{}: is not an address", text);
  return url;
}

HttpReply http_get(const Url& url, const std::string& path, const std::string& key) {
  asio::io_context io;
  error_code error;
  const auto endpoints = asio::ip::tcp::resolver(io).resolve(url.host, url.port, error);
  if (error) throw Error("{}: {}", url.text(), error.message());
  const auto store = [&error](const error_code& result, auto&&...) { error = result; };

  beast::tcp_stream stream(io);
  stream.expires_after(kLimit);
  stream.async_connect(endpoints, store);
  finish(io, error, url);
  http::request<http::empty_body> request(http::verb::get, path, 11);
  request.set(http::field::host, url.host);
  request.set(http::field::connection, "close");
  if (!key.empty()) request.set(http::field::authorization, "Bearer " + key);
  http::async_write(stream, request, store);
  finish(io, error, url);
  beast::flat_buffer buffer;
  http::response<http::string_body> response;
  http::async_read(stream, buffer, response, store);
  finish(io, error, url);
  return {.status = static_cast<int>(response.result_int()), .body = std::move(response.body())};
}

}  // namespace tandem::cli
