// The server on a real socket, with a fake scheduler behind it.
#include "server/server.h"

#include <thread>

#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/server/running_server.h"

namespace tandem::server {
namespace {

TEST(ServerStart, AnswersBeforeThereIsAModel) {
  RunningServer running;
  running.server().set_progress(0.25);
  const std::string health = running.get("/health");
  EXPECT_EQ(status_of(health), "503");
  EXPECT_EQ(body_of(health).at("status"), json::value("loading"));
  EXPECT_EQ(body_of(health).at("progress").as_double(), 0.25);
  for (const std::string& response :
       {running.get("/v1/models"), running.get("/v1/models/fake"), running.post(kChat, kHello)}) {
    EXPECT_EQ(status_of(response), "503");
    EXPECT_EQ(error_code(response), "model_loading");
    EXPECT_TRUE(has(response, "retry-after: "));
  }
  EXPECT_EQ(status_of(running.get("/metrics")), "200");
  EXPECT_EQ(status_of(running.get("/version")), "200");

  FakeScheduler scheduler;
  running.server().set_model(testing::fake_model(), scheduler);
  EXPECT_EQ(status_of(running.get("/health")), "200");
  EXPECT_EQ(status_of(running.post(kChat, kHello)), "200");
  running.stop();
}

TEST(ServerStart, SaysThatTheAddressIsInUse) {
  RunningServer first;
  Options options;
  options.host = "127.0.0.1";
  options.port = first.server().port();
  try {
    Server second(options);
    FAIL() << "two servers on one port";
  } catch (const Error& error) {
    EXPECT_TRUE(has(error.what(), std::to_string(options.port))) << error.what();
  }
}

TEST(ServerStart, RefusesHalfOfTls) {
  Options options;
  options.ssl_certfile = "cert.pem";
  EXPECT_THROW(Server{options}, Error);
  options.ssl_keyfile = "there is no such file";
  EXPECT_THROW(Server{options}, Error);
}

TEST_F(ServerTest, ListsTheModel) {
  const std::string list = running.get("/v1/models");
  const json::value entry = body_of(list).at("data").as_array().at(0);
  EXPECT_EQ(entry.at("id"), json::value("fake"));
  EXPECT_EQ(entry.at("object"), json::value("model"));
  EXPECT_EQ(entry.at("max_model_len").to_number<int>(), 4096);
  EXPECT_EQ(body_of(running.get("/v1/models/fake")), entry);
  EXPECT_EQ(error_code(running.get("/v1/models/other")), "model_not_found");
}

TEST_F(ServerTest, AnswersAChat) {
  const std::string response =
      running.post(kChat, hello_with(R"("model": "any", "colour": 1)"), "X-Request-Id: my-id\r\n");
  EXPECT_EQ(status_of(response), "200");
  for (const char* header : {"x-request-id: my-id\r\n", "x-ignored-params: colour\r\n",
                             "openai-processing-ms: ", "content-type: application/json\r\n"}) {
    EXPECT_TRUE(has(response, header)) << header << response;
  }
  const json::value body = body_of(response);
  EXPECT_EQ(body.at("model"), json::value("fake"));
  EXPECT_EQ(body.at("choices").at(0).at("message").at("content"), json::value("Hello"));
  EXPECT_EQ(body.at("choices").at(0).at("finish_reason"), json::value("stop"));
  const auto prompt = static_cast<int64_t>(scheduler.submitted().at(0).prompt.size());
  EXPECT_EQ(body.at("usage").at("prompt_tokens").as_int64(), prompt);
  EXPECT_EQ(body.at("usage").at("completion_tokens").as_int64(), 6);
}

TEST_F(ServerTest, StreamsAChatTokenByToken) {
  const std::string response = running.post(
      kChat, hello_with(R"("stream": true, "stream_options": {"include_usage": true})"));
  EXPECT_TRUE(has(response, "content-type: text/event-stream"));
  EXPECT_TRUE(has(response, "cache-control: no-cache\r\n"));
  EXPECT_TRUE(has(response, "x-accel-buffering: no\r\n"));
  const std::vector<std::string> events = events_of(response);
  ASSERT_EQ(events.size(), 9U) << response;  // role, five letters, finish, usage, [DONE]
  EXPECT_EQ(events.back(), "[DONE]");
  const auto delta = [&](size_t i) {
    return json::parse(events[i]).at("choices").at(0).at("delta");
  };
  EXPECT_EQ(delta(0), json::parse(R"({"role": "assistant", "content": ""})"));
  std::string text;
  for (size_t i = 1; i <= 5; ++i) text += delta(i).at("content").as_string();
  EXPECT_EQ(text, "Hello");
  EXPECT_EQ(delta(6), json::object());
  const json::value last = json::parse(events[7]);
  EXPECT_TRUE(last.at("choices").as_array().empty());
  EXPECT_EQ(last.at("usage").at("completion_tokens").as_int64(), 6);
  for (size_t i = 0; i < 8; ++i) {  // one identity for all chunks
    EXPECT_EQ(json::parse(events[i]).at("id"), last.at("id"));
    EXPECT_EQ(json::parse(events[i]).at("object"), json::value("chat.completion.chunk"));
  }
}

TEST_F(ServerTest, AnswersCompletions) {
  const std::string whole = running.post(
      "/v1/completions", R"({"prompt": ["ab", "c"], "n": 2, "echo": true, "max_tokens": 3})");
  const json::array choices = body_of(whole).at("choices").as_array();
  ASSERT_EQ(choices.size(), 4U);
  EXPECT_EQ(choices[0].at("text"), json::value("abHel"));
  EXPECT_EQ(choices[3].at("text"), json::value("cHel"));
  EXPECT_EQ(choices[3].at("index").as_int64(), 3);
  EXPECT_EQ(choices[0].at("finish_reason"), json::value("length"));

  const std::vector<std::string> events = events_of(
      running.post("/v1/completions", R"({"prompt": [104], "max_tokens": 2, "stream": true})"));
  ASSERT_EQ(events.size(), 4U);
  EXPECT_EQ(json::parse(events[0]).at("choices").at(0).at("text"), json::value("H"));
  EXPECT_EQ(events[3], "[DONE]");
}

TEST_F(ServerTest, GivesChoicesTheirOwnSeeds) {
  running.post(kChat, hello_with(R"("n": 3, "seed": 6)"));
  const auto submitted = scheduler.submitted();
  ASSERT_EQ(submitted.size(), 3U);
  for (uint64_t k = 0; k < 3; ++k) EXPECT_EQ(submitted[k].sampling.seed, 6 ^ k);
}

TEST_F(ServerTest, CancelsAfterAStopString) {
  scheduler.play({.answer = "abc", .endless = true, .token_time = std::chrono::milliseconds(1)});
  const json::value body = body_of(running.post(kChat, hello_with(R"("stop": "ca")")));
  EXPECT_EQ(body.at("choices").at(0).at("message").at("content"), json::value("ab"));
  EXPECT_TRUE(scheduler.wait_until([](const auto& s) { return s.cancelled == 1; }));
}

TEST_F(ServerTest, KeepsTheConnection) {
  RawClient client = running.connect();
  for (int i = 0; i < 3; ++i) {
    client.post(kChat, kHello);
    EXPECT_TRUE(has(client.read_response(), "Hello"));
    client.post(kChat, hello_with(R"("stream": true)"));
    EXPECT_TRUE(has(client.read_response(), "[DONE]"));
  }
}

TEST_F(ServerTest, TakesRequestsSentAhead) {
  scheduler.play({.token_time = std::chrono::milliseconds(5)});
  RawClient client = running.connect();
  client.post(kChat, kHello);
  client.get("/version");
  client.get("/health");
  EXPECT_TRUE(has(client.read_response(), "Hello"));
  EXPECT_TRUE(has(client.read_response(), "version"));
  EXPECT_TRUE(has(client.read_response(), "\"ok\""));
}

TEST_F(ServerTest, EndsAnOldClientsStreamWithTheConnection) {
  RawClient client = running.connect();
  const std::string body = hello_with(R"("stream": true)");
  client.send("POST /v1/chat/completions HTTP/1.0\r\nContent-Length: " +
              std::to_string(body.size()) + "\r\n\r\n" + body);
  const std::string response = client.read_to_end();
  EXPECT_FALSE(has(response, "chunked"));
  EXPECT_TRUE(response.ends_with("data: [DONE]\n\n")) << response;
}

TEST_F(ServerTest, CancelsWhenTheClientHangsUp) {
  uint64_t expected = 0;
  for (const bool silent : {true, false}) {  // waiting for the first token, and in the middle
    for (const char* stream : {"true", "false"}) {
      scheduler.play(
          {.endless = true, .token_time = std::chrono::milliseconds(2), .silent = silent});
      RawClient client = running.connect();
      client.post(kChat, hello_with(std::string(R"("max_tokens": 1000000, "stream": )") + stream));
      ASSERT_TRUE(scheduler.wait_until([](const auto& s) { return s.running == 1; }));
      if (!silent && stream == std::string("true")) client.read_until("data: ");
      client.hang_up();
      ++expected;
      EXPECT_TRUE(scheduler.wait_until([&](const auto& s) {
        return s.cancelled == expected && s.running == 0;
      })) << "silent "
          << silent << ", stream " << stream;
    }
  }
  EXPECT_TRUE(
      has(running.get("/metrics"), "tandem:requests_cancelled_total{model_name=\"fake\"} 4"));
}

TEST_F(ServerTest, WaitsForSlowReaders) {
  constexpr int kTokens = 5000;
  scheduler.play({.answer = "x", .endless = true});
  RawClient slow = running.connect(4096);
  slow.post(kChat, hello_with(R"("stream": true, "max_tokens": )" + std::to_string(kTokens)));
  ASSERT_TRUE(scheduler.wait_until([](const auto& s) { return s.generated_tokens == kTokens; }));
  scheduler.play({});
  EXPECT_TRUE(has(running.post(kChat, kHello), "Hello"));  // nobody waits for it
  const auto events = events_of(slow.read_response());
  EXPECT_EQ(events.size(), kTokens + 3U);
}

TEST_F(ServerTest, ReportsAFailureInsideAStream) {
  scheduler.play({.answer = "ab", .error = "the engine is ill"});
  RawClient client = running.connect();
  client.post(kChat, hello_with(R"("stream": true)"));
  const std::vector<std::string> events = events_of(client.read_to_end());
  ASSERT_EQ(events.size(), 4U);  // role, two letters, error
  EXPECT_EQ(json::parse(events[3]).at("error").at("type"), json::value("server_error"));

  const std::string whole = running.post(kChat, kHello);
  EXPECT_EQ(status_of(whole), "500");
  EXPECT_TRUE(has(whole, "x-should-retry: false\r\n"));
}

TEST_F(ServerTest, MapsTheSchedulersRefusals) {
  scheduler.refuse_with({.message = "full", .code = "queue_full"});
  const std::string full = running.post(kChat, kHello);
  EXPECT_EQ(status_of(full), "429");
  EXPECT_TRUE(has(full, "retry-after: "));
  scheduler.refuse_with({.message = "m", .param = "messages", .code = "context_length_exceeded"});
  const std::string too_long = running.post("/v1/completions", R"({"prompt": "a"})");
  EXPECT_EQ(status_of(too_long), "400");
  EXPECT_EQ(body_of(too_long).at("error").at("param"), json::value("prompt"));
}

TEST_F(ServerTest, RefusesWhatIsNoRequest) {
  const auto post_chat = [&](const std::string& body) { return running.post(kChat, body); };
  EXPECT_EQ(error_code(post_chat("{\"messages\": [")), "invalid_json");
  EXPECT_EQ(error_code(post_chat("")), "invalid_json");
  EXPECT_EQ(error_code(post_chat("[]")), "invalid_json");
  EXPECT_EQ(error_code(post_chat("\xff\xfe")), "invalid_json");
  EXPECT_EQ(error_code(post_chat(std::string(100000, '['))), "invalid_json");
  EXPECT_EQ(error_code(post_chat("{}")), "missing_required_parameter");

  EXPECT_EQ(status_of(running.get("/nothing")), "404");
  const std::string method = running.get(kChat);
  EXPECT_EQ(status_of(method), "405");
  EXPECT_TRUE(has(method, "allow: POST, OPTIONS\r\n"));
  EXPECT_EQ(status_of(running.post("/health", "{}")), "405");

  RawClient form = running.connect();
  form.send(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
      "Content-Length: 2\r\n\r\n{}");
  EXPECT_EQ(status_of(form.read_response()), "415");
}

TEST_F(ServerTest, AnswersHeadAndOptions) {
  RawClient client = running.connect();
  client.send("HEAD /v1/models HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string head = client.read_until("\r\n\r\n");
  EXPECT_EQ(status_of(head), "200");
  EXPECT_TRUE(has(head, "content-length: "));
  client.send("OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: x\r\nOrigin: http://a\r\n\r\n");
  const std::string options = client.read_until("\r\n\r\n");  // no body came before it
  EXPECT_EQ(status_of(options), "204");
  EXPECT_TRUE(has(options, "access-control-allow-origin: *\r\n"));
  EXPECT_TRUE(has(options, "access-control-allow-headers: authorization"));
}

TEST_F(ServerTest, ReplacesUnusableRequestIds) {
  const std::string response = running.get("/health", "x-request-id: a b\r\n");
  EXPECT_TRUE(has(response, "x-request-id: req_")) << response;
}

struct Guarded : ServerTest {
  static Options with_key() {
    Options options;
    options.api_keys = {"secret", "other"};
    options.strict_params = true;
    options.cross_origin = false;
    return options;
  }
  Guarded() : ServerTest(with_key()) {}
};

TEST_F(Guarded, WantsTheKeyForAllOfV1) {
  for (const char* path : {"/v1/models", "/v1/models/fake", "/v1/health", "/v1/nothing"}) {
    EXPECT_EQ(error_code(running.get(path)), "invalid_api_key") << path;
  }
  EXPECT_EQ(status_of(running.post(kChat, kHello)), "401");
  EXPECT_EQ(status_of(running.post(kChat, kHello, "Authorization: Bearer wrong\r\n")), "401");
  EXPECT_EQ(status_of(running.post(kChat, kHello, "Authorization: Bearer secret\r\n")), "200");
  EXPECT_EQ(status_of(running.get("/v1/models", "x-api-key: secret\r\n")), "200");
  EXPECT_EQ(status_of(running.get("/health")), "200");
  EXPECT_EQ(status_of(running.get("/metrics")), "200");
}

TEST_F(Guarded, RefusesUnknownFieldsWhenStrict) {
  const std::string response =
      running.post(kChat, hello_with("\"colour\": 1"), "x-api-key: secret\r\n");
  EXPECT_EQ(status_of(response), "400");
  EXPECT_EQ(body_of(response).at("error").at("param"), json::value("colour"));
  EXPECT_FALSE(has(response, "access-control"));
}

TEST_F(ServerTest, FinishesRunningRequestsWhenItStops) {
  scheduler.play({.answer = "slowly", .token_time = std::chrono::milliseconds(20)});
  RawClient client = running.connect();
  client.post(kChat, kHello);
  ASSERT_TRUE(scheduler.wait_until([](const auto& s) { return s.running == 1; }));
  running.stop();
  EXPECT_TRUE(has(client.read_response(), "slowly"));
  EXPECT_THROW(running.connect(), std::runtime_error);
}

TEST(ServerStop, CancelsWhatDoesNotEnd) {
  FakeScheduler scheduler;
  scheduler.play({.endless = true, .token_time = std::chrono::microseconds(100)});
  Options options;
  options.drain_seconds = 0.1;
  RunningServer running(options);
  running.server().set_model(testing::fake_model(), scheduler);
  RawClient streaming = running.connect(), waiting = running.connect();
  streaming.post(kChat, hello_with(R"("stream": true, "max_tokens": 1000000)"));
  waiting.post(kChat, hello_with(R"("max_tokens": 1000000)"));
  ASSERT_TRUE(scheduler.wait_until([](const auto& s) { return s.running == 2; }));
  running.stop();
  EXPECT_TRUE(scheduler.wait_until([](const auto& s) { return s.running == 0; }));
}

TEST_F(ServerTest, ServesManyAtOnce) {
  scheduler.play({.token_time = std::chrono::milliseconds(1)});
  std::vector<std::thread> clients;
  std::atomic<int> right = 0;
  for (int i = 0; i < 16; ++i) {
    clients.emplace_back([&, i] {
      for (int k = 0; k < 5; ++k) {
        const std::string stream = (i + k) % 2 == 0 ? "true" : "false";
        const std::string response = running.post(kChat, hello_with("\"stream\": " + stream));
        right += has(response, stream == "true" ? "[DONE]" : "\"Hello\"");
      }
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(right, 80);
}

}  // namespace
}  // namespace tandem::server
