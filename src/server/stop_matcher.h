// Finds stop strings in a text that arrives in pieces, and holds back what may be the beginning of
// one.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::server {

class StopMatcher {
 public:
  // include: the stop string itself is part of the text.
  StopMatcher(std::vector<std::string> stops, bool include);

  // Text that is certain now. After a match nothing more comes.
  std::string push(std::string_view piece);
  // What was held back, at the end.
  std::string flush();
  bool matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  bool include_;
  bool matched_ = false;
  std::string held_;
};

}  // namespace tandem::server
