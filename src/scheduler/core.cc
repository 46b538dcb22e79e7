// One step: admit, plan, reserve pages, build the batch, run it, deliver.
#include "scheduler/core.h"

#include <algorithm>

namespace tandem::scheduler {

Core::Core(engine::Engine& engine, const Options& options)
    : engine_(engine),
      options_(options),
      page_size_(engine.info().page_size),
      pages_(engine.info().num_pages) {
  const engine::EngineInfo& info = engine.info();
  options_.max_batch_size = std::min(options.max_batch_size, info.max_step_sequences);
  TANDEM_CHECK(options_.max_batch_size > 0 && options_.max_batch_size <= info.max_step_tokens,
               "{} sequences in steps of {} tokens", options_.max_batch_size, info.max_step_tokens);
  // Room for a token of every running sequence, however small the chunk: nobody starves.
  step_tokens_ =
      std::min(std::max(options.chunk_size, options_.max_batch_size), info.max_step_tokens);
  capacity_ = static_cast<int32_t>(
      std::min<int64_t>(info.context_length, int64_t{info.num_pages} * info.page_size));
  batch_tokens_.reserve(static_cast<size_t>(step_tokens_));
  slices_.reserve(static_cast<size_t>(options_.max_batch_size));
  slice_owner_.reserve(static_cast<size_t>(options_.max_batch_size));
}

void Core::add(RequestId id, Request request) {
  auto sequence = std::make_unique<Sequence>();
  sequence->id = id;
  sequence->tokens = std::move(request.prompt);
  sequence->prompt_tokens = sequence->size();
  const int64_t output = request.max_tokens >= 0 ? request.max_tokens : options_.max_new_tokens;
  sequence->max_total = static_cast<int32_t>(
      std::min<int64_t>(capacity_, sequence->prompt_tokens + std::max<int64_t>(output, 1)));
  sequence->tokens.reserve(static_cast<size_t>(sequence->max_total));
  sequence->request = std::move(request);
  waiting_.push_back(std::move(sequence));
}

void Core::step() {
  admit();
  plan();
  reserve_pages();
  build_batch();
  if (slices_.empty()) return;
  ++totals_.steps;
  try {
    advance(engine_.step({.tokens = batch_tokens_, .sequences = slices_}));
    failures_in_a_row_ = 0;
  } catch (const std::exception& error) {
    ++failures_in_a_row_;
    fail_running(error.what());
  }
}

void Core::admit() {
  while (!waiting_.empty() && static_cast<int>(running_.size()) < options_.max_batch_size) {
    const bool busy_prefill = std::any_of(running_.begin(), running_.end(),
                                          [](const auto& s) { return s->in_prefill(); });
    if (options_.strategy == Strategy::kFcfsSinglePrefill && busy_prefill) return;
    // Its pages are taken as it grows, but one that could not even hold its present tokens would
    // only be preempted.
    int32_t promised = 0;
    for (const auto& s : running_) {
      promised += pages_for(s->size()) - static_cast<int32_t>(s->pages.size());
    }
    if (pages_for(waiting_.front()->size()) > pages_.free() - promised && !running_.empty()) return;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
  }
}

void Core::plan() {
  int32_t budget = step_tokens_;
  for (const auto& s : running_) {
    s->planned = s->in_prefill() ? 0 : 1;
    budget -= s->planned;
  }
  for (const auto& s : running_) {
    if (!s->in_prefill()) continue;
    s->planned = std::min(s->remaining(), budget);
    budget -= s->planned;
    if (options_.strategy == Strategy::kFcfsSinglePrefill) break;
  }
}

void Core::reserve_pages() {
  for (size_t i = 0; i < running_.size(); ++i) {
    while (!reserve_pages_for(i)) {
      preempt_youngest();
      if (i >= running_.size()) return;  // it was the youngest itself
    }
  }
}

bool Core::reserve_pages_for(size_t index) {
  Sequence& s = *running_[index];
  if (s.planned == 0) return true;
  const auto held = [&] { return static_cast<int32_t>(s.pages.size()); };
  while (held() < pages_for(s.computed + s.planned) && pages_.free() > 0) {
    s.pages.push_back(pages_.take());
  }
  // A prompt goes on with what fits; older sequences never wait for it.
  const bool youngest = index + 1 == running_.size();
  const int32_t room = held() * page_size_ - s.computed;
  if (youngest && s.in_prefill() && room > 0) s.planned = std::min(s.planned, room);
  return room >= s.planned;
}

void Core::preempt_youngest() {
  std::unique_ptr<Sequence> victim = std::move(running_.back());
  running_.pop_back();
  pages_.release(victim->pages);
  victim->computed = 0;
  victim->planned = 0;
  ++totals_.preemptions;
  waiting_.push_front(std::move(victim));  // older than all that wait
}

void Core::build_batch() {
  batch_tokens_.clear();
  slices_.clear();
  slice_owner_.clear();
  for (size_t i = 0; i < running_.size(); ++i) {
    const Sequence& s = *running_[i];
    if (s.planned == 0) continue;
    const auto begin = s.tokens.begin() + s.computed;
    batch_tokens_.insert(batch_tokens_.end(), begin, begin + s.planned);
    const bool sample = s.planned == s.remaining();
    const bool ban_ends = sample && s.output_tokens() < s.request.min_tokens;
    slices_.push_back({.num_tokens = s.planned,
                       .position = s.computed,
                       .pages = s.pages,
                       .sample = sample,
                       .sampling = &s.request.sampling,
                       .history = s.tokens,
                       .prompt_tokens = s.prompt_tokens,
                       .banned = ban_ends ? std::span<const TokenId>(s.request.end_tokens)
                                          : std::span<const TokenId>()});
    slice_owner_.push_back(i);
  }
}

void Core::advance(const engine::StepResult& result) {
  std::vector<bool> ended(running_.size());
  for (size_t i = 0; i < slices_.size(); ++i) {
    Sequence& s = *running_[slice_owner_[i]];
    const int32_t before = s.computed;
    s.computed += s.planned;
    totals_.prompt_tokens += static_cast<uint64_t>(
        std::max(0, std::min(s.computed, s.prompt_tokens) - std::min(before, s.prompt_tokens)));
    if (!slices_[i].sample) continue;
    const engine::SampledToken& sampled = result.tokens[i];
    s.tokens.push_back(sampled.token);
    ++totals_.generated_tokens;
    TokenEvent event{.token = sampled.token,
                     .logprob = sampled.logprob,
                     .top = {sampled.top.begin(), sampled.top.end()},
                     .finish = finish_reason(s, sampled.token),
                     .prompt_tokens = s.prompt_tokens,
                     .output_tokens = s.output_tokens()};
    ended[slice_owner_[i]] = event.finish != FinishReason::kNone;
    totals_.finished_stop += event.finish == FinishReason::kStop;
    totals_.finished_length += event.finish == FinishReason::kLength;
    outgoing_.push_back({&s, std::move(event)});
  }
  remove_ended(ended);
}

FinishReason Core::finish_reason(const Sequence& s, TokenId token) const {
  const auto& ends = s.request.end_tokens;
  const bool is_end = std::find(ends.begin(), ends.end(), token) != ends.end();
  if (is_end && !s.request.ignore_eos) return FinishReason::kStop;
  return s.size() >= s.max_total ? FinishReason::kLength : FinishReason::kNone;
}

void Core::remove_ended(const std::vector<bool>& ended) {
  size_t kept = 0;
  for (size_t i = 0; i < running_.size(); ++i) {
    if (ended[i]) {
      pages_.release(running_[i]->pages);
      ended_.push_back(std::move(running_[i]));
    } else {
      if (kept != i) running_[kept] = std::move(running_[i]);
      ++kept;
    }
  }
  running_.resize(kept);
}

void Core::finish_without_token(std::unique_ptr<Sequence> s, FinishReason reason,
                                const std::string& error) {
  pages_.release(s->pages);
  totals_.cancelled += reason == FinishReason::kCancelled;
  totals_.failed += reason == FinishReason::kError;
  outgoing_.push_back({s.get(),
                       {.top = {},
                        .finish = reason,
                        .error = error,
                        .prompt_tokens = s->prompt_tokens,
                        .output_tokens = s->output_tokens()}});
  ended_.push_back(std::move(s));
}

void Core::deliver_events() {
  for (Outgoing& o : outgoing_) o.sequence->request.on_event(std::move(o.event));
  outgoing_.clear();
  ended_.clear();
}

void Core::fail_running(const std::string& message) {
  for (auto& s : running_) finish_without_token(std::move(s), FinishReason::kError, message);
  running_.clear();
}

void Core::fail_all(const std::string& message) {
  fail_running(message);
  for (auto& s : waiting_) finish_without_token(std::move(s), FinishReason::kError, message);
  waiting_.clear();
}

void Core::cancel(RequestId id) {
  const auto take_from = [&](auto& sequences) {
    const auto found = std::find_if(sequences.begin(), sequences.end(),
                                    [&](const auto& s) { return s->id == id; });
    if (found == sequences.end()) return;
    finish_without_token(std::move(*found), FinishReason::kCancelled);
    sequences.erase(found);
  };
  take_from(running_);
  take_from(waiting_);
}

void Core::cancel_all() {
  for (auto& s : running_) finish_without_token(std::move(s), FinishReason::kCancelled);
  for (auto& s : waiting_) finish_without_token(std::move(s), FinishReason::kCancelled);
  running_.clear();
  waiting_.clear();
}

Stats Core::stats() const {
  Stats stats = totals_;
  stats.running = static_cast<int>(running_.size());
  stats.waiting = static_cast<int>(waiting_.size());
  stats.page_size = page_size_;
  stats.pages_total = pages_.total();
  stats.pages_free = pages_.free();
  return stats;
}

}  // namespace tandem::scheduler
