// The scheduling policy without threads: first come, first served, continuous batching with chunked
// prefill over pages taken on demand. One call of step() is one step of the engine.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "scheduler/prefix_cache.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"
#include "scheduler/speeds.h"

namespace tandem::scheduler {

class Core {
 public:
  // store: tiers below the engine's pages; null: none.
  Core(engine::Engine& engine, const Options& options, PageStore* store = nullptr);

  // The most tokens, prompt and output together, that one request may have.
  int32_t capacity() const { return capacity_; }

  // Queues a request whose prompt fits (checked by the caller).
  void add(RequestId id, Request request);
  void cancel(RequestId id);
  void cancel_all();

  bool idle() const { return waiting_.empty() && running_.empty(); }
  // The last step could do nothing: all wait for copies of pages that are under way.
  bool blocked() const { return blocked_; }
  // Runs one engine step, if there is anything to run.
  void step();
  // Reports what happened since the last call. Apart from step() and cancel(), so that pages are
  // free and statistics published by the time a client learns of its end.
  void deliver_events();

  Stats stats() const;
  // Requests in order of arrival, for tests of that order.
  std::vector<RequestId> running() const;
  std::vector<RequestId> waiting() const;
  // What the last call of step() gave to the engine: lengths and positions are valid, spans are
  // not.
  std::span<const engine::SequenceSlice> last_batch() const { return slices_; }
  // Steps that failed since the last one that did not.
  int failures_in_a_row() const { return failures_in_a_row_; }

  // Ends everything with an error.
  void fail_all(const std::string& message);

 private:
  using Sequences = std::vector<std::unique_ptr<Sequence>>;

  void expire();
  void admit();
  bool key_has_room(const Sequence& sequence) const;
  // Pages that running sequences still need for the tokens that they have.
  int32_t promised_pages() const;
  // Decides how many tokens of each running sequence go into the step: decodes first, the rest of
  // the budget to prefill in order of arrival.
  void plan();
  // Gives every planned sequence its pages, oldest first; the youngest lose theirs when none are
  // left.
  void reserve_pages();
  bool reserve_pages_for(size_t index);
  void preempt_youngest();
  void build_batch();
  void run_batch();
  void advance(const engine::StepResult& result);
  FinishReason finish_reason(const Sequence& sequence, TokenId token) const;
  // Frees the running sequences for which ended[i] is set and moves them to ended_.
  void remove_ended(const std::vector<bool>& ended);
  void fail_batch(const std::string& message);
  void finish_without_token(std::unique_ptr<Sequence> sequence, FinishReason reason,
                            const std::string& error = {}, std::string_view code = {});
  template <typename Condition>
  void finish_where(const Condition& condition, FinishReason reason, const std::string& error = {},
                    std::string_view code = {});

  engine::Engine& engine_;
  Options options_;
  int32_t page_size_;
  int32_t step_tokens_;  // budget of a step
  int32_t capacity_;
  PrefixCache cache_;
  std::deque<std::unique_ptr<Sequence>> waiting_;  // in order of arrival
  Sequences running_;                              // in order of arrival
  uint64_t arrivals_ = 0;
  double first_deadline_ = Sequence::kNoDeadline;
  Speed prefill_speed_;  // tokens a second
  bool short_of_pages_ = false;
  bool blocked_ = false;
  Stats totals_;
  int failures_in_a_row_ = 0;

  struct Outgoing {
    Sequence* sequence;  // in running_, waiting_ or ended_
    TokenEvent event;
  };
  std::vector<Outgoing> outgoing_;
  Sequences ended_;  // alive until their last event is delivered

  // Of the step being built; kept to reuse their memory.
  std::vector<TokenId> batch_tokens_;
  std::vector<engine::SequenceSlice> slices_;
  std::vector<size_t> slice_owner_;  // index into running_ of each slice
};

}  // namespace tandem::scheduler
