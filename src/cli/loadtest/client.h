// Sends a plan to a server over HTTP and notes when each piece of each answer came.
#pragma once

#include <string>
#include <vector>

#include "cli/client/http.h"
#include "cli/loadtest/plan.h"

namespace tandem::cli::loadtest {

struct Outcome {
  int status = 0;            // of HTTP; 0: there was no answer
  std::string error;         // what went wrong; empty: nothing
  bool hung_up = false;      // as planned
  int prompt_tokens = 0;     // as the server counts them
  int output_tokens = 0;     // as the server counts them, or seen before the hang-up
  double start = 0.0;        // seconds since the beginning
  double first_token = 0.0;  // seconds since its start
  double end = 0.0;          // seconds since its start
  std::vector<double> gaps;  // seconds between two events with text
};

struct LoadOptions {
  Url url;
  std::string key;
  int concurrency = 8;  // requests at once at most; later ones wait for a place
};

std::vector<Outcome> run_plan(const LoadOptions& options, const std::vector<PlannedRequest>& plan);

// The gaps that lie wholly in times when `streams` answers were between their first and their last
// token: what a batch of so many gives, without the prompts before and the stragglers behind.
std::vector<double> gaps_while_full(const std::vector<Outcome>& outcomes, int streams);

}  // namespace tandem::cli::loadtest
