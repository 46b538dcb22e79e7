// Operations on text that both filters and methods offer.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "chat/jinja/value.h"

namespace tandem::chat::jinja {

enum class Side { kLeft, kRight, kBoth };

// chars: the set of characters to remove; nothing: white space.
std::string_view strip(std::string_view text, Side side, std::optional<std::string_view> chars);

// Every (or the first `limit`) occurrence; an empty pattern matches between all characters.
std::string replace(std::string_view text, std::string_view from, std::string_view to,
                    Integer limit, Meter& meter);

std::string title_case(std::string_view character);
std::string capitalize(std::string_view text);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_ends = false);

bool is_lower_text(std::string_view text);
bool is_upper_text(std::string_view text);
bool is_letter(char32_t value);  // outside ASCII approximate: neither space nor punctuation block
inline bool is_digit(char32_t value) { return value >= '0' && value <= '9'; }

// Python's int(text, base) and float(text); nothing where those raise ValueError.
std::optional<Integer> parse_integer(std::string_view text, int base);
std::optional<double> parse_float(std::string_view text);

}  // namespace tandem::chat::jinja
