// The HTTP server: listens, runs the sessions on its threads, and ends in good order.
#pragma once

#include <memory>
#include <string>

#include "server/model.h"
#include "server/options.h"

namespace tandem::scheduler {
class Scheduler;
}

namespace tandem::server {

class Server {
 public:
  // Listens from here on; requests are answered once run() is called. Throws Error: the address is
  // in use, the certificate cannot be read.
  explicit Server(const Options& options);
  ~Server();

  int port() const;

  // From any thread. Until there is a model, /v1 answers 503 and /health tells the progress.
  void set_progress(double share);
  // The scheduler must live until run() has returned.
  void set_model(Model model, scheduler::Scheduler& scheduler);

  // Serves until SIGINT, SIGTERM or stop(), then finishes running requests for drain_seconds at
  // most and answers new ones with 503; a second signal ends at once. No callback of the scheduler
  // is in use afterwards.
  void run();
  void stop();  // from any thread
  // From any thread: the model's computation is at its end. Requests that wait get their errors,
  // then run() returns; failure() tells why.
  void fail(const std::string& what);
  std::string failure() const;  // empty: none
  // Whether the end has begun: whoever still loads a model may give up.
  bool is_stopping() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::server
