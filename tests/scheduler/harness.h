// A core on the fake engine, and what each of its requests got.
#pragma once

#include <map>
#include <memory>
#include <optional>

#include <gtest/gtest.h>

#include "scheduler/core.h"
#include "tests/scheduler/fake_engine.h"
#include "tests/scheduler/fake_store.h"

namespace tandem::scheduler {

constexpr engine::TokenId kEnd = 0;

struct Outcome {
  std::vector<TokenId> tokens;
  FinishReason finish = FinishReason::kNone;
  std::string error_code;
  int events_after_end = 0;
  int first_step = -1;
  int32_t cached_tokens = 0;
  Times times = {};
};

class Harness {
 public:
  Harness(engine::EngineInfo info, Options options,
          std::optional<FakeStore::Nature> store_nature = {}, uint32_t seed = 0)
      : engine(info),
        store(store_nature ? std::make_unique<FakeStore>(engine, *store_nature, seed) : nullptr),
        core(engine, with_clock(std::move(options)), store.get()) {}

  void add(RequestId id, Request request) {
    request.end_tokens = {kEnd};
    request.on_event = [this, id](const TokenEvent& event) {
      Outcome& o = outcomes[id];
      o.events_after_end += o.finish != FinishReason::kNone;
      if (event.token >= 0) o.tokens.push_back(event.token);
      if (event.token >= 0 && o.first_step < 0) o.first_step = engine.steps;
      o.finish = event.finish;
      o.error_code = event.error_code;
      o.cached_tokens = event.cached_tokens;
      if (event.token >= 0) o.times = event.times;
    };
    requests[id] = request;
    core.add(id, std::move(request), core.now());
  }

  // A prompt that no other id begins like.
  void add(RequestId id, int prompt, int max_tokens, int min_tokens = 0) {
    Request request;
    for (int i = 0; i < prompt; ++i) {
      request.prompt.push_back(
          static_cast<TokenId>((id * 31 + static_cast<uint64_t>(i) * 7) % 97 + 1));
    }
    request.max_tokens = max_tokens;
    request.min_tokens = min_tokens;
    add(id, std::move(request));
  }

  void step() {
    begin_step();
    prepare();
    finish_step();
  }
  void begin_step() {
    core.begin_step();
    core.deliver_events();
  }
  void prepare() {
    core.prepare();
    core.deliver_events();
  }
  void finish_step() {
    core.finish_step();
    core.deliver_events();
    const Stats stats = core.stats();
    EXPECT_LE(stats.pages_free, stats.pages_total);
    if (core.idle() && (store == nullptr || !store->busy())) {
      EXPECT_EQ(stats.pages_free, stats.pages_total) << "pages leaked";
    }
    if (core.blocked() && store != nullptr) store->wait();
  }

  void run() {
    for (int i = 0; i < 20000 && !core.idle(); ++i) step();
    ASSERT_TRUE(core.idle()) << "somebody starves";
  }

  // Until all copies have ended.
  void settle() {
    run();
    for (step(); store != nullptr && store->busy(); step()) store->wait();
    EXPECT_EQ(core.stats().pages_free, core.stats().pages_total) << "pages leaked";
  }

  void cancel(RequestId id) {
    core.cancel(id);
    core.deliver_events();
  }

  // The tokens that the request would get alone.
  std::vector<TokenId> alone(RequestId id) const {
    const Request& request = requests.at(id);
    std::vector<TokenId> history = request.prompt, output;
    while (static_cast<int>(output.size()) < request.max_tokens &&
           static_cast<int>(history.size()) < core.capacity()) {
      const TokenId end[] = {kEnd};
      const bool ban = static_cast<int>(output.size()) < request.min_tokens;
      output.push_back(engine.next_token(
          history, ban ? std::span<const TokenId>(end) : std::span<const TokenId>()));
      history.push_back(output.back());
      if (output.back() == kEnd) break;
    }
    return output;
  }

  FakeEngine engine;
  std::unique_ptr<FakeStore> store;
  Core core;
  std::map<RequestId, Outcome> outcomes;
  std::map<RequestId, Request> requests;

 private:
  Options with_clock(Options options) const {
    options.clock = [this] { return engine.now; };
    return options;
  }
};

inline engine::EngineInfo small_engine(int pages = 64, int page_size = 4, int context = 200) {
  return {.vocab_size = 50,
          .context_length = context,
          .page_size = page_size,
          .num_pages = pages,
          .max_step_tokens = 16,
          .max_step_sequences = 4};
}

}  // namespace tandem::scheduler
