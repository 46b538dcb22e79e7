// Clients that break rules, send too much or too slowly, or spell the same request otherwise.
#include <deque>
#include <fstream>
#include <future>

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "server/uploads.h"
#include "tests/server/running_server.h"
#include "tokenizer/detokenizer.h"

namespace tandem::server {
namespace {

TEST_F(ServerTest, RefusesMalformedHttp) {
  for (const std::string& bytes :
       {std::string("nonsense\r\n\r\n"), std::string("GET / HTTP/9.9\r\n\r\n"),
        std::string("GET /a b HTTP/1.1\r\n\r\n"), std::string(100, '\0') + "\r\n\r\n",
        std::string("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        std::string("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        std::string("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nabc"),
        std::string("POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "1\r\na\r\n0\r\n\r\n")}) {
    RawClient client = running.connect();
    client.send(bytes);
    const std::string response = client.read_to_end();
    EXPECT_EQ(status_of(response), "400") << bytes;
    EXPECT_TRUE(has(response, "connection: close\r\n"));
  }
  RawClient big_head = running.connect();
  big_head.send("GET / HTTP/1.1\r\nx: " + std::string(100000, 'x') + "\r\n\r\n");
  EXPECT_EQ(status_of(big_head.read_to_end()), "431");
  EXPECT_EQ(status_of(running.get("/health")), "200");
}

constexpr char kChunkedPost[] =
    "POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";

int64_t resident_bytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

// A chunk's line and trailers have no length that a client must keep to.
TEST_F(ServerTest, DoesNotGatherWhatHasNoEnd) {
  const std::string extensions(1 << 20, 'x');
  std::string trailers;
  while (trailers.size() < extensions.size()) trailers += "a: b\r\n";
  const int64_t before = resident_bytes();
  for (const auto& [start, more] :
       {std::pair(std::string("5;"), extensions), std::pair(std::string("0\r\n"), trailers)}) {
    RawClient client = running.connect();
    client.send(kChunkedPost + start);
    for (int i = 0; i < 64; ++i) client.send(more);
    EXPECT_EQ(status_of(client.read_response()), "400");
  }
  EXPECT_LT(resident_bytes() - before, 32 << 20);
}

TEST_F(ServerTest, ReadsChunkedBodiesHoweverTheyAreCut) {
  const std::string body = R"({"prompt": "hi"})";
  for (const size_t size : {size_t{1}, size_t{5}, body.size()}) {
    RawClient client = running.connect();
    client.send(kChunkedPost);
    for (size_t at = 0; at < body.size(); at += size) {
      const std::string piece = body.substr(at, size);
      client.send(fmt::format("{:x};a=b\r\n{}\r\n", piece.size(), piece));
    }
    client.send("0\r\nX-Trailer: 1\r\n\r\n");
    EXPECT_TRUE(has(client.read_response(), "Hello"));
  }
}

TEST_F(ServerTest, TakesWholeUrlsAsTargets) {
  for (const char* target : {"http://x/health", "HTTPS://x:1/health?a=b", "/health?http://y/z"}) {
    EXPECT_EQ(status_of(running.get(target)), "200") << target;
  }
  EXPECT_EQ(status_of(running.get("http://x")), "404");
}

std::string post_as(RunningServer& running, const std::string& headers, const std::string& body) {
  RawClient client = running.connect();
  client.send("POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n" + headers +
              "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body);
  return client.read_response();
}

TEST_F(ServerTest, TakesJsonUnderTheTypeThatCurlGives) {
  const std::string form = "Content-Type: application/x-www-form-urlencoded\r\n";
  EXPECT_TRUE(has(post_as(running, form, kHello), "Hello"));
  EXPECT_EQ(status_of(post_as(running, form, "a=b")), "415");
  EXPECT_TRUE(has(post_as(running, "", kHello), "Hello"));
  EXPECT_EQ(status_of(post_as(running, "Content-Encoding: gzip\r\n", kHello)), "415");
}

struct SameOrigin : ServerTest {
  static Options options() {
    Options options;
    options.cross_origin = false;
    return options;
  }
  SameOrigin() : ServerTest(options()) {}
};

// A browser sends forms of foreign pages without asking first.
TEST_F(SameOrigin, TakesNoForms) {
  const std::string form = "Content-Type: application/x-www-form-urlencoded\r\n";
  EXPECT_EQ(status_of(post_as(running, form, kHello)), "415");
}

TEST_F(ServerTest, QuotesBytesThatAreNoTextAsText) {
  for (const std::string& response :
       {running.get("/v1/models/%FF%FE"), running.get("/\xff\xfe"),
        running.post(
            kChat, R"({"messages": [{"content": "x", "role": "a)" + [] {
              std::string role;
              for (int i = 0; i < 100; ++i) role += "é";
              return role;
            }() + "\"}]}")}) {
    const std::string body = response.substr(response.find("\r\n\r\n") + 4);
    EXPECT_EQ(body, tokenizer::to_valid_utf8(body));
    EXPECT_TRUE(has(body, "\"error\""));
  }
  const std::string key(1 << 20, 'x');
  EXPECT_LT(running.post(kChat, hello_with(R"("logit_bias": {")" + key + "\": 1}")).size(), 3000U);
}

TEST_F(ServerTest, DoesNotTokeniseWhatCannotFit) {
  // The fake vocabulary's longest token has twelve bytes, its context 4096 tokens.
  const std::string long_text(4096 * 12 + 1, 'x');
  EXPECT_EQ(error_code(running.post("/v1/completions", R"({"prompt": ")" + long_text + "\"}")),
            "context_length_exceeded");
  const std::string chat =
      running.post(kChat, R"({"messages": [{"role": "user", "content": ")" + long_text + "\"}]}");
  EXPECT_EQ(error_code(chat), "context_length_exceeded");
  EXPECT_EQ(body_of(chat).at("error").at("param"), json::value("messages"));
  EXPECT_TRUE(scheduler.submitted().empty());
}

// Takes its time for every text, until it may go on.
class SlowTokenizer : public testing::ByteTokenizer {
 public:
  std::vector<Id> encode(std::string_view text,
                         const tokenizer::EncodeOptions& options) const override {
    entered.set_value();
    go_on.get_future().wait();
    return ByteTokenizer::encode(text, options);
  }
  mutable std::promise<void> entered, go_on;
};

TEST(LongPrompt, KeepsNobodyWaitingWhileItIsTokenised) {
  FakeScheduler scheduler;
  Options options;
  options.threads = 1;
  RunningServer running(options);
  const auto slow = std::make_shared<SlowTokenizer>();
  Model model = testing::fake_model();
  model.tokenizer = slow;
  running.server().set_model(model, scheduler);
  RawClient client = running.connect();
  client.post(kChat, kHello);
  slow->entered.get_future().wait();
  EXPECT_EQ(status_of(running.get("/health")), "200");
  running.server().stop();  // which waits for the worker
  slow->go_on.set_value();
  EXPECT_TRUE(has(client.read_response(), "Hello"));
}

struct SmallLimits : ServerTest {
  static Options limits() {
    Options options;
    options.max_body_bytes = 1000;
    options.header_seconds = 0.2;
    options.body_seconds = 0.2;
    options.idle_seconds = 0.4;
    options.sse_ping_seconds = 0.05;
    return options;
  }
  SmallLimits() : ServerTest(limits()) {}
};

TEST_F(SmallLimits, RefusesLargeBodies) {
  // The response must reach a client that sends all of it before it reads.
  EXPECT_EQ(status_of(running.post(kChat, std::string(20 << 20, 'x'))), "413");
  RawClient chunked = running.connect();
  chunked.send("POST /v1/completions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 20; ++i) chunked.send("100\r\n" + std::string(256, 'x') + "\r\n");
  EXPECT_EQ(status_of(chunked.read_response()), "413");
  RawClient polite = running.connect();
  polite.send(
      "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n"
      "Expect: 100-continue\r\n\r\n");
  EXPECT_EQ(status_of(polite.read_response()), "413");
}

TEST_F(SmallLimits, InvitesTheBodyOfAClientThatAsks) {
  RawClient client = running.connect();
  const std::string body = kHello;
  client.send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nExpect: 100-Continue\r\n"
      "Content-Length: " +
      std::to_string(body.size()) + "\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send(body);
  EXPECT_TRUE(has(client.read_response(), "Hello"));
}

TEST_F(SmallLimits, DoesNotWaitForever) {
  for (const char* start : {"", "GET /hea", "POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"}) {
    RawClient client = running.connect();
    client.send(start);
    EXPECT_EQ(client.read_to_end(), "") << start;  // returns as the server closes
  }
}

TEST_F(SmallLimits, LetsLongAnswersTakeTheirTime) {
  scheduler.play({.answer = "abcdef", .token_time = std::chrono::milliseconds(100)});
  EXPECT_TRUE(has(running.post(kChat, kHello), "abcdef"));
}

TEST_F(SmallLimits, PingsSilentStreams) {
  scheduler.play({.silent = true});
  RawClient client = running.connect();
  client.post(kChat, hello_with(R"("stream": true)"));
  client.read_until("\r\n\r\n");
  EXPECT_TRUE(has(client.read_until(": ping\n\n"), ": ping"));
}

TEST(Uploads, HaveALimitAllTogether) {
  Uploads uploads(10 * Uploads::kFree);
  std::deque<Uploads::Share> shares;
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(shares.emplace_back(uploads).grow(Uploads::kFree));
    EXPECT_TRUE(shares.back().grow(2 * Uploads::kFree));
  }
  EXPECT_FALSE(shares.emplace_back(uploads).grow(2 * Uploads::kFree));
  EXPECT_TRUE(shares.emplace_back(uploads).grow(Uploads::kFree));  // small ones always find room
  shares.clear();
  EXPECT_TRUE(shares.emplace_back(uploads).grow(10 * Uploads::kFree));
}

}  // namespace
}  // namespace tandem::server
