// The directives of C89 and the common ones of POSIX; "%-d" drops the padding. An unknown directive
// is copied.
#include "chat/jinja/strftime.h"

#include <algorithm>
#include <array>

namespace tandem::chat::jinja {
namespace {

constexpr std::array<std::string_view, 7> kDays = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                   "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> kMonths = {
    "January", "February", "March",     "April",   "May",      "June",
    "July",    "August",   "September", "October", "November", "December"};

int iso_weeks_in(int year) {
  const auto new_year_eve = [](int y) { return (y + y / 4 - y / 100 + y / 400) % 7; };
  return new_year_eve(year) == 4 || new_year_eve(year - 1) == 3 ? 53 : 52;
}

struct IsoWeek {
  int year, week;
};

IsoWeek iso_week(const std::tm& time, int weekday) {
  const int year = time.tm_year + 1900;
  const int week = (time.tm_yday + 1 - (weekday == 0 ? 7 : weekday) + 10) / 7;
  if (week < 1) return {year - 1, iso_weeks_in(year - 1)};
  if (week > iso_weeks_in(year)) return {year + 1, 1};
  return {year, week};
}

// One directive; empty where it is unknown.
std::string directive(char letter, bool padded, const std::tm& time) {
  const auto number = [padded](int value, int width, char fill = '0') {
    std::string digits = std::to_string(value);
    const auto size = static_cast<std::size_t>(width);
    return padded && digits.size() < size ? std::string(size - digits.size(), fill) + digits
                                          : digits;
  };
  const int year = time.tm_year + 1900;
  const int weekday = std::clamp(time.tm_wday, 0, 6);
  const int hour12 = time.tm_hour % 12 == 0 ? 12 : time.tm_hour % 12;
  const std::string_view day = kDays[static_cast<std::size_t>(weekday)];
  const std::string_view month = kMonths[static_cast<std::size_t>(std::clamp(time.tm_mon, 0, 11))];
  const auto sub = [&](char inner) { return directive(inner, true, time); };
  switch (letter) {
    case '%':
      return "%";
    case 'A':
      return std::string(day);
    case 'B':
      return std::string(month);
    case 'C':
      return number(year / 100, 2);
    case 'D':
      return sub('m') + "/" + sub('d') + "/" + sub('y');
    case 'F':
      return sub('Y') + "-" + sub('m') + "-" + sub('d');
    case 'G':
      return number(iso_week(time, weekday).year, 4);
    case 'H':
      return number(time.tm_hour, 2);
    case 'I':
      return number(hour12, 2);
    case 'M':
      return number(time.tm_min, 2);
    case 'R':
      return sub('H') + ":" + sub('M');
    case 'S':
      return number(time.tm_sec, 2);
    case 'T':
    case 'X':
      return sub('H') + ":" + sub('M') + ":" + sub('S');
    case 'U':
      return number((time.tm_yday + 7 - weekday) / 7, 2);
    case 'V':
      return number(iso_week(time, weekday).week, 2);
    case 'W':
      return number((time.tm_yday + 7 - (weekday + 6) % 7) / 7, 2);
    case 'Y':
      return number(year, 1);
    case 'a':
      return std::string(day.substr(0, 3));
    case 'b':
    case 'h':
      return std::string(month.substr(0, 3));
    case 'c':
      return sub('a') + " " + sub('b') + " " + sub('e') + " " + sub('T') + " " + sub('Y');
    case 'd':
      return number(time.tm_mday, 2);
    case 'e':
      return number(time.tm_mday, 2, ' ');
    case 'f':
      return "000000";
    case 'j':
      return number(time.tm_yday + 1, 3);
    case 'k':
      return number(time.tm_hour, 2, ' ');
    case 'l':
      return number(hour12, 2, ' ');
    case 'm':
      return number(time.tm_mon + 1, 2);
    case 'n':
      return "\n";
    case 'p':
      return time.tm_hour < 12 ? "AM" : "PM";
    case 'r':
      return sub('I') + ":" + sub('M') + ":" + sub('S') + " " + sub('p');
    case 't':
      return "\t";
    case 'u':
      return std::to_string(weekday == 0 ? 7 : weekday);
    case 'w':
      return std::to_string(weekday);
    case 'x':
      return sub('D');
    case 'y':
      return number(year % 100, 2);
    default:
      return {};
  }
}

}  // namespace

std::string format_time(std::string_view format, const std::tm& time, Meter& meter) {
  TextBuilder out(meter);
  for (std::size_t at = 0; at < format.size(); ++at) {
    if (format[at] != '%' || at + 1 == format.size()) {
      out.append(1, format[at]);
      continue;
    }
    const bool padded = format[at + 1] != '-' || at + 2 == format.size();
    const std::size_t letter = padded ? at + 1 : at + 2;
    if (format[letter] == 'z' || format[letter] == 'Z') {  // a naive datetime has no zone
      at = letter;
      continue;
    }
    const std::string text = directive(format[letter], padded, time);
    out.append(text.empty() ? format.substr(at, letter - at + 1) : std::string_view(text));
    at = letter;
  }
  return out.take();
}

}  // namespace tandem::chat::jinja
