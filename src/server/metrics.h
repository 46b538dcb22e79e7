// What /metrics shows, under the names that vLLM made common, in Prometheus' text format.
#pragma once

#include <memory>
#include <string>

#include "scheduler/scheduler.h"
#include "server/answers.h"

namespace tandem::server {

class Metrics {
 public:
  explicit Metrics(const std::string& model_name);
  ~Metrics();

  // From any thread.
  void saw_first_token(double seconds_since_request);
  void saw_next_token(double seconds_since_token);
  void saw_finish(const std::string& reason);     // of one choice
  void saw_times(const scheduler::Times& times);  // of one choice that was finished
  // The time of the first token counts from the request too.
  void saw_answer(double seconds_since_request, double first_token_seconds, const Usage& usage);
  void saw_disconnect();
  void saw_refusal();

  std::string text(const scheduler::Stats& stats);

 private:
  struct Instruments;
  std::unique_ptr<Instruments> instruments_;
};

}  // namespace tandem::server
