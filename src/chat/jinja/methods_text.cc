// Methods of text, Python's str.
#include <algorithm>

#include "chat/jinja/format.h"
#include "chat/jinja/functions.h"
#include "chat/jinja/operations.h"
#include "chat/jinja/print.h"
#include "chat/jinja/text_tools.h"
#include "chat/jinja/unicode.h"

namespace tandem::chat::jinja {
namespace {

const Text& text_self(const Value& self) { return std::get<Text>(self); }

// Methods of markup give markup.
Value like(const Value& self, std::string text, Runtime& runtime) {
  return runtime.heap.text(std::move(text), text_self(self).markup());
}

std::string_view required_text(const Value* argument) {
  if (argument == nullptr || !is<Text>(*argument)) fail("a string argument is required");
  return std::get<Text>(*argument).view();
}

template <Side side>
Value stripped(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [chars] = bind(arguments, {"chars"});
  std::optional<std::string_view> set;
  if (chars != nullptr && !is<None>(*chars)) set = required_text(chars);
  const std::string_view text = text_self(self).view();
  if (set) runtime.meter.step(text.size() / 64 * (1 + set->size() / 16));
  return like(self, std::string(strip(text, side, set)), runtime);
}

template <std::string (*change)(std::string_view)>
Value changed(Runtime& runtime, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return like(self, change(text_self(self).view()), runtime);
}

// str.title: a letter after anything but a letter begins a word.
std::string title(std::string_view text) {
  std::string out;
  bool inside = false;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode(text, at);
    const std::string_view character = text.substr(at, point.size);
    out += inside ? to_lower(character) : title_case(character);
    inside = is_lower(point.value) || is_upper(point.value);
    at += point.size;
  }
  return out;
}

std::string swapcase(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode(text, at);
    const std::string_view character = text.substr(at, point.size);
    out += is_upper(point.value) ? to_lower(character) : to_upper(character);
    at += point.size;
  }
  return out;
}

std::vector<std::string_view> split_at_space(std::string_view text, Integer limit) {
  std::vector<std::string_view> parts;
  text = trim_left(text);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<Integer>(parts.size()) == limit) {
      parts.push_back(text);
      break;
    }
    std::size_t end = 0;
    while (end < text.size() && !is_space(decode(text, end).value)) end += decode(text, end).size;
    parts.push_back(text.substr(0, end));
    text = trim_left(text.substr(end));
  }
  return parts;
}

std::vector<std::string_view> rsplit_at_space(std::string_view text, Integer limit) {
  std::vector<std::string_view> parts;
  text = trim_right(text);
  while (!text.empty()) {
    if (limit >= 0 && static_cast<Integer>(parts.size()) == limit) {
      parts.push_back(text);
      break;
    }
    std::size_t start = text.size();
    while (start > 0 && !is_space(decode_before(text, start).value))
      start -= decode_before(text, start).size;
    parts.push_back(text.substr(start));
    text = trim_right(text.substr(0, start));
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::vector<std::string_view> split_at(std::string_view text, std::string_view separator,
                                       Integer limit) {
  std::vector<std::string_view> parts;
  while (limit < 0 || static_cast<Integer>(parts.size()) < limit) {
    const std::size_t found = find_text(text, separator);
    if (found == std::string_view::npos) break;
    parts.push_back(text.substr(0, found));
    text.remove_prefix(found + separator.size());
  }
  parts.push_back(text);
  return parts;
}

std::vector<std::string_view> rsplit_at(std::string_view text, std::string_view separator,
                                        Integer limit, Meter& meter) {
  std::vector<std::string_view> parts;
  meter.step(text.size() / 64 *
             (1 + separator.size() / 64));  // rfind is not linear in long separators
  while (limit < 0 || static_cast<Integer>(parts.size()) < limit) {
    const std::size_t found = text.rfind(separator);
    if (found == std::string_view::npos) break;
    parts.push_back(text.substr(found + separator.size()));
    text = text.substr(0, found);
  }
  parts.push_back(text);
  std::reverse(parts.begin(), parts.end());
  return parts;
}

Value list_of(const std::vector<std::string_view>& parts, const Value& self, Runtime& runtime) {
  std::vector<Value> items;
  items.reserve(parts.size());
  for (const std::string_view part : parts) {
    runtime.meter.step();
    items.push_back(like(self, std::string(part), runtime));
  }
  return runtime.heap.list(std::move(items));
}

template <bool from_right>
Value split(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [separator, maximum] = bind(arguments, {"sep", "maxsplit"});
  const Integer limit = integer_argument(maximum, -1);
  const std::string_view text = text_self(self).view();
  if (separator == nullptr || is<None>(*separator)) {
    return list_of(from_right ? rsplit_at_space(text, limit) : split_at_space(text, limit), self,
                   runtime);
  }
  const std::string_view between = required_text(separator);
  if (between.empty()) fail("empty separator");
  return list_of(
      from_right ? rsplit_at(text, between, limit, runtime.meter) : split_at(text, between, limit),
      self, runtime);
}

Value splitlines(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [keep_ends] = bind(arguments, {"keepends"});
  return list_of(split_lines(text_self(self).view(), flag_argument(keep_ends, false)), self,
                 runtime);
}

template <bool from_right>
Value partition(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [separator] = bind(arguments, {"sep"}, 1);
  const std::string_view text = text_self(self).view(), between = required_text(separator);
  if (between.empty()) fail("empty separator");
  if (from_right) runtime.meter.step(text.size() / 64 * (1 + between.size() / 64));
  const std::size_t found = from_right ? text.rfind(between) : find_text(text, between);
  const auto part = [&](std::string_view piece) { return like(self, std::string(piece), runtime); };
  if (found == std::string_view::npos) {
    return from_right ? runtime.heap.tuple({part(""), part(""), part(text)})
                      : runtime.heap.tuple({part(text), part(""), part("")});
  }
  return runtime.heap.tuple(
      {part(text.substr(0, found)), part(between), part(text.substr(found + between.size()))});
}

Value join(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [items] = bind(arguments, {"iterable"}, 1);
  TextBuilder out(runtime.meter);
  bool first = true;
  for (const Value& item : iterate(*items, runtime)) {
    const Text* text = std::get_if<Text>(&item);
    if (text == nullptr) fail("join: expected str items, found {}", type_name(item));
    runtime.meter.step();
    if (!first) out.append(text_self(self).view());
    out.append(text->view());
    first = false;
  }
  return like(self, out.take(), runtime);
}

Value replaced(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [from, to, limit] = bind(arguments, {"old", "new", "count"}, 2);
  return like(self,
              replace(text_self(self).view(), required_text(from), required_text(to),
                      integer_argument(limit, -1), runtime.meter),
              runtime);
}

// The part that start and end select, as find, count, startswith and endswith take them.
struct Window {
  std::string_view text;
  std::size_t skipped;  // characters before it
  bool valid;           // false: start lies beyond the end, where even "" is not found
};

Window window(const Value& self, const Value* start, const Value* end) {
  const std::string_view text = text_self(self).view();
  if (start == nullptr && end == nullptr) return {text, 0, true};
  const auto size = static_cast<Integer>(count_characters(text));
  const auto bounded = [&](const Value* bound, Integer fallback) {
    const Integer at = integer_argument(bound, fallback);
    return at < 0 ? std::max<Integer>(at + size, 0) : at;
  };
  const Integer first = bounded(start, 0), last = std::min(bounded(end, size), size);
  if (first > last) return {{}, 0, false};
  const std::size_t from = offset_of(text, static_cast<std::size_t>(first));
  const std::size_t count = offset_of(text.substr(from), static_cast<std::size_t>(last - first));
  return {text.substr(from, count), static_cast<std::size_t>(first), true};
}

template <bool at_end>
Value has_affix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [affix, start, end] = bind(arguments, {"affix", "start", "end"}, 1);
  const Window part = window(self, start, end);
  const auto matches = [&](const Value& candidate) {
    const std::string_view text = required_text(&candidate);
    runtime.meter.touch_text(std::min(text.size(), part.text.size()));
    return part.valid && (at_end ? part.text.ends_with(text) : part.text.starts_with(text));
  };
  const auto* choices = std::get_if<Sequence*>(affix);
  if (choices == nullptr || (*choices)->kind != SequenceKind::kTuple) return matches(*affix);
  runtime.meter.step((*choices)->items.size());
  return std::any_of((*choices)->items.begin(), (*choices)->items.end(), matches);
}

template <bool at_end>
Value without_affix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [affix] = bind(arguments, {"affix"}, 1);
  std::string_view text = text_self(self).view();
  const std::string_view unwanted = required_text(affix);
  if (at_end && text.ends_with(unwanted)) text.remove_suffix(unwanted.size());
  if (!at_end && text.starts_with(unwanted)) text.remove_prefix(unwanted.size());
  return like(self, std::string(text), runtime);
}

template <bool from_right, bool must_exist>
Value found_at(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [needle, start, end] = bind(arguments, {"sub", "start", "end"}, 1);
  const Window part = window(self, start, end);
  const std::string_view wanted = required_text(needle);
  if (from_right) runtime.meter.step(part.text.size() / 64 * (1 + wanted.size() / 64));
  std::size_t at = std::string_view::npos;
  if (part.valid) at = from_right ? part.text.rfind(wanted) : find_text(part.text, wanted);
  if (at == std::string_view::npos) {
    if (must_exist) fail("substring not found");
    return Integer{-1};
  }
  return Integer{part.skipped + count_characters(part.text.substr(0, at))};
}

Value count(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [needle, start, end] = bind(arguments, {"sub", "start", "end"}, 1);
  const Window part = window(self, start, end);
  const std::string_view wanted = required_text(needle);
  if (!part.valid) return Integer{0};
  if (wanted.empty()) return Integer{count_characters(part.text) + 1};
  Integer found = 0;
  for (std::size_t at = find_text(part.text, wanted); at != std::string_view::npos;
       at = find_text(part.text, wanted, at + wanted.size())) {
    runtime.meter.step();
    ++found;
  }
  return found;
}

Value format(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return format_braces(text_self(self), arguments, runtime);
}

// -1 left, 0 centre, 1 right: where the text goes.
template <int place>
Value padded(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [width, fill] = bind(arguments, {"width", "fillchar"}, 1);
  const std::string_view text = text_self(self).view(),
                         filler = fill == nullptr ? " " : required_text(fill);
  if (count_characters(filler) != 1) fail("the fill character must be exactly one character long");
  const auto size = static_cast<Integer>(count_characters(text));
  const Integer wanted = integer_argument(width, 0);
  const Integer missing = std::clamp<Integer>(wanted - size, 0, kMaxTextBytes);
  const Integer centred = missing / 2 + (missing & wanted & 1);
  const Integer before = place < 0 ? 0 : place > 0 ? missing : centred;
  TextBuilder out(runtime.meter);
  for (Integer i = 0; i < before; ++i) out.append(filler);
  out.append(text);
  for (Integer i = before; i < missing; ++i) out.append(filler);
  return like(self, out.take(), runtime);
}

Value zfill(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto [width] = bind(arguments, {"width"}, 1);
  const std::string_view text = text_self(self).view();
  const Integer missing = integer_argument(width, 0) - static_cast<Integer>(count_characters(text));
  const std::size_t sign = !text.empty() && (text[0] == '-' || text[0] == '+') ? 1 : 0;
  TextBuilder out(runtime.meter);
  out.append(text.substr(0, sign));
  if (missing > 0)
    out.append(static_cast<std::size_t>(std::min<Integer>(missing, kMaxTextBytes + 1)), '0');
  out.append(text.substr(sign));
  return like(self, out.take(), runtime);
}

bool is_alphanumeric(char32_t value) { return is_letter(value) || is_digit(value); }

template <bool (*belongs)(char32_t)>
Value all(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  const std::string_view text = text_self(self).view();
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = decode(text, at);
    if (!belongs(point.value)) return false;
    at += point.size;
  }
  return !text.empty();
}

template <bool (*holds)(std::string_view)>
Value cased(Runtime&, const Value& self, const Arguments& arguments) {
  bind_none(arguments);
  return holds(text_self(self).view());
}

constexpr NativeEntry kMethods[] = {
    {"capitalize", changed<capitalize>},
    {"center", padded<0>},
    {"count", count},
    {"endswith", has_affix<true>},
    {"find", found_at<false, false>},
    {"format", format},
    {"index", found_at<false, true>},
    {"isalnum", all<is_alphanumeric>},
    {"isalpha", all<is_letter>},
    {"isdecimal", all<is_digit>},
    {"isdigit", all<is_digit>},
    {"islower", cased<is_lower_text>},
    {"isnumeric", all<is_digit>},
    {"isspace", all<is_space>},
    {"isupper", cased<is_upper_text>},
    {"join", join},
    {"ljust", padded<-1>},
    {"lower", changed<to_lower>},
    {"lstrip", stripped<Side::kLeft>},
    {"partition", partition<false>},
    {"removeprefix", without_affix<false>},
    {"removesuffix", without_affix<true>},
    {"replace", replaced},
    {"rfind", found_at<true, false>},
    {"rindex", found_at<true, true>},
    {"rjust", padded<1>},
    {"rpartition", partition<true>},
    {"rsplit", split<true>},
    {"rstrip", stripped<Side::kRight>},
    {"split", split<false>},
    {"splitlines", splitlines},
    {"startswith", has_affix<false>},
    {"strip", stripped<Side::kBoth>},
    {"swapcase", changed<swapcase>},
    {"title", changed<title>},
    {"upper", changed<to_upper>},
    {"zfill", zfill},
};

}  // namespace

const NativeEntry* find_text_method(std::string_view name) { return find_entry(kMethods, name); }

}  // namespace tandem::chat::jinja
