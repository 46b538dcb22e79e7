// A line is NAME{LABEL="VALUE",...} NUMBER; backslashes in values escape backslash, quote and n.
#include "cli/client/metrics_text.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <set>

namespace tandem::cli {
namespace {

std::string_view take_line(std::string_view& text) {
  const size_t end = text.find('\n');
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return line;
}

// From behind the brace to behind its partner.
MetricsText::Labels take_labels(std::string_view& line) {
  MetricsText::Labels labels;
  while (!line.empty() && line[0] != '}') {
    const size_t quote = line.find("=\"");
    if (quote == std::string_view::npos) break;
    const std::string name(line.substr(0, quote));
    std::string value;
    size_t at = quote + 2;
    for (; at < line.size() && line[at] != '"'; ++at) {
      if (line[at] != '\\' || at + 1 >= line.size()) {
        value += line[at];
      } else {
        ++at;
        value += line[at] == 'n' ? '\n' : line[at];
      }
    }
    labels[name] = value;
    line.remove_prefix(std::min(at + 1, line.size()));
    if (!line.empty() && line[0] == ',') line.remove_prefix(1);
  }
  if (!line.empty()) line.remove_prefix(1);
  return labels;
}

double number(const std::string& text) {
  return text == "+Inf" ? std::numeric_limits<double>::infinity()
                        : std::strtod(text.c_str(), nullptr);
}

}  // namespace

MetricsText::MetricsText(std::string_view text) {
  while (!text.empty()) {
    std::string_view line = take_line(text);
    if (line.empty() || line[0] == '#') continue;
    const size_t end = line.find_first_of("{ ");
    if (end == std::string_view::npos) continue;
    const std::string name(line.substr(0, end));
    const bool labelled = line[end] == '{';
    line.remove_prefix(end + 1);
    Labels labels = labelled ? take_labels(line) : Labels();
    line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
    samples_[name].push_back({std::move(labels), number(std::string(line))});
  }
}

double MetricsText::sum(const std::string& name, const Labels& labels) const {
  const auto found = samples_.find(name);
  if (found == samples_.end()) return 0.0;
  double sum = 0.0;
  for (const Sample& sample : found->second) {
    const bool fits =
        std::includes(sample.labels.begin(), sample.labels.end(), labels.begin(), labels.end());
    if (fits) sum += sample.value;
  }
  return sum;
}

std::vector<std::string> MetricsText::values(const std::string& name,
                                             const std::string& label) const {
  std::set<std::string> values;
  if (const auto found = samples_.find(name); found != samples_.end()) {
    for (const Sample& sample : found->second) {
      const auto value = sample.labels.find(label);
      if (value != sample.labels.end()) values.insert(value->second);
    }
  }
  return {values.begin(), values.end()};
}

double MetricsText::quantile(const std::string& name, double share,
                             const MetricsText& before) const {
  const std::string buckets = name + "_bucket";
  std::vector<std::pair<double, double>> gained;  // bound, count up to it
  for (const std::string& bound : values(buckets, "le")) {
    const Labels label = {{"le", bound}};
    gained.emplace_back(number(bound), sum(buckets, label) - before.sum(buckets, label));
  }
  std::sort(gained.begin(), gained.end());
  if (gained.empty() || gained.back().second <= 0.0) return -1.0;
  const double wanted = share * gained.back().second;
  double low = 0.0, below = 0.0;
  for (const auto& [bound, count] : gained) {
    // Above the last bound nothing is known but that.
    if (count >= wanted && bound == std::numeric_limits<double>::infinity()) return low;
    if (count >= wanted)
      return low + (bound - low) * (wanted - below) / std::max(count - below, 1e-9);
    low = bound;
    below = count;
  }
  return low;
}

}  // namespace tandem::cli
