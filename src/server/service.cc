// Key, route, method, content type, then the route's answer.
#include "server/service.h"

#include <algorithm>

#include <boost/algorithm/string.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/json.hpp>

#include "base/json.h"
#include "base/log.h"
#include "server/auth.h"
#include "server/exchange.h"
#include "server/generation.h"
#include "server/version.h"

namespace tandem::server {
namespace {

namespace asio = boost::asio;
namespace json = boost::json;

constexpr size_t kMaxIgnoredNames = 16;  // told in the header
constexpr size_t kMaxIgnoredBytes = 64;  // of each

HttpResponse json_response(const json::value& body, int status = 200) {
  HttpResponse response;
  response.status = status;
  response.body = to_string(body);
  return response;
}

// A missing type passes: many clients send none.
bool is_json(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  boost::algorithm::trim(type);
  boost::algorithm::to_lower(type);
  return type.empty() || type == "application/json" || type == "text/json" ||
         type.ends_with("+json");
}

bool needs_key(std::string_view path) { return path == "/v1" || path.starts_with("/v1/"); }

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

}  // namespace

void Service::set_model(Model model, scheduler::Scheduler& scheduler) {
  // The answer's thinking is to be split off although the template knows none.
  if (options_.force_think && model.output_format.think_open.empty()) {
    model.output_format.think_open = "<think>";
    model.output_format.think_close = "</think>";
  }
  const std::string name = model.name;
  const std::lock_guard lock(serving_mutex_);
  serving_ = std::shared_ptr<Serving>(
      new Serving{.model = std::move(model), .scheduler = scheduler, .metrics = Metrics(name)});
}

void Service::close_gate() {
  if (const auto serving = this->serving()) serving->gate->close();
}

std::shared_ptr<Serving> Service::serving() const {
  const std::lock_guard lock(serving_mutex_);
  return serving_;
}

HttpResponse Service::answer_health() const {
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

asio::awaitable<void> Service::answer_generation(Exchange& exchange, RouteId route) {
  const std::shared_ptr<Serving> serving = this->serving();
  if (serving == nullptr) {
    const ApiError error = model_loading();
    co_await exchange.reply(error);
    co_return;
  }
  const Result<json::value> body = parse_json(exchange.request().body);
  std::optional<Failure> failure;
  std::optional<GenerationRequest> request;
  if (!body) {
    failure = body.failure();
  } else if (!body->is_object()) {
    failure = Failure{.message = "the body must be a JSON object", .code = "invalid_json"};
  } else {
    Result<GenerationRequest> parsed =
        route == RouteId::kChatCompletions
            ? parse_chat_request(body->get_object(), options_, serving->model)
            : parse_completion_request(body->get_object(), options_, serving->model);
    if (parsed) {
      request = std::move(*parsed);
    } else {
      failure = parsed.failure();
    }
  }
  if (failure) {
    serving->metrics.saw_refusal();
    const ApiError error = to_api_error(*failure);
    co_await exchange.reply(error);
    co_return;
  }
  if (!request->ignored_fields.empty()) {
    exchange.add_header("x-ignored-params", header_list(request->ignored_fields));
  }
  Generation generation(options_, *serving, std::move(*request), exchange);
  const auto executor = co_await asio::this_coro::executor;
  co_await generation.run(executor);
}

asio::awaitable<void> Service::answer(Exchange& exchange) {
  const HttpRequest& request = exchange.request();
  const RouteMatch match = find_route(request.path);
  std::optional<ApiError> error;
  HttpResponse response;
  if (request.method == "OPTIONS") {
    response = preflight_response();
  } else if (needs_key(request.path) && !is_authorised(request, options_.api_key)) {
    error = wrong_key();
  } else if (match.route == nullptr) {
    error = route_not_found(request.path);
  } else if (!match.route->allows(request.method)) {
    error = method_not_allowed(request.method);
    exchange.add_header("allow", std::string(match.route->allow()));
  } else if (!match.route->post) {
    response = answer_get(match);
  } else if (!is_json(request.header("content-type"))) {
    error = unsupported_media_type(std::string(request.header("content-type")));
  } else if (stopping_) {
    error = stopping();
  } else {
    co_await answer_generation(exchange, match.route->id);
    co_return;
  }
  if (error) response = to_response(*error);
  co_await exchange.reply(std::move(response));
}

asio::awaitable<void> Service::handle(const HttpRequest& request, ResponseWriter& writer) {
  ++active_;
  Exchange exchange(request, writer, options_);
  std::string fault;
  try {
    co_await answer(exchange);
  } catch (const std::exception& error) {
    fault = error.what();
  }
  if (!fault.empty()) {
    log::error("{} {}: {}", request.method, request.path, fault);
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
