// Start, drain and failure of the server, and the limits that it keeps: keys, time, slow readers.
#include <fstream>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "server/step_trace.h"
#include "tests/server/running_server.h"

namespace tandem::server {
namespace {

using std::chrono::milliseconds;

TEST(Readiness, IsApartFromLiveness) {
  RunningServer running;
  for (const char* path : {"/live", "/health/live"}) {
    EXPECT_EQ(status_of(running.get(path)), "200") << path;
  }
  for (const char* path : {"/health", "/health/ready", "/ready", "/v1/health"}) {
    const std::string response = running.get(path);
    EXPECT_EQ(status_of(response), "503") << path;
    EXPECT_TRUE(has(response, "retry-after: ")) << path;
  }
  FakeScheduler scheduler;
  running.server().set_model(testing::fake_model(), scheduler);
  EXPECT_EQ(status_of(running.get("/health/ready")), "200");
  running.stop();
}

TEST_F(ServerTest, AnswersNewClientsWhileItDrains) {
  scheduler.play({.answer = "slowly", .token_time = milliseconds(30)});
  RawClient client = running.connect();
  client.post(kChat, kHello);
  ASSERT_TRUE(scheduler.wait_until([](const auto& s) { return s.running == 1; }));
  running.server().stop();
  while (!running.server().is_stopping()) std::this_thread::yield();
  const std::string refused = running.post(kChat, kHello);
  EXPECT_EQ(status_of(refused), "503");
  EXPECT_TRUE(has(refused, "retry-after: "));
  EXPECT_TRUE(has(refused, "connection: close"));
  EXPECT_EQ(body_of(running.get("/health")).at("status"), json::value("stopping"));
  EXPECT_EQ(status_of(running.get("/live")), "200");
  EXPECT_TRUE(has(client.read_response(), "slowly"));
}

TEST_F(ServerTest, EndsWhenTheEngineFails) {
  scheduler.play({.answer = "ab", .token_time = milliseconds(20), .error = "the engine is ill"});
  RawClient stream = running.connect();
  stream.post(kChat, hello_with(R"("stream": true)"));
  ASSERT_TRUE(scheduler.wait_until([](const auto& s) { return s.running == 1; }));
  running.server().fail("it is broken");
  running.server().fail("and again");
  const std::vector<std::string> events = events_of(stream.read_to_end());
  ASSERT_FALSE(events.empty());
  EXPECT_TRUE(has(events.back(), "the engine is ill"));
  running.join();  // without stop()
  EXPECT_EQ(running.server().failure(), "it is broken");
}

struct Impatient : ServerTest {
  static Options limits() {
    Options options;
    options.request_timeout = 0.3;
    return options;
  }
  Impatient() : ServerTest(limits()) {}
};

TEST_F(Impatient, EndsWhatTakesTooLong) {
  scheduler.play({.silent = true});
  const std::string whole = running.post(kChat, kHello);
  EXPECT_EQ(status_of(whole), "504");
  EXPECT_EQ(error_code(whole), "request_timeout");
  EXPECT_TRUE(has(whole, "x-should-retry: false\r\n"));
  EXPECT_TRUE(scheduler.wait_until([](const auto& s) { return s.running == 0; }));

  scheduler.play({.endless = true, .token_time = milliseconds(5)});
  RawClient stream = running.connect();
  stream.post(kChat, hello_with(R"("stream": true, "max_tokens": 100000)"));
  const std::vector<std::string> events = events_of(stream.read_to_end());
  ASSERT_GT(events.size(), 3U);
  EXPECT_TRUE(has(events.back(), "request_timeout"));
  EXPECT_TRUE(scheduler.wait_until([](const auto& s) { return s.running == 0; }));
}

TEST_F(Impatient, LetsARequestAskForLess) {
  scheduler.play({.silent = true});
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(status_of(running.post(kChat, hello_with(R"("timeout": 0.05)"))), "504");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, milliseconds(290));
  EXPECT_EQ(status_of(running.post(kChat, hello_with(R"("timeout": 100)"))), "504");
  EXPECT_EQ(status_of(running.post(kChat, hello_with(R"("timeout": -1)"))), "400");
  scheduler.play({});
  EXPECT_TRUE(has(running.post(kChat, hello_with(R"("timeout": 100)")), "Hello"));
}

struct TwoKeys : ServerTest {
  static Options limits() {
    Options options;
    options.api_keys = {"one", "two"};
    return options;
  }
  TwoKeys() : ServerTest(limits()) {}
};

// The limits themselves are the scheduler's.
TEST_F(TwoKeys, AreToldApart) {
  for (const char* key : {"one", "two", "one"}) {
    const std::string reply = running.post(kChat, kHello, fmt::format("x-api-key: {}\r\n", key));
    EXPECT_EQ(status_of(reply), "200");
  }
  const auto requests = scheduler.submitted();
  ASSERT_EQ(requests.size(), 3U);
  EXPECT_NE(requests[0].key, 0U);
  EXPECT_NE(requests[0].key, requests[1].key);
  EXPECT_EQ(requests[0].key, requests[2].key);
  scheduler.refuse_with({.message = "enough", .param = {}, .code = "key_queue_full"});
  const std::string refused = running.post(kChat, kHello, "x-api-key: one\r\n");
  EXPECT_EQ(status_of(refused), "429");
  EXPECT_EQ(error_code(refused), "key_queue_full");
  EXPECT_TRUE(has(refused, "retry-after: "));
  // Not looked at: the fault in it would give 400.
  EXPECT_EQ(status_of(running.post(kChat, "{", "x-api-key: one\r\n")), "429");
}

TEST_F(TwoKeys, APlaceComesBackWhateverTheEnd) {
  for (const char* body :
       {"{", R"({"messages": []})", R"({"messages": 1, "model": "other"})", kHello}) {
    running.post(kChat, body, "x-api-key: one\r\n");
    EXPECT_EQ(scheduler.places(), 0) << body;
  }
  scheduler.refuse_with({.message = "too long", .code = "context_length_exceeded"});
  EXPECT_EQ(status_of(running.post(kChat, kHello, "x-api-key: one\r\n")), "400");
  EXPECT_EQ(scheduler.places(), 0);
}

struct SlowReader : ServerTest {
  static Options limits() {
    Options options;
    options.max_tokens_behind = 1000;
    options.write_seconds = 60.0;  // what ends it is the number of tokens
    return options;
  }
  SlowReader() : ServerTest(limits()) {}
};

TEST_F(SlowReader, IsCutOffWhenItIsTooFarBehind) {
  scheduler.play({.answer = "x", .endless = true});
  RawClient slow = running.connect(4096);
  slow.post(kChat, hello_with(R"("stream": true, "max_tokens": 100000000)"));
  EXPECT_TRUE(scheduler.wait_until([](const auto& s) { return s.cancelled == 1; }));
  EXPECT_FALSE(has(slow.read_to_end(), "[DONE]"));
}

struct StuckReader : ServerTest {
  static Options limits() {
    Options options;
    options.write_seconds = 0.2;
    return options;
  }
  StuckReader() : ServerTest(limits()) {}
};

TEST_F(StuckReader, IsCutOffWhenItTakesNothing) {
  scheduler.play({.answer = "x", .endless = true, .token_time = std::chrono::microseconds(20)});
  RawClient slow = running.connect(4096);
  slow.post(kChat, hello_with(R"("stream": true, "max_tokens": 100000000)"));
  EXPECT_TRUE(scheduler.wait_until([](const auto& s) { return s.cancelled == 1; }));
  EXPECT_FALSE(has(slow.read_to_end(), "[DONE]"));
}

struct Debugging : ServerTest {
  static Options limits() {
    Options options;
    options.debug_steps = true;
    options.api_keys = {"key"};
    return options;
  }
  Debugging() : ServerTest(limits()) {}
};

TEST_F(Debugging, ShowsStepsToThoseWithAKey) {
  EXPECT_EQ(status_of(running.get("/debug/steps")), "401");
  const std::string trace = running.get("/debug/steps", "x-api-key: key\r\n");
  EXPECT_TRUE(body_of(trace).at("traceEvents").as_array().empty());
  EXPECT_EQ(status_of(running.get("/debug/steps/5", "x-api-key: key\r\n")), "200");
  EXPECT_EQ(status_of(running.get("/debug/steps/x", "x-api-key: key\r\n")), "404");
}

TEST_F(ServerTest, HidesStepsWithoutTheFlag) {
  const std::string response = running.get("/debug/steps");
  EXPECT_EQ(status_of(response), "404");
  EXPECT_TRUE(has(response, "--debug_steps"));
}

TEST(StepTrace, IsWhatChromeReads) {
  const json::value trace = json::parse(step_trace({{.number = 7,
                                                     .begin_us = 1000,
                                                     .duration_us = 250,
                                                     .prefill_tokens = 30,
                                                     .decode_tokens = 2,
                                                     .sequences = 3,
                                                     .running = 3,
                                                     .waiting = 1,
                                                     .pages_free = 9}}));
  const json::array& events = trace.at("traceEvents").as_array();
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].at("name"), json::value("mixed"));
  EXPECT_EQ(events[0].at("ph"), json::value("X"));
  EXPECT_EQ(events[0].at("dur").as_int64(), 250);
  EXPECT_EQ(events[0].at("args").at("prefill_tokens").as_int64(), 30);
  EXPECT_EQ(events[1].at("ph"), json::value("C"));
  EXPECT_EQ(events[1].at("ts").as_int64(), 1250);
}

}  // namespace
}  // namespace tandem::server
