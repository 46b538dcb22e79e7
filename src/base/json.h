// JSON text in and out, as several rooms need it: bounded nesting, plain numbers.
#pragma once

#include <string>
#include <string_view>

#include <boost/json/value.hpp>

#include "base/result.h"

namespace tandem {

// Nesting deeper than 256 is refused. Failure: code "invalid_json", the message names the byte
// offset.
Result<boost::json::value> parse_json(std::string_view text);

// Compact; floats shortest round-trip in Python's style (0.5, 1e-05, 1e+22), not in Boost's (5E-1).
// Infinities and NaN, which JSON lacks, become null.
std::string to_string(const boost::json::value& value);
void append_json(const boost::json::value& value, std::string& out);

}  // namespace tandem
