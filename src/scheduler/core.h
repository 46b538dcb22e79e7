// The scheduling policy without threads: first come, first served, continuous batching with chunked
// prefill over pages taken on demand. A step of the engine lies between begin_step() and
// finish_step(); everything else may be called in between too, and prepare() is for that time.
#pragma once

#include <algorithm>
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

  // Of the scheduler's clock; any thread.
  double now() const { return options_.clock(); }
  // Queues a request whose prompt fits (checked by the caller) and that was submitted at that time.
  void add(RequestId id, Request request, double submitted_at);
  // What takes part in a step that was begun ends with it, without its token.
  void cancel(RequestId id);
  void cancel_all();

  bool idle() const { return waiting_.empty() && running_.empty(); }
  // The last step could do nothing: all wait for copies of pages that are under way.
  bool blocked() const { return blocked_; }
  // Until the first deadline that may have to be looked at.
  double seconds_to_deadline() const { return std::max(first_deadline_ - now(), 0.0); }
  // Begins a step of the engine, if there is anything to run.
  void begin_step();
  bool step_begun() const { return begun_; }
  // Whether the step begun runs elsewhere, so that there is time.
  bool engine_runs() { return begun_ && engine_.running(); }
  // While the step runs: what of the next one does not depend on this one's tokens. Ends what is
  // past its deadline, takes in copies and begins new ones, admits whom the next step would admit.
  void prepare();
  void finish_step();
  void step() {
    begin_step();
    prepare();
    finish_step();
  }
  bool has_events() const { return !outgoing_.empty(); }
  // Reports what happened since the last call. Apart from the others, so that pages are free and
  // statistics published by the time a client learns of its end.
  void deliver_events();

  Stats stats() const;
  // Requests in order of arrival, for tests of that order.
  std::vector<RequestId> running() const;
  std::vector<RequestId> waiting() const;
  // What begin_step() gave to the engine: lengths and positions are valid, spans are not once the
  // step has ended.
  std::span<const engine::SequenceSlice> last_batch() const { return slices_; }
  // Steps that failed since the last one that did not, and why the last of them did.
  int failures_in_a_row() const { return failures_in_a_row_; }
  const std::string& last_failure() const { return last_failure_; }
  bool engine_broken() { return engine_.broken(); }

  // Ends everything with an error.
  void fail_all(const std::string& message);

 private:
  using Sequences = std::vector<std::unique_ptr<Sequence>>;

  void expire();
  void admit();
  bool key_has_room(const Sequence& sequence) const;
  // Pages that running sequences still need for the tokens that they have, and for those that the
  // step under way gives them.
  int32_t promised_pages() const;
  bool in_step(const Sequence& s) const { return begun_ && s.planned > 0; }
  // Tokens of the next step at most: long ones only while nobody else would wait for them.
  int32_t budget() const {
    return running_.size() == 1 && waiting_.empty() ? long_step_tokens_ : step_tokens_;
  }
  // Decides how many tokens of each running sequence go into the step: decodes first, the rest of
  // the budget to prompts.
  void plan();
  // At least half of it to the oldest prompt; short ones may have the other half, then the order of
  // arrival counts.
  void plan_prompts(int32_t budget);
  // Gives every planned sequence its pages, oldest first; the youngest lose theirs when none are
  // left.
  void reserve_pages();
  bool reserve_pages_for(size_t index);
  void preempt_youngest();
  void build_batch();
  void begin_batch();
  // Begins copies to lower tiers, unless pages are wanted: a copy holds on to its page.
  void save_some();
  void advance(const engine::StepResult& result, double ended_at);
  void report_token(Sequence& sequence, const engine::SampledToken& sampled, double at);
  FinishReason finish_reason(const Sequence& sequence, TokenId token) const;
  // Frees the running sequences that have ended and moves them to ended_.
  void remove_ended();
  // Ends the step begun, which failed.
  void fail_batch(const std::string& message);
  // Ends those that meet the condition; in the step under way, when that ends.
  template <typename Condition>
  void finish_where(const Condition& condition, const Sequence::End& end);
  void finish_without_token(std::unique_ptr<Sequence> sequence, const Sequence::End& end);

  engine::Engine& engine_;
  Options options_;
  int32_t page_size_;
  int32_t step_tokens_;       // budget of a step
  int32_t long_step_tokens_;  // while one request is alive
  int32_t capacity_;
  PrefixCache cache_;
  std::deque<std::unique_ptr<Sequence>> waiting_;  // in order of arrival
  Sequences running_;                              // in order of arrival
  uint64_t arrivals_ = 0;
  double first_deadline_ = Sequence::kNoDeadline;
  Speed prefill_speed_;    // tokens a second
  bool begun_ = false;     // a step of the engine
  double begun_at_ = 0.0;  // by the clock
  bool short_of_pages_ = false;
  bool blocked_ = false;
  Stats totals_;
  int failures_in_a_row_ = 0;
  std::string last_failure_;

  struct Outgoing {
    Sequence* sequence;  // in running_, waiting_ or ended_
    TokenEvent event;
  };
  std::vector<Outgoing> outgoing_;
  Sequences ended_;  // alive until their last event is delivered

  // Of the step being built; kept to reuse their memory.
  std::vector<TokenId> batch_tokens_;
  std::vector<engine::SequenceSlice> slices_;
  std::vector<Sequence*> slice_owner_;  // of each slice, in running_
};

}  // namespace tandem::scheduler
