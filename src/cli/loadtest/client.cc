// One coroutine for each of the places; all on one thread, which a server of tokens does not fill.
#include "cli/loadtest/client.h"

#include <chrono>
#include <iterator>
#include <map>
#include <numeric>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/http/write.hpp>
#include <boost/json.hpp>

#include "base/error.h"
#include "base/json.h"

namespace tandem::cli::loadtest {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace json = boost::json;
using boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr auto kTuple = asio::as_tuple(asio::use_awaitable);
constexpr auto kPatience = std::chrono::seconds(600);  // for one request
constexpr size_t kMaxQuoted = 120;                     // of an error's body

std::string body_of(const PlannedRequest& planned) {
  return to_string(
      json::object{{"prompt", json::array(planned.prompt.begin(), planned.prompt.end())},
                   {"max_tokens", planned.output_tokens},
                   {"ignore_eos", true},
                   {"temperature", 0},
                   {"stream", true},
                   {"stream_options", {{"include_usage", true}}}});
}

// Takes a stream's events as they come.
class StreamReader {
 public:
  StreamReader(Outcome& outcome, Clock::time_point start) : outcome_(outcome), start_(start) {}

  // The whole body so far.
  void read(std::string_view body) {
    for (size_t end; (end = body.find("\n\n", at_)) != std::string_view::npos; at_ = end + 2) {
      take_event(body.substr(at_, end - at_));
    }
  }
  int events() const { return events_; }
  bool is_done() const { return done_; }

 private:
  void take_event(std::string_view event) {
    if (!event.starts_with("data: ")) return;
    event.remove_prefix(6);
    if (event == "[DONE]") {
      done_ = true;
      return;
    }
    const Result<json::value> chunk = parse_json(event);
    const json::object* object = chunk ? chunk->if_object() : nullptr;
    if (object == nullptr || object->contains("error")) {
      outcome_.error = std::string(event.substr(0, kMaxQuoted));
      return;
    }
    if (const json::value* usage = object->if_contains("usage");
        usage != nullptr && usage->is_object()) {
      outcome_.prompt_tokens = usage->at("prompt_tokens").to_number<int>();
      outcome_.output_tokens = usage->at("completion_tokens").to_number<int>();
    }
    const json::value* choices = object->if_contains("choices");
    if (choices == nullptr || !choices->is_array() || choices->get_array().empty()) return;
    // The event that tells the finish reason has none.
    boost::system::error_code error;
    const json::value* text = choices->find_pointer("/0/text", error);
    if (text != nullptr && text->is_string() && !text->get_string().empty()) take_token();
  }

  void take_token() {
    const Clock::time_point now = Clock::now();
    const double seconds = std::chrono::duration<double>(now - start_).count();
    if (events_++ == 0) {
      outcome_.first_token = seconds;
    } else {
      outcome_.gaps.push_back(std::chrono::duration<double>(now - last_).count());
    }
    last_ = now;
  }

  Outcome& outcome_;
  const Clock::time_point start_;
  Clock::time_point last_;
  size_t at_ = 0;
  int events_ = 0;
  bool done_ = false;
};

class Load {
 public:
  Load(const LoadOptions& options, const std::vector<PlannedRequest>& plan)
      : options_(options), plan_(plan), outcomes_(plan.size()) {
    error_code error;
    endpoints_ = asio::ip::tcp::resolver(io_).resolve(options.url.host, options.url.port, error);
    if (error) throw Error("{}: {}", options.url.text(), error.message());
  }

  std::vector<Outcome> run() {
    begin_ = Clock::now();
    for (int i = 0; i < options_.concurrency; ++i) asio::co_spawn(io_, work(), asio::detached);
    io_.run();
    return std::move(outcomes_);
  }

 private:
  double seconds_since(Clock::time_point time) const {
    return std::chrono::duration<double>(Clock::now() - time).count();
  }

  asio::awaitable<void> work() {
    while (next_ < plan_.size()) {
      const size_t index = next_++;
      asio::steady_timer timer(io_);
      timer.expires_at(begin_ + std::chrono::duration_cast<Clock::duration>(
                                    std::chrono::duration<double>(plan_[index].start_seconds)));
      co_await timer.async_wait(kTuple);
      Outcome& outcome = outcomes_[index];
      const Clock::time_point start = Clock::now();
      outcome.start = seconds_since(begin_);
      const error_code error = co_await send(plan_[index], outcome, start);
      outcome.end = seconds_since(start);
      if (error && !outcome.hung_up && outcome.error.empty()) outcome.error = error.message();
    }
  }

  asio::awaitable<error_code> send(const PlannedRequest& planned, Outcome& outcome,
                                   Clock::time_point start) {
    beast::tcp_stream stream(io_);
    stream.expires_after(kPatience);
    auto [connect_error, endpoint] = co_await stream.async_connect(endpoints_, kTuple);
    if (connect_error) co_return connect_error;
    http::request<http::string_body> request(http::verb::post, "/v1/completions", 11);
    request.set(http::field::host, options_.url.host);
    request.set(http::field::content_type, "application/json");
    request.set(http::field::connection, "close");
    if (!options_.key.empty()) request.set(http::field::authorization, "Bearer " + options_.key);
    request.body() = body_of(planned);
    request.prepare_payload();
    auto [write_error, written] = co_await http::async_write(stream, request, kTuple);
    if (write_error) co_return write_error;
    co_return co_await receive(stream, planned, outcome, start);
  }

  asio::awaitable<error_code> receive(beast::tcp_stream& stream, const PlannedRequest& planned,
                                      Outcome& outcome, Clock::time_point start) {
    beast::flat_buffer buffer;
    http::response_parser<http::string_body> parser;
    parser.body_limit(boost::none);
    StreamReader reader(outcome, start);
    while (!parser.is_done()) {
      auto [error, size] = co_await http::async_read_some(stream, buffer, parser, kTuple);
      if (error) co_return error;
      if (!parser.is_header_done()) continue;
      outcome.status = static_cast<int>(parser.get().result_int());
      if (outcome.status != 200) continue;
      reader.read(parser.get().body());
      outcome.output_tokens = std::max(outcome.output_tokens, reader.events());
      if (planned.hang_up_after > 0 && reader.events() >= planned.hang_up_after) {
        outcome.hung_up = true;
        co_return error_code();
      }
    }
    if (outcome.status != 200) {
      outcome.error = parser.get().body().substr(0, kMaxQuoted);
    } else if (!reader.is_done() && outcome.error.empty()) {
      outcome.error = "the stream ended without [DONE]";
    }
    co_return error_code();
  }

  const LoadOptions& options_;
  const std::vector<PlannedRequest>& plan_;
  asio::io_context io_{1};
  asio::ip::tcp::resolver::results_type endpoints_;
  Clock::time_point begin_;
  size_t next_ = 0;
  std::vector<Outcome> outcomes_;
};

}  // namespace

std::vector<double> gaps_while_full(const std::vector<Outcome>& outcomes, int streams) {
  std::map<double, int> changes;  // of the number that generate, by time
  for (const Outcome& o : outcomes) {
    if (o.gaps.empty()) continue;
    const double first = o.start + o.first_token;
    ++changes[first];
    --changes[std::accumulate(o.gaps.begin(), o.gaps.end(), first)];
  }
  std::map<double, double> full;  // beginning -> end
  int generating = 0;
  for (const auto& [time, change] : changes) {
    if (generating == streams) full.rbegin()->second = time;
    generating += change;
    if (generating == streams) full[time] = time;
  }
  std::vector<double> gaps;
  for (const Outcome& o : outcomes) {
    double begin = o.start + o.first_token;
    for (const double gap : o.gaps) {
      const auto after = full.upper_bound(begin);
      if (after != full.begin() && begin + gap <= std::prev(after)->second) gaps.push_back(gap);
      begin += gap;
    }
  }
  return gaps;
}

std::vector<Outcome> run_plan(const LoadOptions& options, const std::vector<PlannedRequest>& plan) {
  return Load(options, plan).run();
}

}  // namespace tandem::cli::loadtest
