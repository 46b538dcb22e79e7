// Result<T>: a value, or the reason why a request cannot be served. Requests fail by value, never
// by exception; the server maps a Failure once to OpenAI's error body.
#pragma once

#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace tandem {

struct Failure {
  std::string message;                 // one sentence for the client
  std::string param = {};              // the request field at fault, empty where none is
  std::string code = "invalid_value";  // OpenAI's machine-readable code
};

template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}            // NOLINT: implicit by design
  Result(Failure failure) : state_(std::move(failure)) {}  // NOLINT: implicit by design

  bool ok() const { return state_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() {
    TANDEM_CHECK(ok(), "{}", std::get<1>(state_).message);
    return std::get<0>(state_);
  }
  const T& value() const {
    TANDEM_CHECK(ok(), "{}", std::get<1>(state_).message);
    return std::get<0>(state_);
  }
  T& operator*() { return value(); }
  const T& operator*() const { return value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Failure& failure() const {
    TANDEM_CHECK(!ok(), "asked for the failure of a success");
    return std::get<1>(state_);
  }

 private:
  std::variant<T, Failure> state_;
};

}  // namespace tandem
