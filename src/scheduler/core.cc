// One step: admit, plan, reserve pages, build the batch, begin it; prepare the next one; finish it.
#include "scheduler/core.h"

#include <algorithm>
#include <chrono>

namespace tandem::scheduler {
namespace {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Room for a token of every running sequence, however small the chunk: nobody starves.
int32_t step_budget(const Options& options, const engine::EngineInfo& info) {
  return std::min(std::max(options.chunk_size, options.max_batch_size), info.max_step_tokens);
}

// As many copies at a time as a step fills pages, so that they keep up with it, but no large part
// of all pages.
PrefixCache::Settings cache_settings(const Options& options, const engine::EngineInfo& info,
                                     int32_t step_tokens) {
  const int32_t wanted = step_tokens / info.page_size + 1;
  return {.enabled = options.prefix_cache,
          .model_identity = options.model_identity,
          .save_window = std::clamp(wanted, 1, std::max(1, info.num_pages / 4))};
}

// Where a sequence belongs among others in order of arrival.
template <typename Sequences>
auto place_of(Sequences& sequences, const Sequence& sequence) {
  return std::upper_bound(
      sequences.begin(), sequences.end(), sequence.arrival,
      [](uint64_t arrival, const auto& other) { return arrival < other->arrival; });
}

}  // namespace

Core::Core(engine::Engine& engine, const Options& options, PageStore* store)
    : engine_(engine),
      options_(options),
      page_size_(engine.info().page_size),
      step_tokens_(step_budget(options, engine.info())),
      long_step_tokens_(
          std::clamp(options.long_chunk_size, step_tokens_, engine.info().max_step_tokens)),
      cache_(engine, store, cache_settings(options, engine.info(), long_step_tokens_)) {
  const engine::EngineInfo& info = engine.info();
  options_.max_batch_size = std::min(options.max_batch_size, info.max_step_sequences);
  TANDEM_CHECK(options_.max_batch_size > 0 && options_.max_batch_size <= info.max_step_tokens,
               "{} sequences in steps of {} tokens", options_.max_batch_size, info.max_step_tokens);
  if (!options_.clock) options_.clock = steady_seconds;
  capacity_ = static_cast<int32_t>(
      std::min<int64_t>(info.context_length, int64_t{info.num_pages} * info.page_size));
  batch_tokens_.reserve(static_cast<size_t>(long_step_tokens_));
  slices_.reserve(static_cast<size_t>(options_.max_batch_size));
  slice_owner_.reserve(static_cast<size_t>(options_.max_batch_size));
}

void Core::add(RequestId id, Request request, double submitted_at) {
  auto sequence = std::make_unique<Sequence>();
  sequence->id = id;
  sequence->arrival = ++arrivals_;
  sequence->submitted_at = submitted_at;
  sequence->tokens = std::move(request.prompt);
  sequence->prompt_tokens = sequence->size();
  const int64_t output = request.max_tokens >= 0 ? request.max_tokens : options_.max_new_tokens;
  sequence->max_total = static_cast<int32_t>(
      std::min<int64_t>(capacity_, sequence->prompt_tokens + std::max<int64_t>(output, 1)));
  sequence->tokens.reserve(static_cast<size_t>(sequence->max_total));
  if (request.timeout_seconds > 0.0) {
    sequence->deadline = submitted_at + request.timeout_seconds;
    first_deadline_ = std::min(first_deadline_, sequence->deadline);
  }
  sequence->request = std::move(request);
  cache_.prepare(*sequence);
  waiting_.push_back(std::move(sequence));
}

void Core::begin_step() {
  expire();
  cache_.collect();
  admit();
  plan();
  reserve_pages();
  build_batch();
  if (!slices_.empty()) return begin_batch();
  save_some();
  blocked_ = cache_.copies_in_flight();
}

void Core::begin_batch() {
  blocked_ = false;
  begun_ = true;
  begun_at_ = now();
  try {
    engine_.begin({.tokens = batch_tokens_, .sequences = slices_});
  } catch (const std::exception& error) {
    fail_batch(error.what());
  }
}

void Core::prepare() {
  if (!begun_) return;
  expire();
  cache_.collect();
  admit();
  save_some();
}

void Core::save_some() {
  if (!short_of_pages_) cache_.save_some();
}

void Core::finish_step() {
  if (!begun_) return;
  engine::StepResult result;
  try {
    result = engine_.finish();
  } catch (const std::exception& error) {
    return fail_batch(error.what());
  }
  begun_ = false;
  ++totals_.steps;
  failures_in_a_row_ = 0;
  const double ended_at = now();
  const bool prefills = std::any_of(slices_.begin(), slices_.end(),
                                    [](const auto& slice) { return slice.num_tokens > 1; });
  if (prefills) {
    prefill_speed_.add(static_cast<double>(batch_tokens_.size()), ended_at - begun_at_);
  }
  advance(result, ended_at);
}

void Core::expire() {
  if (first_deadline_ == Sequence::kNoDeadline) return;
  const double at = now();
  if (at < first_deadline_) return;
  finish_where([&](const Sequence& s) { return s.deadline <= at; },
               {.reason = FinishReason::kError,
                .error = "the request took longer than its timeout allows",
                .code = "timeout"});
  first_deadline_ = Sequence::kNoDeadline;
  const auto look_at = [&](const Sequence& s) {
    if (s.end.reason == FinishReason::kNone)
      first_deadline_ = std::min(first_deadline_, s.deadline);
  };
  for (const auto& s : running_) look_at(*s);
  for (const auto& s : waiting_) look_at(*s);
}

bool Core::key_has_room(const Sequence& sequence) const {
  const uint64_t key = sequence.request.key;
  if (options_.max_running_per_key <= 0 || key == 0) return true;
  const auto running = std::count_if(running_.begin(), running_.end(),
                                     [&](const auto& s) { return s->request.key == key; });
  return running < options_.max_running_per_key;
}

int32_t Core::promised_pages() const {
  int32_t promised = 0;
  for (const auto& s : running_) {
    const bool grows = in_step(*s) && s->planned == s->remaining();
    promised +=
        cache_.pages_for(s->size() + (grows ? 1 : 0)) - static_cast<int32_t>(s->pages.size());
  }
  return promised;
}

void Core::admit() {
  for (size_t next = 0;
       next < waiting_.size() && static_cast<int>(running_.size()) < options_.max_batch_size;) {
    // Who waits for its own key's others stands aside; everybody else waits for all before.
    if (!key_has_room(*waiting_[next])) {
      ++next;
      continue;
    }
    const bool busy_prefill = std::any_of(running_.begin(), running_.end(),
                                          [](const auto& s) { return s->in_prefill(); });
    if (options_.strategy == Strategy::kFcfsSinglePrefill && busy_prefill) return;
    // Its pages are taken as it grows, but one that could not even hold its present tokens would
    // only be preempted.
    if (!running_.empty() && !cache_.fits(*waiting_[next], promised_pages())) return;
    std::unique_ptr<Sequence> s = std::move(waiting_[next]);
    waiting_.erase(waiting_.begin() + static_cast<std::ptrdiff_t>(next));
    s->may_copy = true;
    if (s->admitted_at < 0.0) s->admitted_at = now();
    cache_.attach(*s);
    cache_.fetch(*s, prefill_speed_.per_second());
    running_.insert(place_of(running_, *s), std::move(s));
  }
}

void Core::plan() {
  int32_t budget = this->budget();
  for (const auto& s : running_) {
    if (s->fetching()) cache_.advance_fetch(*s);
    // What others have computed meanwhile need not be computed again.
    if (s->in_prefill()) cache_.attach(*s);
    s->planned = s->in_prefill() || s->fetching() ? 0 : 1;
    budget -= s->planned;
  }
  plan_prompts(budget);
}

void Core::plan_prompts(int32_t budget) {
  const auto computes = [](const Sequence& s) { return s.in_prefill() && !s.fetching(); };
  const auto give = [&](Sequence& s, int32_t limit) {
    const int32_t tokens = std::min({s.remaining() - s.planned, limit, budget});
    s.planned += tokens;
    budget -= tokens;
    return tokens;
  };
  const auto oldest =
      std::find_if(running_.begin(), running_.end(), [&](const auto& s) { return computes(*s); });
  if (oldest == running_.end()) return;
  cache_.copy_beginning(**oldest);
  if (options_.strategy == Strategy::kFcfsSinglePrefill) {
    give(**oldest, budget);
    return;
  }
  // Those that one step could hold need not wait for a long one: up to half of it is theirs.
  int32_t for_short = budget / 2;
  for (auto s = oldest + 1; s != running_.end() && for_short > 0; ++s) {
    if (!computes(**s) || (*s)->remaining() > step_tokens_) continue;
    cache_.copy_beginning(**s);
    for_short -= give(**s, for_short);
  }
  for (auto s = oldest; s != running_.end() && budget > 0; ++s) {
    if (!computes(**s)) continue;
    cache_.copy_beginning(**s);
    give(**s, budget);
  }
}

void Core::reserve_pages() {
  short_of_pages_ = false;
  for (size_t i = 0; i < running_.size(); ++i) {
    while (!reserve_pages_for(i)) {
      if (cache_.pages_will_come()) {
        short_of_pages_ = true;
        running_[i]->planned = 0;
        break;
      }
      preempt_youngest();
      if (i >= running_.size()) return;  // it was the youngest itself
    }
  }
}

bool Core::reserve_pages_for(size_t index) {
  Sequence& s = *running_[index];
  if (s.planned == 0) return true;
  const auto held = [&] { return static_cast<int32_t>(s.pages.size()); };
  while (held() < cache_.pages_for(s.computed + s.planned) && cache_.available() > 0) {
    cache_.extend(s);
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
  cache_.release_preempted(*victim, prefill_speed_.per_second());
  victim->planned = 0;  // it may be admitted again while others' step runs
  ++totals_.preemptions;
  waiting_.insert(place_of(waiting_, *victim), std::move(victim));
}

void Core::build_batch() {
  batch_tokens_.clear();
  slices_.clear();
  slice_owner_.clear();
  for (const auto& owner : running_) {
    const Sequence& s = *owner;
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
    slice_owner_.push_back(owner.get());
  }
}

void Core::advance(const engine::StepResult& result, double ended_at) {
  for (size_t i = 0; i < slices_.size(); ++i) {
    Sequence& s = *slice_owner_[i];
    const int32_t before = s.computed;
    s.computed += s.planned;
    s.reached = std::max(s.reached, s.computed);
    cache_.name_full_pages(s);
    totals_.prompt_tokens += static_cast<uint64_t>(
        std::max(0, std::min(s.computed, s.prompt_tokens) - std::min(before, s.prompt_tokens)));
    if (slices_[i].sample && s.end.reason == FinishReason::kNone) {
      report_token(s, result.tokens[i], ended_at);
    }
  }
  remove_ended();
}

void Core::report_token(Sequence& s, const engine::SampledToken& sampled, double at) {
  if (s.output_tokens() == 0) s.first_token_at = at;
  s.tokens.push_back(sampled.token);
  ++totals_.generated_tokens;
  TokenEvent event{.token = sampled.token,
                   .logprob = sampled.logprob,
                   .top = {sampled.top.begin(), sampled.top.end()},
                   .finish = finish_reason(s, sampled.token),
                   .prompt_tokens = s.prompt_tokens,
                   .cached_tokens = s.cached_tokens,
                   .output_tokens = s.output_tokens(),
                   .times = {.queued = s.admitted_at - s.submitted_at,
                             .prefill = s.first_token_at - s.admitted_at,
                             .decode = at - s.first_token_at}};
  s.ended = event.finish != FinishReason::kNone;
  totals_.finished_stop += event.finish == FinishReason::kStop;
  totals_.finished_length += event.finish == FinishReason::kLength;
  outgoing_.push_back({&s, std::move(event)});
}

FinishReason Core::finish_reason(const Sequence& s, TokenId token) const {
  const auto& ends = s.request.end_tokens;
  const bool is_end = std::find(ends.begin(), ends.end(), token) != ends.end();
  if (is_end && !s.request.ignore_eos) return FinishReason::kStop;
  return s.size() >= s.max_total ? FinishReason::kLength : FinishReason::kNone;
}

void Core::remove_ended() {
  for (auto& s : running_) {
    if (s->end.reason != FinishReason::kNone) {
      const Sequence::End end = s->end;
      finish_without_token(std::move(s), end);
    } else if (s->ended) {
      cache_.release(*s);
      ended_.push_back(std::move(s));
    }
  }
  std::erase(running_, nullptr);
}

void Core::finish_without_token(std::unique_ptr<Sequence> s, const Sequence::End& end) {
  cache_.release(*s);
  totals_.cancelled += end.reason == FinishReason::kCancelled;
  totals_.failed += end.reason == FinishReason::kError;
  totals_.timed_out += end.code == "timeout";
  outgoing_.push_back({s.get(),
                       {.top = {},
                        .finish = end.reason,
                        .error = end.error,
                        .error_code = end.code,
                        .prompt_tokens = s->prompt_tokens,
                        .cached_tokens = s->cached_tokens,
                        .output_tokens = s->output_tokens()}});
  ended_.push_back(std::move(s));
}

template <typename Condition>
void Core::finish_where(const Condition& condition, const Sequence::End& end) {
  const auto take_from = [&](auto& sequences) {
    for (auto& s : sequences) {
      if (!condition(*s)) continue;
      if (!in_step(*s)) {
        finish_without_token(std::move(s), end);
      } else if (s->end.reason == FinishReason::kNone) {
        s->end = end;
      }
    }
    std::erase(sequences, nullptr);
  };
  take_from(running_);
  take_from(waiting_);
}

void Core::deliver_events() {
  for (Outgoing& o : outgoing_) o.sequence->request.on_event(std::move(o.event));
  outgoing_.clear();
  ended_.clear();
}

// Those that did not take part go on; pages that were full before are as they were.
void Core::fail_batch(const std::string& message) {
  ++totals_.steps;
  ++failures_in_a_row_;
  last_failure_ = message;
  finish_where([&](const Sequence& s) { return in_step(s); },
               {.reason = FinishReason::kError, .error = message});
  begun_ = false;
  remove_ended();
}

void Core::fail_all(const std::string& message) {
  if (begun_) {
    try {
      engine_.finish();  // it reads the batch
    } catch (const std::exception&) {
    }
    begun_ = false;
  }
  finish_where([](const Sequence&) { return true; },
               {.reason = FinishReason::kError, .error = message});
}

void Core::cancel(RequestId id) {
  finish_where([&](const Sequence& s) { return s.id == id; }, {.reason = FinishReason::kCancelled});
}

void Core::cancel_all() {
  finish_where([](const Sequence&) { return true; }, {.reason = FinishReason::kCancelled});
}

Stats Core::stats() const {
  Stats stats = totals_;
  stats.running = static_cast<int>(running_.size());
  stats.waiting = static_cast<int>(waiting_.size());
  stats.page_size = page_size_;
  stats.pages_total = cache_.total();
  stats.pages_free = cache_.available();
  stats.pages_cached = cache_.cached();
  stats.cached_tokens = cache_.hit_tokens();
  stats.tiers = cache_.tier_stats();
  stats.hot = engine_.hot_statistics().value_or(engine::HotStatistics{});
  return stats;
}

std::vector<RequestId> Core::running() const {
  std::vector<RequestId> ids;
  for (const auto& s : running_) ids.push_back(s->id);
  return ids;
}

std::vector<RequestId> Core::waiting() const {
  std::vector<RequestId> ids;
  for (const auto& s : waiting_) ids.push_back(s->id);
  return ids;
}

}  // namespace tandem::scheduler
