// A request on its way: its tokens, how many of them are in the cache, and the pages that hold
// them.
#pragma once

#include <vector>

#include "scheduler/scheduler.h"

namespace tandem::scheduler {

// Tokens of a sequence, by what they are and where they are:
//
//   0 ............ prompt_tokens ............ tokens.size()
//   |   prompt     |   output, each reported once         |
//   |  in the pages: [0, computed)  |  still to compute   |
//
// A preempted sequence has computed = 0 and no pages; it computes prompt and output again and then
// goes on sampling.
struct Sequence {
  RequestId id;
  Request request;
  std::vector<TokenId> tokens;
  int32_t prompt_tokens = 0;
  int32_t max_total = 0;  // tokens at which it ends with kLength
  int32_t computed = 0;
  std::vector<int32_t> pages;
  int32_t planned = 0;  // tokens of it in the step being built

  int32_t size() const { return static_cast<int32_t>(tokens.size()); }
  int32_t remaining() const { return size() - computed; }
  int32_t output_tokens() const { return size() - prompt_tokens; }
  bool in_prefill() const { return remaining() > 1; }
};

}  // namespace tandem::scheduler
