// One connection of a client: requests one after the other, over plain TCP or TLS.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>

namespace boost::asio::ssl {
class context;
}

namespace tandem::server {

class Service;

// Runs until the connection ends; never throws. The socket's executor must be a strand. tls: null
// for plain TCP.
boost::asio::awaitable<void> run_session(boost::asio::ip::tcp::socket socket, Service& service,
                                         boost::asio::ssl::context* tls);

}  // namespace tandem::server
