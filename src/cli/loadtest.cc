// `tandem loadtest`: a mix of requests against a running server, and what came of it.
#include <algorithm>
#include <cstdio>
#include <map>
#include <numeric>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <fmt/core.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/flags.h"
#include "cli/loadtest/client.h"
#include "cli/verbs.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;
using loadtest::Outcome;

struct LoadtestOptions {
  std::string url = "http://localhost:10002";
  std::string mix = "constant";
  std::string output = "table";
  loadtest::PlanOptions plan;
  loadtest::LoadOptions load;
};

// Where the vocabulary's size is not told, ids that every one of them has.
constexpr int kSafeVocabulary = 1000;

int read_vocab_size(const loadtest::LoadOptions& load) {
  const HttpReply reply = http_get(load.url, "/v1/models", load.key);
  if (reply.status != 200) throw Error("{}/v1/models: status {}", load.url.text(), reply.status);
  const Result<json::value> body = parse_json(reply.body);
  if (!body) return kSafeVocabulary;
  boost::system::error_code error;
  const json::value* size = body->find_pointer("/data/0/meta/n_vocab", error);
  return size != nullptr && size->is_int64() ? static_cast<int>(size->get_int64())
                                             : kSafeVocabulary;
}

struct Summary {
  double seconds = 0.0;
  int finished = 0, hung_up = 0, failed = 0;
  int64_t prompt_tokens = 0, output_tokens = 0;
  std::vector<double> first_token, gaps, total;  // seconds, in order
  std::vector<double> full_gaps;                 // of these, while all places generated
  std::map<std::string, int> errors;
};

Summary summarise(const std::vector<Outcome>& outcomes, int concurrency) {
  Summary s;
  s.full_gaps = loadtest::gaps_while_full(outcomes, concurrency);
  for (const Outcome& o : outcomes) {
    s.seconds = std::max(s.seconds, o.start + o.end);
    s.output_tokens += o.output_tokens;
    s.prompt_tokens += o.prompt_tokens;
    if (o.first_token > 0.0) s.first_token.push_back(o.first_token);
    s.gaps.insert(s.gaps.end(), o.gaps.begin(), o.gaps.end());
    if (!o.error.empty()) {
      ++s.failed;
      ++s.errors[o.status == 200 || o.status == 0 ? o.error : std::to_string(o.status)];
    } else if (o.hung_up) {
      ++s.hung_up;
    } else {
      ++s.finished;
      s.total.push_back(o.end);
    }
  }
  for (std::vector<double>* list : {&s.first_token, &s.gaps, &s.total, &s.full_gaps}) {
    std::sort(list->begin(), list->end());
  }
  return s;
}

double quantile(const std::vector<double>& sorted, double share) {
  if (sorted.empty()) return 0.0;
  const auto last = static_cast<double>(sorted.size() - 1);
  return sorted[static_cast<size_t>(share * last + 0.5)];
}

void print_table(const Summary& s) {
  std::printf("requests     %d finished, %d hung up, %d failed in %.2f s\n", s.finished, s.hung_up,
              s.failed, s.seconds);
  std::printf("throughput   %.2f requests/s, %.1f prompt tokens/s, %.1f output tokens/s\n",
              s.finished / s.seconds, static_cast<double>(s.prompt_tokens) / s.seconds,
              static_cast<double>(s.output_tokens) / s.seconds);
  std::printf("%-24s %9s %9s %9s %9s\n", "milliseconds", "p50", "p90", "p99", "max");
  const auto row = [](const char* name, const std::vector<double>& list) {
    std::printf("%-24s %9.2f %9.2f %9.2f %9.2f\n", name, 1e3 * quantile(list, 0.5),
                1e3 * quantile(list, 0.9), 1e3 * quantile(list, 0.99), 1e3 * quantile(list, 1.0));
  };
  row("to the first token", s.first_token);
  row("between tokens", s.gaps);
  row("the same, all generating", s.full_gaps);
  row("whole request", s.total);
  for (const auto& [what, count] : s.errors) std::printf("error x %d: %s\n", count, what.c_str());
}

json::object quantiles(const std::vector<double>& list) {
  const double sum = std::accumulate(list.begin(), list.end(), 0.0);
  return {{"count", list.size()},
          {"mean", list.empty() ? 0.0 : sum / static_cast<double>(list.size())},
          {"p50", quantile(list, 0.5)},
          {"p90", quantile(list, 0.9)},
          {"p99", quantile(list, 0.99)},
          {"max", quantile(list, 1.0)}};
}

void print_json(const Summary& s, const LoadtestOptions& options) {
  json::object errors;
  for (const auto& [what, count] : s.errors) errors[what] = count;
  std::printf(
      "%s\n",
      to_string(json::object{
                    {"mix", options.mix},
                    {"concurrency", options.load.concurrency},
                    {"rate", options.plan.rate},
                    {"prompt_tokens", options.plan.prompt_tokens},
                    {"output_tokens", options.plan.output_tokens},
                    {"seed", options.plan.seed},
                    {"finished", s.finished},
                    {"hung_up", s.hung_up},
                    {"failed", s.failed},
                    {"seconds", s.seconds},
                    {"requests_per_second", s.finished / s.seconds},
                    {"prompt_tokens_per_second", static_cast<double>(s.prompt_tokens) / s.seconds},
                    {"output_tokens_per_second", static_cast<double>(s.output_tokens) / s.seconds},
                    {"first_token_seconds", quantiles(s.first_token)},
                    {"inter_token_seconds", quantiles(s.gaps)},
                    {"full_inter_token_seconds", quantiles(s.full_gaps)},
                    {"request_seconds", quantiles(s.total)},
                    {"errors", std::move(errors)}})
          .c_str());
}

int run_loadtest(LoadtestOptions options) {
  options.plan.mix = loadtest::parse_mix(options.mix);
  options.load.url = parse_url(options.url);
  options.plan.vocab_size = read_vocab_size(options.load);
  const auto plan = make_plan(options.plan);
  const Summary summary = summarise(run_plan(options.load, plan), options.load.concurrency);
  if (options.output == "json") {
    print_json(summary, options);
  } else {
    print_table(summary);
  }
  return summary.failed == 0 ? 0 : 1;
}

}  // namespace

void add_loadtest(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<LoadtestOptions>();
  CLI::App* verb = app.add_subcommand("loadtest", "a mix of requests against a running server");
  const auto add = [&](const std::string& name, auto& variable, const std::string& help) {
    return verb->add_option(name, variable, help)->capture_default_str();
  };
  add("--url", options->url, "the server's address");
  add(flag("api_key"), options->load.key, "one of its keys");
  add("--mix", options->mix, "constant, burst, long, aborts or shared (docs/benchmarking.md)");
  add("--requests", options->plan.requests, "requests in all")->check(CLI::PositiveNumber);
  add("--rate", options->plan.rate, "requests a second; 0: the next when one has ended")
      ->check(CLI::NonNegativeNumber);
  add("--concurrency", options->load.concurrency, "requests at once at most")
      ->check(CLI::Range(1, 4096));
  add("-p,--prompt", options->plan.prompt_tokens, "tokens of a prompt")
      ->check(CLI::Range(1, 1 << 20));
  add("-n,--generate", options->plan.output_tokens, "tokens of an answer")
      ->check(CLI::Range(1, 1 << 20));
  add("--seed", options->plan.seed, "of the prompts and of who hangs up when");
  add("-o,--output", options->output, "table or json")->check(CLI::IsMember({"table", "json"}));
  verb->callback([options, exit_code] { *exit_code = run_loadtest(*options); });
}

}  // namespace tandem::cli
