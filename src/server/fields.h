// Reads the fields of a JSON request strictly: a wrong type or range is an error that names the
// field, null counts as absent, and what nobody asked for is remembered as ignored.
#pragma once

#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <boost/json/object.hpp>

#include "base/result.h"

namespace tandem::server {

class Fields {
 public:
  // The object must outlive the reader.
  explicit Fields(const boost::json::object& object) : object_(object) {}

  // Nothing when the field is absent, or wrong; the first wrong one is kept in failure().
  std::optional<double> number(std::string_view name, double lowest, double highest);
  std::optional<int64_t> integer(std::string_view name, int64_t lowest, int64_t highest);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::string> text(std::string_view name);
  const boost::json::object* object(std::string_view name);
  const boost::json::array* array(std::string_view name);
  const boost::json::value* any(std::string_view name);  // null when absent

  // Fields that are accepted and have no effect here.
  void accept(std::initializer_list<std::string_view> names);
  // A field that cannot be honoured: an error when it is set (and not one of the harmless values
  // false, 0, "", []).
  void refuse(std::string_view name, std::string_view reason);

  void fail(std::string_view name, std::string message, std::string code = "invalid_value");
  const std::optional<Failure>& failure() const { return failure_; }

  // Fields of the request that nobody read, and those given to ignore().
  std::vector<std::string> ignored() const;
  void ignore(std::string_view name) { ignored_.emplace_back(name); }

 private:
  const boost::json::object& object_;
  std::set<std::string, std::less<>> known_;
  std::vector<std::string> ignored_;
  std::optional<Failure> failure_;
};

}  // namespace tandem::server
