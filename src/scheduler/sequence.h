// A request on its way: its tokens, how many of them are in the cache, and the pages that hold
// them.
#pragma once

#include <algorithm>
#include <limits>
#include <vector>

#include "scheduler/page_name.h"
#include "scheduler/scheduler.h"

namespace tandem::scheduler {

// Tokens of a sequence, by what they are and where they are:
//
//   0 ............ prompt_tokens ............ tokens.size()
//   |   prompt     |   output, each reported once         |
//   |  in the pages: [0, computed)  |  still to compute   |
//
// and its pages, while some are being fetched from a lower tier:
//
//   pages:  | ready, named | being filled ...... |        fetch_end is their number
//           0       computed / page size     fetch_end
//
// A preempted sequence has computed = 0 and no pages; it finds prompt and output in the cache or
// computes them again, and then goes on sampling.
struct Sequence {
  static constexpr double kNoDeadline = std::numeric_limits<double>::infinity();
  struct End {
    FinishReason reason = FinishReason::kNone;
    std::string error = {};
    std::string code = {};
  };

  RequestId id;
  Request request;
  uint64_t arrival = 0;  // its place among all requests
  double deadline = kNoDeadline;
  double submitted_at = 0.0;  // by the scheduler's clock, as the next two
  double admitted_at = -1.0;  // first; negative: not yet
  double first_token_at = 0.0;
  std::vector<TokenId> tokens;
  int32_t prompt_tokens = 0;
  int32_t max_total = 0;  // tokens at which it ends with kLength
  int32_t computed = 0;
  int32_t planned = 0;  // tokens of it in the step being built or run
  End end = {};         // that came while its step ran, and waits for that
  bool ended = false;   // with its last token

  std::vector<int32_t> pages;
  std::vector<PageName> names;  // the root, then its full pages, those not computed yet too
  int32_t named = 0;            // how many of `pages` are full and can be found by others
  int32_t fetch_end = 0;
  bool may_copy = false;      // from a page that begins like its next one
  int32_t reached = 0;        // the most that `computed` ever was
  int32_t cached_tokens = 0;  // of the prompt, found in the cache

  int32_t size() const { return static_cast<int32_t>(tokens.size()); }
  int32_t remaining() const { return size() - computed; }
  int32_t output_tokens() const { return size() - prompt_tokens; }
  bool in_prefill() const { return remaining() > 1; }
  bool fetching() const { return fetch_end > 0; }
};

}  // namespace tandem::scheduler
