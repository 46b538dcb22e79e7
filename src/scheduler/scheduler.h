// First-come-first-served continuous batching: requests in, token events out. One thread owns every
// mutable sequence and page; other threads talk to it through a mailbox only.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/hash128.h"
#include "base/result.h"
#include "engine/engine.h"
#include "scheduler/page_store.h"
#include "scheduler/step_log.h"

namespace tandem::scheduler {

using engine::SamplingParams;
using engine::TokenId;
using RequestId = uint64_t;

enum class Strategy { kFcfs, kFcfsSinglePrefill };

struct Options {
  int max_batch_size = 4;     // sequences running at once
  int chunk_size = 256;       // tokens in a step at most; decodes first, the rest is prefill
  int long_chunk_size = 0;    // the same while one request is alive; chunk_size if that is more
  int max_new_tokens = 1024;  // cap for requests that name none
  int max_queue = 1024;       // waiting requests; one more is refused with code "queue_full"
  Strategy strategy = Strategy::kFcfs;
  int max_running_per_key = 0;  // requests of one key running at once; 0: no limit
  int max_queue_per_key = 0;    // requests of one key waiting; one more: "key_queue_full"; 0: none

  bool prefix_cache = true;            // keep and share the pages of equal beginnings
  Hash128 model_identity = {};         // of all that a page's bytes depend on beside its tokens
  int64_t host_cache_bytes = 0;        // of copies of pages in the host's memory
  std::function<double()> clock = {};  // seconds, any thread; empty: the system's steady clock
  // Called once, on the scheduler's thread, when it cannot go on: the engine is broken or fails
  // step after step, or something of ours threw. All requests have had their kError by then, and
  // further ones get it at once; the process should end.
  std::function<void(const std::string& what)> on_fatal = {};
};

// Where a request's time went so far, in seconds.
struct Times {
  double queued = 0.0;   // from submission to its first admission
  double prefill = 0.0;  // from there to its first token, preemption included
  double decode = 0.0;   // from there to its last one
};

enum class FinishReason { kNone, kStop, kLength, kCancelled, kError };

// What a request learns while it runs. Called on the scheduler's thread: must not block, nor call
// back into it.
struct TokenEvent {
  TokenId token = -1;  // -1: no token, only an end
  float logprob = 0.0F;
  std::vector<engine::TokenLogprob> top;  // best first, as many as asked for
  FinishReason finish = FinishReason::kNone;
  std::string error = {};       // with kError
  std::string error_code = {};  // "timeout" where its deadline passed
  int32_t prompt_tokens = 0;
  int32_t cached_tokens = 0;  // of the prompt, not computed again
  int32_t output_tokens = 0;  // so far, this token included
  Times times = {};           // with a token
};

// One request's part of what its key may have open; given back when the last copy is gone.
using Place = std::shared_ptr<const void>;

struct Request {
  std::vector<TokenId> prompt;  // not empty
  SamplingParams sampling;
  int32_t max_tokens = -1;  // -1: Options::max_new_tokens; always cut at the context's end
  int32_t min_tokens = 0;   // end tokens are banned before
  bool ignore_eos = false;
  std::vector<TokenId> end_tokens;  // finish kStop; the token is reported in the last event
  double timeout_seconds = 0.0;     // from submission to its end, which then is kError; 0: no limit
  uint64_t key = 0;                 // whose it is, for the limits of a key; 0: nobody's
  uint64_t cache_scope = 0;         // it shares cached pages with requests of the same scope only
  Place place = {};                 // from reserve(); without one, submit() takes it
  std::function<void(TokenEvent)> on_event;
};

// A snapshot for /metrics and tests.
struct Stats {
  int running = 0;
  int waiting = 0;
  int page_size = 0;  // tokens
  int pages_total = 0;
  int pages_free = 0;    // held by no request, cached ones included
  int pages_cached = 0;  // of those: hold tokens that a request may share
  uint64_t steps = 0;
  uint64_t step_prefill_tokens = 0;  // of all steps; with what was computed again
  uint64_t step_decode_tokens = 0;
  StepSizes step_sizes = {};
  double step_seconds = 0.0;
  uint64_t prompt_tokens = 0;  // computed
  uint64_t cached_tokens = 0;  // of prompts, found in the cache
  uint64_t generated_tokens = 0;
  uint64_t preemptions = 0;
  uint64_t finished_stop = 0;
  uint64_t finished_length = 0;
  uint64_t cancelled = 0;
  uint64_t failed = 0;  // those that ran out of time included
  uint64_t timed_out = 0;
  TierStats tiers = {};  // below the engine's pages
  engine::HotStatistics hot = {};
};

class Scheduler {
 public:
  // Starts the thread. The engine must outlive the scheduler. disk: where pages go too; may be
  // null.
  static std::unique_ptr<Scheduler> start(engine::Engine& engine, const Options& options,
                                          std::unique_ptr<PageDisk> disk = nullptr);
  // Cancels what runs and joins the thread.
  virtual ~Scheduler() = default;

  // Thread-safe. A place for a request of which no more than its key is known yet, before work is
  // done for it. Failure where submit() would refuse whatever it is: "queue_full",
  // "key_queue_full", "unavailable".
  virtual Result<Place> reserve(uint64_t key) = 0;
  // Thread-safe. Failure for a prompt that can never fit (code "context_length_exceeded"), for a
  // full queue ("queue_full", or "key_queue_full" for its key's share), or while stopping
  // ("unavailable"). Success: events follow until one with finish != kNone.
  virtual Result<RequestId> submit(Request request) = 0;
  // Thread-safe; takes effect at once, or at the end of the step under way if the request takes
  // part in it. Unknown ids are ignored. The request's last event has kCancelled.
  virtual void cancel(RequestId id) = 0;
  // No new requests; returns when all have ended or the time is over (then the rest is cancelled).
  virtual void drain(double seconds) = 0;
  virtual Stats stats() const = 0;
  virtual std::vector<StepRecord> recent_steps() const { return {}; }
};

}  // namespace tandem::scheduler
