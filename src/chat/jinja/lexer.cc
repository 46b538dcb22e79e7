// Two modes: text between tags, and expressions inside them.
#include "chat/jinja/lexer.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "chat/jinja/meter.h"
#include "chat/jinja/text_tools.h"
#include "chat/jinja/unicode.h"

namespace tandem::chat::jinja {
namespace {

constexpr std::size_t npos = std::string_view::npos;

// CRLF and CR become LF; one newline at the very end is dropped.
std::string normalized(const std::string& source) {
  std::string out;
  out.reserve(source.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out.push_back(source[i]);
      continue;
    }
    out.push_back('\n');
    if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

bool is_name_character(char32_t value) {
  return value == '_' || is_digit(value) || is_letter(value);
}

// Python's string escapes; an unknown one stays as written.
std::string unescape(std::string_view body, int line) {
  std::string out;
  const auto number = [&](std::size_t at, std::size_t digits, int base) -> char32_t {
    const auto value =
        at + digits <= body.size() ? parse_integer(body.substr(at, digits), base) : std::nullopt;
    if (!value || *value < 0 || *value > 0x10FFFF) fail("line {}: bad escape in string", line);
    return static_cast<char32_t>(*value);
  };
  for (std::size_t at = 0; at < body.size();) {
    if (body[at] != '\\' || at + 1 == body.size()) {
      out.push_back(body[at++]);
      continue;
    }
    const char letter = body[at + 1];
    at += 2;
    static constexpr std::string_view kLetters = "\\'\"abfnrtv";
    static constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
    if (const std::size_t simple = kLetters.find(letter); simple != npos) {
      out.push_back(kMeanings[simple]);
    } else if (letter == 'x' || letter == 'u' || letter == 'U') {
      const std::size_t digits = letter == 'x' ? 2 : letter == 'u' ? 4 : 8;
      encode(number(at, digits, 16), out);
      at += digits;
    } else if (letter >= '0' && letter <= '7') {
      std::size_t end = at;
      while (end < body.size() && end < at + 2 && body[end] >= '0' && body[end] <= '7') ++end;
      encode(number(at - 1, end - at + 1, 8), out);
      at = end;
    } else if (letter != '\n') {
      out.push_back('\\');
      out.push_back(letter);
    }
  }
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string source) : storage_(normalized(source)), text_(storage_) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) between_tags();
    push(TokenKind::kEnd, "");
    return std::move(tokens_);
  }

 private:
  // What follows the first characters of a tag.
  enum class Sign { kNone, kStrip, kKeep };

  bool at(std::string_view expected, std::size_t where) const {
    return text_.substr(where).starts_with(expected);
  }

  void push(TokenKind kind, std::string text) { tokens_.push_back({kind, std::move(text), line_}); }

  void advance(std::size_t to) {
    line_ += static_cast<int>(std::count(text_.begin() + static_cast<std::ptrdiff_t>(at_),
                                         text_.begin() + static_cast<std::ptrdiff_t>(to), '\n'));
    if (to > at_) line_starting_ = text_[to - 1] == '\n';
    at_ = to;
  }

  std::size_t after_space(std::size_t from) const {
    return text_.size() - trim_left(text_.substr(from)).size();
  }

  Sign sign_at(std::size_t where) const {
    if (where < text_.size() && text_[where] == '-') return Sign::kStrip;
    return where < text_.size() && text_[where] == '+' ? Sign::kKeep : Sign::kNone;
  }

  std::size_t next_tag(std::size_t from) const {
    for (std::size_t brace = text_.find('{', from); brace != npos;
         brace = text_.find('{', brace + 1)) {
      if (brace + 1 < text_.size() && std::string_view("{%#").find(text_[brace + 1]) != npos)
        return brace;
    }
    return npos;
  }

  // Text before a tag loses its trailing white space to `-`, or the indentation of a block that
  // stands alone.
  void data_before(std::size_t tag, Sign sign, bool is_variable) {
    std::string_view data = text_.substr(at_, tag - at_);
    if (sign == Sign::kStrip) {
      data = trim_right(data);
    } else if (sign == Sign::kNone && !is_variable) {
      const std::size_t newline = data.rfind('\n');
      const std::size_t start = newline == npos ? 0 : newline + 1;
      if ((newline != npos || line_starting_) && trim_left(data.substr(start)).empty())
        data = data.substr(0, start);
    }
    if (!data.empty()) push(TokenKind::kData, std::string(data));
    advance(tag);
  }

  void between_tags() {
    const std::size_t tag = next_tag(at_);
    if (tag == npos) {
      push(TokenKind::kData, std::string(text_.substr(at_)));
      advance(text_.size());
      return;
    }
    const char type = text_[tag + 1];
    const Sign sign = sign_at(tag + 2);
    data_before(tag, sign, type == '{');
    const std::size_t inside = tag + (sign == Sign::kNone ? 2 : 3);
    if (type == '#') return comment(inside);
    if (type == '%') {
      if (const std::size_t raw = raw_begin(inside); raw != npos) return raw_block(raw);
    }
    push(type == '%' ? TokenKind::kBlockBegin : TokenKind::kVariableBegin,
         std::string(text_.substr(tag, 2)));
    advance(inside);
    expression(type == '%');
  }

  // Past the end of a block or comment at `where`, npos when it does not end there.
  std::size_t past_end(std::size_t where, std::string_view end, bool trim_newline) const {
    if (at("-", where) && at(end, where + 1)) return after_space(where + 1 + end.size());
    if (trim_newline && at("+", where) && at(end, where + 1)) return where + 1 + end.size();
    if (!at(end, where)) return npos;
    const std::size_t past = where + end.size();
    return trim_newline && at("\n", past) ? past + 1 : past;
  }

  void comment(std::size_t inside) {
    const std::size_t close = text_.find("#}", inside);
    if (close == npos) fail("line {}: missing end of comment tag", line_);
    const bool sign = close > inside && (text_[close - 1] == '-' || text_[close - 1] == '+');
    advance(past_end(sign ? close - 1 : close, "#}", true));
  }

  // Past `raw %}` when the block is one; no newline is trimmed there.
  std::size_t raw_begin(std::size_t inside) const {
    const std::size_t word = after_space(inside);
    if (!at("raw", word)) return npos;
    return past_end(after_space(word + 3), "%}", false);
  }

  void raw_block(std::size_t inside) {
    advance(inside);
    for (std::size_t tag = text_.find("{%", at_); tag != npos; tag = text_.find("{%", tag + 2)) {
      const Sign sign = sign_at(tag + 2);
      const std::size_t word = after_space(tag + (sign == Sign::kNone ? 2 : 3));
      if (!at("endraw", word)) continue;
      const std::size_t past = past_end(after_space(word + 6), "%}", true);
      if (past == npos) continue;
      data_before(tag, sign, false);
      return advance(past);
    }
    fail("line {}: missing end of raw block", line_);
  }

  void expression(bool is_block) {
    const int opened = line_;
    std::string braces;
    for (;;) {
      advance(after_space(at_));
      if (at_ == text_.size()) fail("line {}: tag is never closed", opened);
      if (braces.empty()) {
        const std::size_t past = past_end(at_, is_block ? "%}" : "}}", is_block);
        if (past != npos) {
          push(is_block ? TokenKind::kBlockEnd : TokenKind::kVariableEnd, is_block ? "%}" : "}}");
          return advance(past);
        }
      }
      token(braces);
    }
  }

  void token(std::string& braces) {
    const CodePoint point = decode(text_, at_);
    if (text_[at_] == '"' || text_[at_] == '\'') {
      string();
    } else if (is_digit(point.value)) {
      number();
    } else if (is_name_character(point.value)) {
      std::size_t end = at_;
      while (end < text_.size() && is_name_character(decode(text_, end).value))
        end += decode(text_, end).size;
      push(TokenKind::kName, std::string(text_.substr(at_, end - at_)));
      advance(end);
    } else {
      operation(braces);
    }
  }

  void string() {
    const char quote = text_[at_];
    std::size_t end = at_ + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) fail("line {}: string is never closed", line_);
    push(TokenKind::kString, unescape(text_.substr(at_ + 1, end - at_ - 1), line_));
    advance(end + 1);
  }

  std::size_t past_digits(std::size_t from, int base) const {
    const auto is_part = [&](std::size_t where) {
      if (where >= text_.size()) return false;
      const auto byte = static_cast<unsigned char>(text_[where]);
      return base == 16 ? std::isxdigit(byte) != 0 : byte >= '0' && byte < '0' + base;
    };
    std::size_t end = from;
    while (is_part(end) || (end > from && at("_", end) && is_part(end + 1))) ++end;
    return end;
  }

  void number() {
    const char letter = at_ + 1 < text_.size() ? static_cast<char>(text_[at_ + 1] | 0x20) : ' ';
    const int base = text_[at_] != '0' ? 10
                     : letter == 'x'   ? 16
                     : letter == 'o'   ? 8
                     : letter == 'b'   ? 2
                                       : 10;
    if (base != 10 && past_digits(at_ + 2, base) > at_ + 2) {
      return push_number(TokenKind::kInteger, past_digits(at_ + 2, base));
    }
    std::size_t end = past_digits(at_, 10);
    TokenKind kind = TokenKind::kInteger;
    const bool after_dot = at_ > 0 && text_[at_ - 1] == '.';  // a.0.1 is two indexes
    if (!after_dot && at(".", end) && past_digits(end + 1, 10) > end + 1) {
      end = past_digits(end + 1, 10);
      kind = TokenKind::kFloat;
    }
    if (!after_dot && (at("e", end) || at("E", end))) {
      const std::size_t sign = at("+", end + 1) || at("-", end + 1) ? 1 : 0;
      const std::size_t exponent = past_digits(end + 1 + sign, 10);
      if (exponent > end + 1 + sign) {
        end = exponent;
        kind = TokenKind::kFloat;
      }
    }
    push_number(kind, end);
  }

  void push_number(TokenKind kind, std::size_t end) {
    push(kind, std::string(text_.substr(at_, end - at_)));
    advance(end);
  }

  void operation(std::string& braces) {
    static constexpr std::string_view kOperators[] = {
        "==", "!=", "<=", ">=", "//", "**", "+", "-", "/", "*", "%", "~", "[",
        "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ","};
    const auto* found =
        std::find_if(std::begin(kOperators), std::end(kOperators),
                     [this](std::string_view candidate) { return at(candidate, at_); });
    if (found == std::end(kOperators)) {
      fail("line {}: unexpected character '{}'", line_, text_.substr(at_, decode(text_, at_).size));
    }
    const char byte = found->front();
    if (byte == '(' || byte == '[' || byte == '{') {
      braces.push_back(byte == '(' ? ')' : byte == '[' ? ']' : '}');
    } else if (byte == ')' || byte == ']' || byte == '}') {
      if (braces.empty()) fail("line {}: unexpected '{}'", line_, byte);
      if (braces.back() != byte)
        fail("line {}: unexpected '{}', expected '{}'", line_, byte, braces.back());
      braces.pop_back();
    }
    push(TokenKind::kOperator, std::string(*found));
    advance(at_ + found->size());
  }

  std::string storage_;
  std::string_view text_;
  std::size_t at_ = 0;
  int line_ = 1;
  bool line_starting_ = true;
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string source) { return Lexer(std::move(source)).run(); }

std::string describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd:
      return "end of template";
    case TokenKind::kBlockEnd:
      return "end of statement block";
    case TokenKind::kVariableEnd:
      return "end of print statement";
    case TokenKind::kString:
      return fmt::format("string \"{}\"", token.text.substr(0, 40));
    default:
      return fmt::format("'{}'", token.text.substr(0, 40));
  }
}

}  // namespace tandem::chat::jinja
