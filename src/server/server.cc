// Acceptor, threads, signals.
#include "server/server.h"

#include <csignal>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/error.h"
#include "base/log.h"
#include "server/service.h"
#include "server/session.h"

namespace tandem::server {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr auto kDrainCheck = std::chrono::milliseconds(20);
constexpr auto kAcceptPause = std::chrono::milliseconds(100);

std::optional<asio::ssl::context> make_tls(const Options& options) {
  if (options.ssl_keyfile.empty() && options.ssl_certfile.empty()) return std::nullopt;
  if (options.ssl_keyfile.empty() || options.ssl_certfile.empty()) {
    throw Error("TLS needs both --ssl_keyfile and --ssl_certfile");
  }
  asio::ssl::context context(asio::ssl::context::tls_server);
  context.set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                      asio::ssl::context::no_tlsv1_1);
  error_code error;
  context.use_certificate_chain_file(options.ssl_certfile, error);
  if (error) throw Error("--ssl_certfile {}: {}", options.ssl_certfile, error.message());
  context.use_private_key_file(options.ssl_keyfile, asio::ssl::context::pem, error);
  if (error) throw Error("--ssl_keyfile {}: {}", options.ssl_keyfile, error.message());
  return context;
}

tcp::acceptor listen(const asio::any_io_executor& executor, const Options& options) {
  tcp::resolver resolver(executor);
  error_code error;
  const auto found =
      resolver.resolve(options.host, std::to_string(options.port), tcp::resolver::passive, error);
  if (error || found.empty()) {
    throw Error("--host {}: not an address of this machine: {}", options.host, error.message());
  }
  const tcp::endpoint endpoint = *found.begin();
  tcp::acceptor acceptor(executor);
  acceptor.open(endpoint.protocol(), error);
  if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(tcp::acceptor::max_listen_connections, error);
  if (error) {
    throw Error("cannot listen on {}:{}: {}; choose another --port or --host", options.host,
                options.port, error.message());
  }
  return acceptor;
}

}  // namespace

class Server::Impl {
 public:
  explicit Impl(const Options& options)
      : service_(options),
        tls_(make_tls(options)),
        io_(std::make_unique<asio::io_context>(options.threads)),
        control_(asio::make_strand(*io_)),
        acceptor_(listen(control_, options)),
        signals_(std::in_place, control_),
        port_(acceptor_->local_endpoint().port()) {}

  Service& service() { return service_; }
  int port() const { return port_; }

  void run() {
    wait_for_signal();
    asio::co_spawn(control_, accept(), asio::detached);
    std::vector<std::thread> threads;
    for (int i = 1; i < service_.options().threads; ++i) {
      threads.emplace_back([this] { io_->run(); });
    }
    io_->run();
    for (std::thread& thread : threads) thread.join();
    close();
  }

  void stop() {
    const std::lock_guard lock(io_mutex_);
    if (io_ != nullptr) asio::post(control_, [this] { begin_stop(); });
  }

  void fail(const std::string& what) {
    {
      const std::lock_guard lock(failure_mutex_);
      if (failure_.empty()) failure_ = what;
    }
    const std::lock_guard lock(io_mutex_);
    if (io_ == nullptr) return;
    asio::post(control_, [this] {
      begin_stop();
      service_.fail();
    });
  }

  std::string failure() const {
    const std::lock_guard lock(failure_mutex_);
    return failure_;
  }

 private:
  void wait_for_signal() {
    signals_->add(SIGINT);
    signals_->add(SIGTERM);
    signals_->async_wait([this](error_code error, int) {
      if (error) return;
      begin_stop();
      signals_->async_wait([this](error_code again, int) {
        if (!again) io_->stop();
      });
    });
  }

  // On control_, as everything that touches the acceptor.
  void begin_stop() {
    if (service_.is_stopping()) return;
    service_.refuse_new_requests();
    log::info("stopping; {} requests are running", service_.active_requests());
    asio::co_spawn(control_, drain(), asio::detached);
  }

  asio::awaitable<void> drain() {
    const auto end = std::chrono::steady_clock::now() +
                     std::chrono::duration<double>(service_.options().drain_seconds);
    asio::steady_timer timer(control_);
    while (service_.active_requests() > 0 && std::chrono::steady_clock::now() < end) {
      timer.expires_after(kDrainCheck);
      co_await timer.async_wait(kTuple);
    }
    io_->stop();
  }

  asio::awaitable<void> accept() {
    for (;;) {  // also while it drains, to say so
      auto [error, socket] = co_await acceptor_->async_accept(asio::make_strand(*io_), kTuple);
      if (!error) {
        const auto executor = socket.get_executor();
        asio::co_spawn(executor, run_session(std::move(socket), service_, tls_ ? &*tls_ : nullptr),
                       asio::detached);
      } else {
        // Out of file descriptors, most likely: connections that end will free some.
        log::warn("cannot accept a connection: {}", error.message());
        asio::steady_timer pause(control_, kAcceptPause);
        co_await pause.async_wait(kTuple);
      }
    }
  }

  // Destroys what is left: connections, and suspended coroutines, which cancel their requests.
  void close() {
    service_.close();
    const std::lock_guard lock(io_mutex_);
    signals_.reset();
    acceptor_.reset();
    control_ = {};
    io_.reset();
  }

  Service service_;
  std::optional<asio::ssl::context> tls_;
  std::mutex io_mutex_;
  std::unique_ptr<asio::io_context> io_;  // null after run()
  asio::any_io_executor control_;
  std::optional<tcp::acceptor> acceptor_;
  std::optional<asio::signal_set> signals_;
  int port_;
  mutable std::mutex failure_mutex_;
  std::string failure_;
};

Server::Server(const Options& options) : impl_(std::make_unique<Impl>(options)) {}
Server::~Server() = default;

int Server::port() const { return impl_->port(); }
void Server::set_progress(double share) { impl_->service().set_progress(share); }
void Server::set_model(Model model, scheduler::Scheduler& scheduler) {
  impl_->service().set_model(std::move(model), scheduler);
}
void Server::run() { impl_->run(); }
void Server::stop() { impl_->stop(); }
void Server::fail(const std::string& what) { impl_->fail(what); }
std::string Server::failure() const { return impl_->failure(); }
bool Server::is_stopping() const { return impl_->service().is_stopping(); }

}  // namespace tandem::server
