// One generation request from submission to the last byte: token events in, an answer or a stream
// of chunks out.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "server/answers.h"
#include "server/event_queue.h"
#include "server/exchange.h"
#include "server/service.h"

namespace tandem::server {

class Generation {
 public:
  Generation(const Options& options, Serving& serving, GenerationRequest request,
             Exchange& exchange, scheduler::Place place);
  // Cancels what still runs: an answer that ends early, by whatever way, leaves nothing behind.
  ~Generation();
  Generation(const Generation&) = delete;
  Generation& operator=(const Generation&) = delete;

  boost::asio::awaitable<void> run(const boost::asio::any_io_executor& executor);

 private:
  struct Track;  // one choice

  std::optional<Failure> submit();
  void cancel_all();
  // The client cannot keep up: its connection is closed, what it would have got is not computed.
  void cut_off();
  // What is left of the request's time, for the scheduler; 0: no end.
  double seconds_left() const;
  scheduler::Request scheduler_request(size_t prompt, size_t choice) const;
  uint64_t cache_scope() const;
  // Takes the event in; what it adds to a stream.
  std::string advance(const EventQueue::Item& item);
  std::string stream_text(size_t index, const ChoiceDelta& delta);
  void observe(Track& track, const EventQueue::Item& item);
  Usage usage() const;
  ChunkUsage chunk_usage(const Usage& usage) const;
  std::string finish_stream() const;
  boost::asio::awaitable<void> end_with_answer();
  boost::asio::awaitable<void> end_with_error(const ApiError& error);
  void record_end(const char* fallback_reason);

  const Options& options_;
  Serving& serving_;
  const GenerationRequest request_;
  Exchange& exchange_;
  scheduler::Place place_;  // of the first choice, until it is submitted
  AnswerHead head_;
  std::shared_ptr<EventQueue> queue_;
  std::vector<std::unique_ptr<Track>> tracks_;  // prompt * n + choice
  size_t open_ = 0;                             // choices that go on
  double first_token_seconds_ = 0.0;            // since the request, of the first choice that began
  std::string error_;                           // of the first choice that failed
  bool timed_out_ = false;                      // that was why
};

}  // namespace tandem::server
