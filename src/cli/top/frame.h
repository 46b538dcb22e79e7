// One picture of a running server, as `tandem top` shows it: text from two readings of /metrics.
#pragma once

#include <string>
#include <vector>

#include "cli/client/metrics_text.h"
#include "scheduler/step_log.h"

namespace tandem::cli::top {

struct Reading {
  double time = 0.0;  // seconds, on any clock
  MetricsText metrics;
};

struct Frame {
  std::string url;
  std::string state;  // of /health
  Reading before, now;
  bool shows_steps = false;                  // whether the server does
  std::vector<scheduler::StepRecord> steps;  // oldest first
  int width = 80;
  int height = 24;
};

// Lines of at most `width` characters, at most `height` of them.
std::vector<std::string> draw(const Frame& frame);

// The steps in a Chrome trace as /debug/steps gives it; none for anything else.
std::vector<scheduler::StepRecord> read_steps(const std::string& trace);

}  // namespace tandem::cli::top
