// The file of --hot_experts FILE: how often each expert of each layer was used, as JSON.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace tandem::engine {

struct HotCounts {
  std::vector<int> layers;     // of the model, in this order
  int experts = 0;             // E
  std::vector<double> counts;  // [layers, E]
};

// Counts of the given layers; zeros where the file has none of a layer, or is not there. Throws
// Error for a file that cannot be read, is not of this form or has another number of experts.
HotCounts read_hot_file(const std::string& path, std::span<const int> layers, int experts);
// Through a file beside it, so that there is always a whole one. Throws Error.
void write_hot_file(const std::string& path, const HotCounts& counts);

}  // namespace tandem::engine
