// What the server answers: checks a request from route to key, and has it answered. Knows nothing
// of sockets.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

#include <boost/asio/thread_pool.hpp>

#include "scheduler/scheduler.h"
#include "server/event_queue.h"
#include "server/generation_request.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/model.h"
#include "server/options.h"
#include "server/router.h"
#include "server/uploads.h"

namespace tandem::server {

class Exchange;

// A model that is ready, and who computes it.
struct Serving {
  Model model;
  scheduler::Scheduler& scheduler;
  Metrics metrics;
  std::shared_ptr<EventGate> gate = std::make_shared<EventGate>();
};

class Service {
 public:
  explicit Service(Options options);

  const Options& options() const { return options_; }
  Uploads& uploads() { return uploads_; }

  // From any thread.
  void set_progress(double share) { progress_ = share; }
  void set_model(Model model, scheduler::Scheduler& scheduler);
  void refuse_new_requests() { stopping_ = true; }
  // The end: the scheduler's events go nowhere from now on, and the workers have finished.
  void close();
  bool is_stopping() const { return stopping_; }
  // What is being computed fails, and the process will end: nothing more can be answered.
  void fail() { failed_ = stopping_ = true; }
  int active_requests() const { return active_; }

  // Answers the request, whatever it is; never throws.
  boost::asio::awaitable<void> handle(HttpRequest request, ResponseWriter& writer);

 private:
  boost::asio::awaitable<void> answer(Exchange& exchange);
  boost::asio::awaitable<void> answer_generation(Exchange& exchange, RouteId route);
  boost::asio::awaitable<Result<GenerationRequest>> parse(std::string body, RouteId route,
                                                          const Serving& serving);
  HttpResponse answer_get(const RouteMatch& match) const;
  HttpResponse answer_health() const;
  HttpResponse answer_live() const;
  HttpResponse answer_debug_steps(const std::string& last) const;
  std::shared_ptr<Serving> serving() const;

  const Options options_;
  std::atomic<double> progress_{0.0};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> failed_{false};
  std::atomic<bool> closed_{false};
  std::atomic<int> active_{0};
  Uploads uploads_;
  mutable std::mutex serving_mutex_;
  std::shared_ptr<Serving> serving_;
  // Where bodies are parsed and prompts rendered and tokenised: a long one takes a second, during
  // which the streams of others must go on.
  boost::asio::thread_pool workers_;
};

}  // namespace tandem::server
