// Measurements as a table for people and as JSON with llama-bench's field names.
#pragma once

#include <string>

#include <boost/json.hpp>

#include "cli/bench/bounds.h"
#include "cli/bench/measure.h"

namespace tandem::cli::bench {

// What all measurements of a call share.
struct Setup {
  std::string model_path;
  std::string model_type;    // the architecture
  uint64_t model_bytes = 0;  // of the file
  int64_t parameters = 0;
  std::string cpu_name;
  std::string cpu_isa;
  int threads = 0;
  int chunk_size = 0;
  std::string kv_type;
  bool sampled = false;  // tokens were chosen from the logits
  double load_seconds = 0.0;
  Machine machine;
  models::TokenWork work;

  double load_bytes_per_second() const { return static_cast<double>(model_bytes) / load_seconds; }
};

void print_header(const Setup& setup);
// One line; with a profile, one more for each operator.
void print_row(const Measurement& m, const Setup& setup);

boost::json::object to_json(const Measurement& m, const Setup& setup);

}  // namespace tandem::cli::bench
