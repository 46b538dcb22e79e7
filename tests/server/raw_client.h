// A client that can misbehave: bytes out, bytes in, over a plain socket.
#pragma once

#include <stdexcept>
#include <string>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace tandem::testing {

class RawClient {
 public:
  explicit RawClient(int port, int receive_buffer = 0) {
    socket_ = ::socket(AF_INET, SOCK_STREAM, 0);
    if (receive_buffer > 0) {
      ::setsockopt(socket_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    }
    const timeval limit = {.tv_sec = 20, .tv_usec = 0};  // only ends a hang
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      ::close(socket_);
      throw std::runtime_error("cannot connect");
    }
  }
  ~RawClient() { hang_up(); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  void hang_up() {
    if (socket_ >= 0) ::close(socket_);
    socket_ = -1;
  }

  void send(const std::string& bytes) {
    for (size_t sent = 0; sent < bytes.size();) {
      const ssize_t n = ::send(socket_, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) return;
      sent += static_cast<size_t>(n);
    }
  }

  void post(const std::string& path, const std::string& body, const std::string& headers = "") {
    send("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  }
  void get(const std::string& path, const std::string& headers = "") {
    send("GET " + path + " HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n");
  }

  // Everything until `mark` has come, or the end.
  std::string read_until(const std::string& mark) {
    size_t at = pending_.find(mark);
    while (at == std::string::npos && receive()) at = pending_.find(mark);
    return take(at == std::string::npos ? pending_.size() : at + mark.size());
  }
  std::string read_to_end() {
    while (receive()) {
    }
    return take(pending_.size());
  }
  // A whole response, head included, that tells its length or is chunked.
  std::string read_response() {
    std::string response = read_until("\r\n\r\n");
    const size_t length = response.find("content-length: ");
    if (length != std::string::npos) {
      const size_t size = std::stoul(response.substr(length + 16));
      while (pending_.size() < size && receive()) {
      }
      response += take(std::min(size, pending_.size()));
    } else if (response.find("chunked") != std::string::npos) {
      response += read_until("\r\n0\r\n\r\n");
    }
    return response;
  }

 private:
  bool receive() {
    char bytes[65536];
    const ssize_t n = ::recv(socket_, bytes, sizeof bytes, 0);
    if (n > 0) pending_.append(bytes, static_cast<size_t>(n));
    return n > 0;
  }
  std::string take(size_t size) {
    std::string taken = pending_.substr(0, size);
    pending_.erase(0, size);
    return taken;
  }

  int socket_;
  std::string pending_;
};

}  // namespace tandem::testing
