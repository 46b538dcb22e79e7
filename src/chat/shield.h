// Keeps a user's text from yielding control tokens: breaks every spelling of a special token in it.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include <boost/json/value.hpp>

namespace tandem::chat {

// Puts `mark` (a byte that is no UTF-8) after the first byte of every occurrence of a special text.
std::string shield(std::string_view text, std::span<const std::string> special_texts, char mark);

// The same for every string (not object keys) inside a JSON value.
void shield_strings(boost::json::value& value, std::span<const std::string> special_texts,
                    char mark);

}  // namespace tandem::chat
