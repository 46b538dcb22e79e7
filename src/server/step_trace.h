// The scheduler's recent steps in the format that chrome://tracing and Perfetto read.
#pragma once

#include <string>
#include <vector>

#include "scheduler/step_log.h"

namespace tandem::server {

// {"traceEvents": [...]}: one slice a step with its composition, and counters for queue and pages.
std::string step_trace(const std::vector<scheduler::StepRecord>& steps);

}  // namespace tandem::server
