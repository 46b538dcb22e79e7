// Error bodies, routes, keys and metrics: what needs no socket.
#include "server/http.h"

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include "server/auth.h"
#include "server/metrics.h"
#include "server/router.h"

namespace tandem::server {
namespace {

namespace json = boost::json;

TEST(ApiError, HasAllFourKeys) {
  const json::value body = json::parse(model_loading().body());
  EXPECT_EQ(body, json::parse(R"({"error": {"message": "the model is being loaded; try again later",
      "type": "unavailable_error", "param": null, "code": "model_loading"}})"));
  const ApiError bad = to_api_error({.message = "m", .param = "p", .code = "c"});
  EXPECT_EQ(json::parse(bad.body()),
            json::parse(R"({"error": {"message": "m", "type": "invalid_request_error",
                                      "param": "p", "code": "c"}})"));
}

TEST(ApiError, GivesFailuresTheirStatus) {
  const auto status = [](const char* code) {
    return to_api_error({.message = "m", .code = code}).status;
  };
  EXPECT_EQ(status("invalid_value"), 400);
  EXPECT_EQ(status("context_length_exceeded"), 400);
  EXPECT_EQ(status("invalid_json"), 400);
  EXPECT_EQ(status("queue_full"), 429);
  EXPECT_EQ(status("unavailable"), 503);
}

TEST(ApiError, TellsWhetherToRepeat) {
  const auto has = [](const ApiError& error, const char* name) {
    for (const auto& [key, value] : to_response(error).headers) {
      if (key == name) return true;
    }
    return false;
  };
  EXPECT_TRUE(has(model_loading(), "retry-after"));
  EXPECT_TRUE(has(to_api_error({.message = "m", .code = "queue_full"}), "retry-after"));
  EXPECT_FALSE(has(wrong_key(), "retry-after"));
  EXPECT_TRUE(has(internal_error("x"), "x-should-retry"));
}

TEST(ApiError, QuotesNoMoreThanABit) {
  EXPECT_LT(route_not_found(std::string(10000, 'x')).message.size(), 300U);
}

TEST(Router, FindsRoutes) {
  EXPECT_EQ(find_route("/v1/chat/completions").route->id, RouteId::kChatCompletions);
  EXPECT_EQ(find_route("/v1/models").route->id, RouteId::kModels);
  EXPECT_EQ(find_route("/ping").route->id, RouteId::kHealth);
  const RouteMatch model = find_route("/v1/models/deepseek-ai%2FDeepSeek-R1%zz%2");
  EXPECT_EQ(model.route->id, RouteId::kModel);
  EXPECT_EQ(model.parameter, "deepseek-ai/DeepSeek-R1%zz%2");
  EXPECT_EQ(find_route("/v1/models/a/b").parameter, "a/b");
  for (const char* path : {"", "/", "/v1", "/v1/models/", "/v1/chat", "/v1/chat/completions/",
                           "/V1/models", "v1/models"}) {
    EXPECT_EQ(find_route(path).route, nullptr) << path;
  }
}

TEST(Router, KnowsMethods) {
  const Route& chat = *find_route("/v1/chat/completions").route;
  EXPECT_TRUE(chat.allows("POST"));
  EXPECT_FALSE(chat.allows("GET"));
  EXPECT_EQ(chat.allow(), "POST, OPTIONS");
  const Route& health = *find_route("/health").route;
  EXPECT_TRUE(health.allows("GET") && health.allows("HEAD"));
  EXPECT_FALSE(health.allows("DELETE"));
}

TEST(Auth, WantsTheKey) {
  const auto passes = [](const char* name, const char* value) {
    return find_key({.method = "GET", .path = "/", .headers = {{name, value}}, .body = ""},
                    {"secret", "other"});
  };
  EXPECT_TRUE(passes("authorization", "Bearer secret"));
  EXPECT_TRUE(passes("authorization", "bearer  secret"));
  EXPECT_TRUE(passes("x-api-key", "secret"));
  EXPECT_FALSE(passes("authorization", "secret"));
  EXPECT_FALSE(passes("authorization", "Basic secret"));
  EXPECT_FALSE(passes("authorization", "Bearer "));
  EXPECT_FALSE(passes("authorization", "Bearer secre"));
  EXPECT_FALSE(passes("authorization", "Bearer secretsecret"));
  EXPECT_FALSE(passes("x-api-key", ""));
  EXPECT_FALSE(passes("other", "secret"));
  EXPECT_EQ(passes("x-api-key", "secret"), 0U);
  EXPECT_EQ(passes("x-api-key", "other"), 1U);
  EXPECT_EQ(find_key({}, {}), 0U);
  EXPECT_FALSE(find_key({}, {"secret"}));
}

TEST(Metrics, ShowsSchedulerAndRequests) {
  Metrics metrics("m\"1");
  metrics.saw_first_token(0.2);
  metrics.saw_next_token(0.01);
  metrics.saw_finish("stop");
  metrics.saw_finish("stop");
  metrics.saw_answer(1.0, 0.25, {.prompt_tokens = 10, .completion_tokens = 2, .cached_tokens = 4});
  metrics.saw_disconnect();
  metrics.saw_times({.queued = 0.4, .prefill = 2.0, .decode = 3.0});
  metrics.text({.steps = 2, .generated_tokens = 3});
  scheduler::StepSizes sizes;
  for (const int tokens : {1, 8, 9, 20000}) sizes.add(tokens);
  const std::string text = metrics.text({.running = 2,
                                         .waiting = 1,
                                         .pages_total = 8,
                                         .pages_free = 6,
                                         .steps = 4,
                                         .step_prefill_tokens = 20017,
                                         .step_decode_tokens = 1,
                                         .step_sizes = sizes,
                                         .prompt_tokens = 11,
                                         .generated_tokens = 5});
  EXPECT_NE(text.find("\nprocess_open_fds "), std::string::npos);
  const std::string label = "{model_name=\"m\\\"1\"}";
  for (const std::string& line :
       {"vllm:num_requests_running" + label + " 2",
        "vllm:num_requests_waiting" + label + " 1",
        "vllm:kv_cache_usage_perc" + label + " 0.25",
        "tandem:kv_pages_total" + label + " 8",
        "tandem:kv_pages_free" + label + " 6",
        "vllm:prompt_tokens_total" + label + " 11",
        "vllm:generation_tokens_total" + label + " 5",
        "tandem:requests_cancelled_total" + label + " 1",
        "vllm:prefix_cache_hits_total" + label + " 4",
        "vllm:time_to_first_token_seconds_count" + label + " 1",
        "vllm:inter_token_latency_seconds_count" + label + " 1",
        "vllm:e2e_request_latency_seconds_count" + label + " 1",
        "vllm:request_queue_time_seconds_sum" + label + " 0.4",
        "vllm:request_prefill_time_seconds_sum" + label + " 2",
        "vllm:request_decode_time_seconds_sum" + label + " 3",
        "vllm:request_inference_time_seconds_sum" + label + " 5",
        "vllm:iteration_tokens_total_count" + label + " 4",
        "vllm:iteration_tokens_total_sum" + label + " 20018",
        std::string("vllm:iteration_tokens_total_bucket{model_name=\"m\\\"1\",le=\"8\"} 2"),
        std::string("vllm:iteration_tokens_total_bucket{model_name=\"m\\\"1\",le=\"16384\"} 3"),
        std::string(
            "vllm:request_success_total{finished_reason=\"stop\",model_name=\"m\\\"1\"} 2")}) {
    EXPECT_NE(text.find("\n" + line + "\n"), std::string::npos) << line << "\n" << text;
  }
}

}  // namespace
}  // namespace tandem::server
