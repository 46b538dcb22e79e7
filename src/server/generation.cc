// Submission, the loop over events, and the ways it can end.
#include "server/generation.h"

#include <algorithm>
#include <ctime>
#include <functional>

#include "base/log.h"

namespace tandem::server {

namespace asio = boost::asio;
using scheduler::FinishReason;

struct Generation::Track {
  Track(const GenerationRequest& request, const Model& model, size_t prompt)
      : choice(request, model, prompt) {}

  Choice choice;
  GatheredChoice gathered;  // without streaming
  scheduler::RequestId id = 0;
  bool settled = false;  // the scheduler has ended it
  bool begun = false;
  int32_t cached_tokens = 0;
  EventQueue::Clock::time_point last_token;
};

Generation::Generation(const Options& options, Serving& serving, GenerationRequest request,
                       Exchange& exchange, scheduler::Place place)
    : options_(options),
      serving_(serving),
      request_(std::move(request)),
      exchange_(exchange),
      place_(std::move(place)),
      head_{.kind = request_.kind,
            .id = random_id(request_.kind == RequestKind::kChat ? "chatcmpl-" : "cmpl-"),
            .created = std::time(nullptr),
            .model = serving.model.name} {}

Generation::~Generation() {
  if (queue_ != nullptr) queue_->close();
  cancel_all();
}

void Generation::cancel_all() {
  for (const auto& track : tracks_) {
    if (!track->settled) serving_.scheduler.cancel(track->id);
  }
}

void Generation::cut_off() {
  log::warn("a client is more than {} tokens behind: cut off", options_.max_tokens_behind);
  cancel_all();
  exchange_.writer().abort();
}

double Generation::seconds_left() const {
  if (request_.timeout <= 0.0) return 0.0;
  // Not quite nothing: that would mean no end.
  return std::max(request_.timeout - exchange_.seconds_since_start(), 1e-6);
}

scheduler::Request Generation::scheduler_request(size_t prompt, size_t choice) const {
  scheduler::Request out{.prompt = request_.prompts[prompt],
                         .sampling = request_.sampling,
                         .max_tokens = static_cast<int32_t>(request_.max_tokens),
                         .min_tokens = request_.min_tokens,
                         .end_tokens = request_.stop_token_ids,
                         .timeout_seconds = seconds_left(),
                         .key = exchange_.scheduler_key(),
                         .cache_scope = cache_scope(),
                         .on_event = {}};
  out.sampling.seed ^= choice;
  // With ignore_eos the ends that the client named still hold.
  if (!request_.ignore_eos) {
    const auto ends = serving_.model.tokenizer->end_tokens();
    out.end_tokens.insert(out.end_tokens.end(), ends.begin(), ends.end());
  }
  return out;
}

// By the key itself: its place among the keys may be another one's after a restart, while pages on
// disk remain.
uint64_t Generation::cache_scope() const {
  if (options_.share_cache || options_.api_keys.empty()) return 0;
  return std::hash<std::string>()(options_.api_keys[exchange_.key()]);
}

std::optional<Failure> Generation::submit() {
  const auto choices = static_cast<size_t>(request_.choices);
  for (size_t prompt = 0; prompt < request_.prompts.size(); ++prompt) {
    for (size_t choice = 0; choice < choices; ++choice) {
      scheduler::Request request = scheduler_request(prompt, choice);
      request.place = std::exchange(place_, nullptr);
      request.on_event = [queue = queue_, index = tracks_.size()](scheduler::TokenEvent event) {
        queue->push(index, std::move(event));
      };
      auto track = std::make_unique<Track>(request_, serving_.model, prompt);
      Result<scheduler::RequestId> id = serving_.scheduler.submit(std::move(request));
      if (!id) {
        Failure failure = id.failure();
        if (failure.param == "messages" && request_.kind == RequestKind::kCompletion) {
          failure.param = "prompt";
        }
        return failure;
      }
      track->id = *id;
      tracks_.push_back(std::move(track));
    }
  }
  open_ = tracks_.size();
  return std::nullopt;
}

void Generation::observe(Track& track, const EventQueue::Item& item) {
  if (item.event.token < 0) return;
  const auto since = [&](EventQueue::Clock::time_point begin) {
    return std::chrono::duration<double>(item.time - begin).count();
  };
  if (track.begun) {
    serving_.metrics.saw_next_token(since(track.last_token));
  } else {
    const double seconds = since(exchange_.start_time());
    serving_.metrics.saw_first_token(seconds);
    if (first_token_seconds_ == 0.0) first_token_seconds_ = seconds;
    track.cached_tokens = item.event.cached_tokens;
  }
  track.last_token = item.time;
}

std::string Generation::advance(const EventQueue::Item& item) {
  Track& track = *tracks_[item.choice];
  if (item.event.finish != FinishReason::kNone) track.settled = true;
  if (track.choice.finished()) return {};
  observe(track, item);
  ChoiceDelta delta = track.choice.push(item.event);
  if (!track.choice.error().empty()) {
    if (error_.empty()) {
      error_ = track.choice.error();
      timed_out_ = item.event.error_code == "timeout";
    }
    return {};
  }
  if (track.choice.finished()) {
    --open_;
    if (track.choice.ended_early()) serving_.scheduler.cancel(track.id);
    serving_.metrics.saw_finish(track.choice.finish_reason());
    serving_.metrics.saw_times(item.event.times);
  }
  std::string text;
  if (request_.stream) {
    text = stream_text(item.choice, delta);
  } else {
    track.gathered.append(std::move(delta));
  }
  track.begun = true;
  return text;
}

std::string Generation::stream_text(size_t index, const ChoiceDelta& delta) {
  const Track& track = *tracks_[index];
  const Usage so_far = usage();
  const ChunkUsage usage = chunk_usage(so_far);
  const auto number = static_cast<int>(index);
  std::string text;
  if (!track.begun && request_.kind == RequestKind::kChat) text += role_chunk(head_, number, usage);
  if (!track.begun && !request_.echoes.empty()) {
    const std::string& echo = request_.echoes[index / static_cast<size_t>(request_.choices)];
    text += echo_chunk(head_, number, echo, usage);
  }
  if (!delta.empty()) text += delta_chunk(head_, request_, number, delta, usage);
  if (track.choice.finished()) {
    text += finish_chunk(head_, number, track.choice.finish_reason(), usage);
  }
  return text;
}

Usage Generation::usage() const {
  Usage usage;
  for (const auto& ids : request_.prompts) usage.prompt_tokens += static_cast<int64_t>(ids.size());
  for (size_t i = 0; i < tracks_.size(); ++i) {
    const Track& track = *tracks_[i];
    usage.completion_tokens += track.choice.output_tokens();
    usage.reasoning_tokens += track.choice.reasoning_tokens();
    // A prompt counts once, however many choices it has.
    if (i % static_cast<size_t>(request_.choices) == 0) usage.cached_tokens += track.cached_tokens;
  }
  return usage;
}

ChunkUsage Generation::chunk_usage(const Usage& usage) const {
  return {.asked = request_.include_usage || request_.continuous_usage,
          .usage = request_.continuous_usage ? &usage : nullptr};
}

std::string Generation::finish_stream() const {
  return (request_.include_usage ? usage_chunk(head_, usage()) : std::string()) + kSseDone;
}

void Generation::record_end(const char* fallback_reason) {
  const Usage total = usage();
  const bool complete = open_ == 0 && !tracks_.empty();
  exchange_.set_result(total, complete ? tracks_[0]->choice.finish_reason() : fallback_reason);
  if (complete) {
    serving_.metrics.saw_answer(exchange_.seconds_since_start(), first_token_seconds_, total);
  }
}

asio::awaitable<void> Generation::end_with_answer() {
  std::vector<GatheredChoice> choices;
  for (size_t i = 0; i < tracks_.size(); ++i) {
    GatheredChoice& choice = choices.emplace_back(std::move(tracks_[i]->gathered));
    choice.finish_reason = tracks_[i]->choice.finish_reason();
    if (!request_.echoes.empty()) {
      choice.content.insert(0, request_.echoes[i / static_cast<size_t>(request_.choices)]);
    }
  }
  HttpResponse response;
  response.body = whole_answer(head_, request_, choices, usage());
  if (!co_await exchange_.reply(std::move(response))) exchange_.set_client_gone();
}

asio::awaitable<void> Generation::end_with_error(const ApiError& error) {
  serving_.metrics.saw_refusal();
  if (!exchange_.has_replied()) {
    co_await exchange_.reply(error);
    co_return;
  }
  co_await exchange_.writer().write(sse_event(error.body()));
  co_await exchange_.writer().finish(false);
}

asio::awaitable<void> Generation::run(const asio::any_io_executor& executor) {
  queue_ = std::make_shared<EventQueue>(
      executor, serving_.gate,
      EventQueue::Options{.limit = static_cast<size_t>(options_.max_tokens_behind),
                          .on_overflow = [this] { cut_off(); }});
  if (const auto failure = submit()) {
    const ApiError error = to_api_error(*failure);
    co_await end_with_error(error);
    co_return;
  }
  exchange_.writer().watch([queue = queue_] { queue->hang_up(); });
  bool connected = !request_.stream || co_await exchange_.start_stream();
  const double ping = request_.stream ? options_.sse_ping_seconds : 0.0;
  while (connected && open_ > 0 && error_.empty()) {
    const std::vector<EventQueue::Item> items = co_await queue_->take(ping);
    connected = !queue_->hung_up();
    std::string text;
    for (const EventQueue::Item& item : items) text += advance(item);
    if (items.empty() && request_.stream) text = kSsePing;
    if (open_ == 0 && request_.stream && error_.empty()) text += finish_stream();
    if (connected && !text.empty()) connected = co_await exchange_.writer().write(std::move(text));
  }
  if (open_ > 0) serving_.metrics.saw_finish(connected ? "error" : "abort");
  record_end(!connected ? "client gone" : timed_out_ ? "timeout" : "error");
  if (!connected) {
    exchange_.set_client_gone();
    serving_.metrics.saw_disconnect();
    if (request_.stream) co_await exchange_.writer().finish(false);
  } else if (!error_.empty()) {
    const ApiError error = timed_out_ ? timed_out(request_.timeout) : internal_error(error_);
    co_await end_with_error(error);
  } else if (request_.stream) {
    co_await exchange_.writer().finish(true);
  } else {
    co_await end_with_answer();
  }
}

}  // namespace tandem::server
