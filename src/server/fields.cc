// Typed access with messages for people.
#include "server/fields.h"

#include <cmath>

#include <boost/json.hpp>
#include <fmt/format.h>

namespace tandem::server {

namespace json = boost::json;

const json::value* Fields::any(std::string_view name) {
  known_.emplace(name);
  const json::value* value = object_.if_contains(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void Fields::fail(std::string_view name, std::string message, std::string code) {
  if (failure_) return;
  failure_ =
      Failure{.message = std::move(message), .param = std::string(name), .code = std::move(code)};
}

std::optional<double> Fields::number(std::string_view name, double lowest, double highest) {
  const json::value* value = any(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    fail(name, fmt::format("'{}' must be a number", name));
    return std::nullopt;
  }
  const auto result = value->to_number<double>();
  if (!(result >= lowest && result <= highest)) {
    fail(name, fmt::format("'{}' is {}, it must be from {} to {}", name, result, lowest, highest));
    return std::nullopt;
  }
  return result;
}

std::optional<int64_t> Fields::integer(std::string_view name, int64_t lowest, int64_t highest) {
  const json::value* value = any(name);
  if (value == nullptr) return std::nullopt;
  std::optional<int64_t> result;
  if (value->is_int64()) result = value->get_int64();
  if (value->is_uint64() && value->get_uint64() <= INT64_MAX) {
    result = static_cast<int64_t>(value->get_uint64());
  }
  // 5.0 is an integer for JSON.
  if (value->is_double() && std::trunc(value->get_double()) == value->get_double() &&
      std::fabs(value->get_double()) < 9e15) {
    result = static_cast<int64_t>(value->get_double());
  }
  if (!result) {
    fail(name, fmt::format("'{}' must be an integer", name));
  } else if (*result < lowest || *result > highest) {
    fail(name, fmt::format("'{}' is {}, it must be from {} to {}", name, *result, lowest, highest));
    result.reset();
  }
  return result;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const json::value* value = any(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_bool()) {
    fail(name, fmt::format("'{}' must be true or false", name));
    return std::nullopt;
  }
  return value->get_bool();
}

std::optional<std::string> Fields::text(std::string_view name) {
  const json::value* value = any(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    fail(name, fmt::format("'{}' must be a string", name));
    return std::nullopt;
  }
  return std::string(value->get_string());
}

const json::object* Fields::object(std::string_view name) {
  const json::value* value = any(name);
  if (value == nullptr) return nullptr;
  if (!value->is_object()) fail(name, fmt::format("'{}' must be an object", name));
  return value->if_object();
}

const json::array* Fields::array(std::string_view name) {
  const json::value* value = any(name);
  if (value == nullptr) return nullptr;
  if (!value->is_array()) fail(name, fmt::format("'{}' must be an array", name));
  return value->if_array();
}

void Fields::accept(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) known_.emplace(name);
}

void Fields::refuse(std::string_view name, std::string_view reason) {
  const json::value* value = any(name);
  if (value == nullptr) return;
  const bool harmless = (value->is_bool() && !value->get_bool()) ||
                        (value->is_number() && value->to_number<double>() == 0.0) ||
                        (value->is_string() && value->get_string().empty()) ||
                        (value->is_array() && value->get_array().empty());
  if (!harmless) {
    fail(name, fmt::format("'{}' is not supported: {}", name, reason), "unsupported_parameter");
  }
}

std::vector<std::string> Fields::ignored() const {
  std::vector<std::string> names = ignored_;
  for (const auto& [name, value] : object_) {
    if (!value.is_null() && known_.find(name) == known_.end()) names.emplace_back(name);
  }
  return names;
}

}  // namespace tandem::server
