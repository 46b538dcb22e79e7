// Key, route, method, content type, then the route's answer.
#include "server/service.h"

#include <algorithm>
#include <charconv>

#include <boost/algorithm/string.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>

#include "base/json.h"
#include "base/log.h"
#include "server/auth.h"
#include "server/exchange.h"
#include "server/generation.h"
#include "server/step_trace.h"
#include "server/version.h"
#include "tokenizer/detokenizer.h"

namespace tandem::server {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr int64_t kMaxUploads = 128;     // of the largest size
constexpr size_t kMaxIgnoredNames = 16;  // told in the header
constexpr size_t kMaxIgnoredBytes = 64;  // of each

HttpResponse json_response(const json::value& body, int status = 200) {
  HttpResponse response;
  response.status = status;
  response.body = to_string(body);
  return response;
}

// A missing type passes: many clients send none. So does JSON under the type that curl gives all
// data, except where pages of other sites must be kept out: a form needs nobody's permission.
bool is_json(const HttpRequest& request, const Options& options) {
  const std::string_view content_type = request.header("content-type");
  std::string type(content_type.substr(0, content_type.find(';')));
  boost::algorithm::trim(type);
  boost::algorithm::to_lower(type);
  if (type == "application/x-www-form-urlencoded" && options.cross_origin) {
    const size_t first = request.body.find_first_not_of(" \t\r\n");
    return first != std::string::npos && request.body[first] == '{';
  }
  return type.empty() || type == "application/json" || type == "text/json" ||
         type.ends_with("+json");
}

bool needs_key(std::string_view path) {
  return path == "/v1" || path.starts_with("/v1/") || path.starts_with("/debug/");
}

json::object model_entry(const Model& model) {
  return {{"id", model.name},
          {"object", "model"},
          {"created", model.created},
          {"owned_by", "tandem"},
          {"root", model.name},
          {"parent", nullptr},
          {"max_model_len", model.context_length},
          {"meta",
           {{"n_vocab", model.vocab_size},
            {"n_ctx", model.context_length},
            {"size", model.file_bytes}}}};
}

// Names come from the client, headers must stay well-formed.
std::string header_list(const std::vector<std::string>& names) {
  std::string list;
  for (size_t i = 0; i < std::min(names.size(), kMaxIgnoredNames); ++i) {
    std::string name = names[i].substr(0, kMaxIgnoredBytes);
    for (char& c : name) {
      const bool plain = c > ' ' && c < 127 && c != ',';
      if (!plain) c = '?';
    }
    list += (list.empty() ? "" : ", ") + name;
  }
  return list;
}

HttpResponse preflight_response() {
  HttpResponse response;
  response.status = 204;
  response.headers = {{"access-control-allow-methods", "GET, HEAD, POST, OPTIONS"},
                      {"access-control-allow-headers", "authorization, *"},
                      {"access-control-max-age", "86400"},
                      {"allow", "GET, HEAD, POST, OPTIONS"}};
  return response;
}

// The whole work on a body, from its bytes to token ids.
Result<GenerationRequest> parse_body(const std::string& text, RouteId route, const Options& options,
                                     const Model& model) {
  const Result<json::value> body = parse_json(text);
  if (!body) return body.failure();
  if (!body->is_object()) {
    return Failure{.message = "the body must be a JSON object", .code = "invalid_json"};
  }
  return route == RouteId::kChatCompletions
             ? parse_chat_request(body->get_object(), options, model)
             : parse_completion_request(body->get_object(), options, model);
}

// The text of as many tokens as the context holds, were they all of the longest kind.
int64_t max_prompt_bytes(const Model& model) {
  size_t longest = 0;
  for (int id = 0; id < model.tokenizer->vocab_size(); ++id) {
    longest = std::max(longest, model.tokenizer->bytes(id).size());
  }
  return static_cast<int64_t>(longest) * model.context_length;
}

}  // namespace

Service::Service(Options options)
    : options_(std::move(options)),
      uploads_(kMaxUploads * options_.max_body_bytes),
      workers_(static_cast<size_t>(options_.threads)) {}

void Service::set_model(Model model, scheduler::Scheduler& scheduler) {
  // The answer's thinking is to be split off although the template knows none.
  if (options_.force_think && model.output_format.think_open.empty()) {
    model.output_format.think_open = "<think>";
    model.output_format.think_close = "</think>";
  }
  model.max_prompt_bytes = max_prompt_bytes(model);
  model.name = tokenizer::to_valid_utf8(model.name);  // a file's name may be any bytes
  const std::string name = model.name;
  const std::lock_guard lock(serving_mutex_);
  serving_ = std::shared_ptr<Serving>(
      new Serving{.model = std::move(model), .scheduler = scheduler, .metrics = Metrics(name)});
}

void Service::close() {
  if (const auto serving = this->serving()) serving->gate->close();
  closed_ = true;
  workers_.join();
}

std::shared_ptr<Serving> Service::serving() const {
  const std::lock_guard lock(serving_mutex_);
  return serving_;
}

HttpResponse Service::answer_live() const {
  // Who restarts what is not alive should do it now: nothing will come of this process any more.
  if (failed_) return json_response({{"status", "failed"}}, 503);
  return json_response({{"status", "alive"}});
}

// last: how many of them; empty: all that are known.
HttpResponse Service::answer_debug_steps(const std::string& last) const {
  if (!options_.debug_steps) return to_response(route_is_off("/debug/steps", "--debug_steps"));
  const std::shared_ptr<Serving> serving = this->serving();
  if (serving == nullptr) return to_response(model_loading());
  std::vector<scheduler::StepRecord> steps = serving->scheduler.recent_steps();
  if (!last.empty()) {
    size_t count = 0;
    const char* end = last.data() + last.size();
    if (std::from_chars(last.data(), end, count).ptr != end) {
      return to_response(route_not_found("/debug/steps/" + last));
    }
    steps.erase(steps.begin(),
                steps.end() - static_cast<std::ptrdiff_t>(std::min(count, steps.size())));
  }
  HttpResponse response;
  response.body = step_trace(steps);
  return response;
}

HttpResponse Service::answer_health() const {
  if (failed_) return json_response({{"status", "failed"}}, 503);
  if (stopping_) return json_response({{"status", "stopping"}}, 503);
  if (serving() != nullptr) return json_response({{"status", "ok"}});
  HttpResponse response =
      json_response({{"status", "loading"}, {"progress", progress_.load()}}, 503);
  response.headers.emplace_back("retry-after", "5");
  return response;
}

HttpResponse Service::answer_get(const RouteMatch& match) const {
  const std::shared_ptr<Serving> serving = this->serving();
  switch (match.route->id) {
    case RouteId::kHealth:
      return answer_health();
    case RouteId::kLive:
      return answer_live();
    case RouteId::kDebugSteps:
      return answer_debug_steps(match.parameter);
    case RouteId::kVersion:
      return json_response({{"version", kVersion}});
    case RouteId::kMetrics: {
      HttpResponse response;
      response.content_type = "text/plain; version=0.0.4; charset=utf-8";
      if (serving != nullptr) response.body = serving->metrics.text(serving->scheduler.stats());
      return response;
    }
    case RouteId::kModels:
      if (serving == nullptr) return to_response(model_loading());
      return json_response(
          {{"object", "list"}, {"data", json::array{model_entry(serving->model)}}});
    case RouteId::kModel:
      if (serving == nullptr) return to_response(model_loading());
      if (match.parameter != serving->model.name) {
        return to_response(model_not_found(match.parameter));
      }
      return json_response(model_entry(serving->model));
    default:
      TANDEM_CHECK(false, "{} is no GET route", match.route->path);
  }
}

// The coroutine goes on where it was when the worker is done.
asio::awaitable<Result<GenerationRequest>> Service::parse(std::string body, RouteId route,
                                                          const Serving& serving) {
  using Parsed = std::optional<Result<GenerationRequest>>;
  const auto work = [&]() -> asio::awaitable<Parsed> {
    // At the end of the server nobody waits for what is still in the queue.
    if (closed_) co_return Failure{.message = "the server is stopping", .code = "unavailable"};
    co_return parse_body(body, route, options_, serving.model);
  };
  Parsed parsed = co_await asio::co_spawn(workers_, work, asio::use_awaitable);
  co_return std::move(*parsed);
}

asio::awaitable<void> Service::answer_generation(Exchange& exchange, RouteId route) {
  const std::shared_ptr<Serving> serving = this->serving();
  if (serving == nullptr) {
    const ApiError error = model_loading();
    co_await exchange.reply(error);
    co_return;
  }
  // Before the body is parsed: a key that has its share already costs no more than this.
  Result<scheduler::Place> place = serving->scheduler.reserve(exchange.scheduler_key());
  if (!place) {
    serving->metrics.saw_refusal();
    const ApiError error = to_api_error(place.failure());
    co_await exchange.reply(error);
    co_return;
  }
  Result<GenerationRequest> request = co_await parse(exchange.take_body(), route, *serving);
  if (!request) {
    *place = nullptr;  // before the client can ask again
    serving->metrics.saw_refusal();
    const ApiError error = to_api_error(request.failure());
    co_await exchange.reply(error);
    co_return;
  }
  if (!request->ignored_fields.empty()) {
    exchange.add_header("x-ignored-params", header_list(request->ignored_fields));
  }
  Generation generation(options_, *serving, std::move(*request), exchange, std::move(*place));
  const auto executor = co_await asio::this_coro::executor;
  co_await generation.run(executor);
}

asio::awaitable<void> Service::answer(Exchange& exchange) {
  const HttpRequest& request = exchange.request();
  const std::string_view encoding = request.header("content-encoding");
  const RouteMatch match = find_route(request.path);
  const std::optional<size_t> key = find_key(request, options_.api_keys);
  exchange.set_key(key.value_or(0));
  std::optional<ApiError> error;
  HttpResponse response;
  if (request.method == "OPTIONS") {
    response = preflight_response();
  } else if (needs_key(request.path) && !key) {
    error = wrong_key();
  } else if (match.route == nullptr) {
    error = route_not_found(request.path);
  } else if (!match.route->allows(request.method)) {
    error = method_not_allowed(request.method);
    exchange.add_header("allow", std::string(match.route->allow()));
  } else if (!match.route->post) {
    response = answer_get(match);
  } else if (!is_json(request, options_)) {
    error = unsupported_media_type(std::string(request.header("content-type")));
  } else if (!encoding.empty() && encoding != "identity") {
    error = unsupported_encoding(std::string(encoding));
  } else if (stopping_) {
    error = stopping();
  } else {
    co_await answer_generation(exchange, match.route->id);
    co_return;
  }
  if (error) response = to_response(*error);
  co_await exchange.reply(std::move(response));
}

asio::awaitable<void> Service::handle(HttpRequest request, ResponseWriter& writer) {
  ++active_;
  Exchange exchange(std::move(request), writer, options_);
  std::string fault;
  try {
    co_await answer(exchange);
  } catch (const std::exception& error) {
    fault = error.what();
  }
  if (!fault.empty()) {
    log::error("{} {}: {}", exchange.request().method, exchange.request().path, fault);
    try {
      if (exchange.has_replied()) {
        co_await writer.finish(false);
      } else {
        const ApiError error = internal_error("an internal error");
        co_await exchange.reply(error);
      }
    } catch (const std::exception&) {  // the connection is closed by its own limits
    }
  }
  exchange.log();
  --active_;
}

}  // namespace tandem::server
