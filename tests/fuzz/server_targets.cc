// Bodies of requests, and whole connections against a service with a fake scheduler.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/strand.hpp>
#include <boost/json.hpp>
#include <sys/socket.h>

#include "base/json.h"
#include "base/log.h"
#include "server/generation_request.h"
#include "server/service.h"
#include "server/session.h"
#include "tests/fuzz/targets.h"
#include "tests/server/fakes.h"

namespace tandem::fuzz {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

constexpr size_t kMaxInput = 4096;  // what it can cause to be written fits into a socket's buffer

struct Fixture {
  Fixture() : service(options()) {
    log::set_level(log::Level::kError);
    scheduler.play({.answer = "Hi"});
    service.set_model(testing::fake_model(), scheduler);
  }
  ~Fixture() { service.close(); }

  static server::Options options() {
    server::Options options;
    options.threads = 1;
    options.max_body_bytes = 2048;
    options.header_seconds = options.body_seconds = options.idle_seconds = 1.0;
    options.write_seconds = 1.0;
    return options;
  }

  testing::FakeScheduler scheduler;
  server::Service service;
};

}  // namespace

void json_body(Bytes bytes) {
  static const server::Model model = testing::fake_model();
  static const server::Options options;
  const auto body = parse_json(text_of(bytes));
  if (!body) return;
  const std::string again = to_string(*body);
  TANDEM_CHECK(parse_json(again).ok(), "'{}' cannot be read again", again);
  if (!body->is_object()) return;
  static_cast<void>(server::parse_chat_request(body->get_object(), options, model));
  static_cast<void>(server::parse_completion_request(body->get_object(), options, model));
}

void http(Bytes bytes) {
  static Fixture fixture;
  bytes = bytes.first(std::min(bytes.size(), kMaxInput));
  int ends[2];
  TANDEM_CHECK(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "no socket pair");
  TANDEM_CHECK(::send(ends[0], bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()),
               "{} bytes were not taken", bytes.size());
  ::shutdown(ends[0], SHUT_WR);
  {
    asio::io_context io(1);
    tcp::socket socket(asio::make_strand(io));
    socket.assign(tcp::v4(), ends[1]);
    const auto executor = socket.get_executor();
    asio::co_spawn(executor, server::run_session(std::move(socket), fixture.service, nullptr),
                   asio::detached);
    io.run();  // returns when the connection has ended
  }
  ::close(ends[0]);
}

}  // namespace tandem::fuzz
