// Reads what /metrics says: Prometheus' text format into numbers.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::cli {

class MetricsText {
 public:
  MetricsText() = default;
  // Lines that are no samples are passed over.
  explicit MetricsText(std::string_view text);

  using Labels = std::map<std::string, std::string>;

  // The sum of the series of that name which have these labels; 0: there are none.
  double sum(const std::string& name, const Labels& labels = {}) const;
  // The label's values among the series of that name, in order of their text.
  std::vector<std::string> values(const std::string& name, const std::string& label) const;

  // The quantile of what a histogram gained since `before`, between its buckets' bounds; negative:
  // it gained nothing.
  double quantile(const std::string& name, double share, const MetricsText& before) const;

 private:
  struct Sample {
    Labels labels;
    double value;
  };
  std::map<std::string, std::vector<Sample>> samples_;  // by name
};

}  // namespace tandem::cli
