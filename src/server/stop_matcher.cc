// A search in the held text plus the new piece: stop strings are short, pieces too.
#include "server/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace tandem::server {

StopMatcher::StopMatcher(std::vector<std::string> stops, bool include)
    : stops_(std::move(stops)), include_(include) {
  std::erase(stops_, "");
}

std::string StopMatcher::push(std::string_view piece) {
  if (matched_) return {};
  held_ += piece;
  // Of several the one that is complete first, as it would be found if the text came byte by byte.
  size_t begin = 0, end = std::string::npos;
  for (const std::string& stop : stops_) {
    const size_t at = held_.find(stop);
    if (at == std::string::npos) continue;
    const bool earlier = at + stop.size() < end || (at + stop.size() == end && at < begin);
    if (!earlier) continue;
    begin = at;
    end = at + stop.size();
  }
  if (end != std::string::npos) {
    matched_ = true;
    std::string text = held_.substr(0, include_ ? end : begin);
    held_.clear();
    return text;
  }
  // The longest end of the text that begins a stop string.
  size_t keep = 0;
  for (const std::string& stop : stops_) {
    for (size_t n = std::min(stop.size() - 1, held_.size()); n > keep; --n) {
      if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) keep = n;
    }
  }
  std::string text = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return text;
}

std::string StopMatcher::flush() { return std::exchange(held_, {}); }

}  // namespace tandem::server
