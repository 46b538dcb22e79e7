// The lines of the picture, top to bottom.
#include "cli/top/frame.h"

#include <algorithm>

#include <boost/json.hpp>
#include <fmt/core.h>

#include "base/json.h"

namespace tandem::cli::top {
namespace {

namespace json = boost::json;

constexpr int kBarWidth = 30;

class Painter {
 public:
  explicit Painter(const Frame& frame)
      : frame_(frame), now_(frame.now.metrics), before_(frame.before.metrics) {
    seconds_ = std::max(frame.now.time - frame.before.time, 1e-3);
  }

  std::vector<std::string> paint() {
    header();
    requests();
    speed();
    latency();
    steps();
    cache();
    process();
    recent_steps();
    for (std::string& line : lines_) {
      if (static_cast<int>(line.size()) > frame_.width) line.resize(frame_.width);
    }
    if (static_cast<int>(lines_.size()) > frame_.height) lines_.resize(frame_.height);
    return std::move(lines_);
  }

 private:
  template <typename... Args>
  void line(fmt::format_string<Args...> format, Args&&... args) {
    lines_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  double gain(const std::string& name) const { return now_.sum(name) - before_.sum(name); }
  double rate(const std::string& name) const { return gain(name) / seconds_; }
  // a / b, where there may be nothing
  static double share(double a, double b) { return b > 0.0 ? a / b : 0.0; }

  void header() {
    const auto names = now_.values("vllm:num_requests_running", "model_name");
    line("tandem top  {}  {}  {}", frame_.url, names.empty() ? "no model yet" : names[0],
         frame_.state);
    line("");
  }

  void requests() {
    std::string ends;
    for (const std::string& reason : now_.values("vllm:request_success_total", "finished_reason")) {
      const double count = now_.sum("vllm:request_success_total", {{"finished_reason", reason}});
      if (count > 0) ends += fmt::format("{}{} {:.0f}", ends.empty() ? "" : ", ", reason, count);
    }
    line("requests   running {:.0f}   waiting {:.0f}   preempted {:.0f}   refused {:.0f}",
         now_.sum("vllm:num_requests_running"), now_.sum("vllm:num_requests_waiting"),
         now_.sum("vllm:num_preemptions_total"), now_.sum("tandem:requests_refused_total"));
    line("ended      {}", ends.empty() ? "none" : ends);
  }

  void speed() {
    line("tokens/s   prompt {:.1f}   generated {:.1f}", rate("vllm:prompt_tokens_total"),
         rate("vllm:generation_tokens_total"));
  }

  std::string quantiles(const std::string& name, double scale) const {
    const double half = now_.quantile(name, 0.5, before_);
    if (half < 0.0) return "-";
    return fmt::format("{:.3g} / {:.3g}", half * scale, now_.quantile(name, 0.95, before_) * scale);
  }

  void latency() {
    line("latency    first token {} s, between tokens {} ms (p50 / p95)",
         quantiles("vllm:time_to_first_token_seconds", 1.0),
         quantiles("vllm:inter_token_latency_seconds", 1e3));
  }

  void steps() {
    const double count = gain("tandem:steps_total");
    line(
        "steps      {:.1f}/s of {:.2f} ms, busy {:.0f} %: {:.1f} prompt + {:.1f} generating tokens",
        count / seconds_, 1e3 * share(gain("tandem:step_seconds_total"), count),
        100.0 * std::min(gain("tandem:step_seconds_total") / seconds_, 1.0),
        share(gain("tandem:step_prefill_tokens_total"), count),
        share(gain("tandem:step_decode_tokens_total"), count));
  }

  void cache() {
    line("");
    for (const char* tier : {"device", "host", "disk"}) {
      const MetricsText::Labels label = {{"tier", tier}};
      const double pages = now_.sum("tandem:kv_tier_pages", label);
      if (pages <= 0.0) {
        line("kv {:7} off", tier);
        continue;
      }
      const double used = now_.sum("tandem:kv_tier_pages_used", label);
      const int filled = static_cast<int>(kBarWidth * share(used, pages) + 0.5);
      line("kv {:7} [{:{}}] {:.0f} of {:.0f} pages, {:.0f} %", tier, std::string(filled, '#'),
           kBarWidth, used, pages, 100.0 * share(used, pages));
    }
    line("prefix     {:.0f} % of prompt tokens were in the cache ({:.0f} % since the start)",
         100.0 *
             share(gain("vllm:prefix_cache_hits_total"), gain("vllm:prefix_cache_queries_total")),
         100.0 * share(now_.sum("vllm:prefix_cache_hits_total"),
                       now_.sum("vllm:prefix_cache_queries_total")));
  }

  void process() {
    line("process    {:.2f} GiB   cpu {:.0f} %   {:.0f} file descriptors",
         now_.sum("process_resident_memory_bytes") / (1 << 30),
         100.0 * rate("process_cpu_seconds_total"), now_.sum("process_open_fds"));
  }

  // As many as fit, the newest at the bottom: P for a share of prompt tokens, g for generating.
  void recent_steps() {
    line("");
    if (!frame_.shows_steps) {
      line("(start the server with --debug_steps to see its steps one by one)");
      return;
    }
    line("    step       ms  tokens: P prompt, g generating");
    const size_t room =
        static_cast<size_t>(std::max(frame_.height - static_cast<int>(lines_.size()), 0));
    const size_t count = std::min(room, frame_.steps.size());
    int32_t most = 1;
    const auto first = frame_.steps.end() - static_cast<std::ptrdiff_t>(count);
    for (auto s = first; s != frame_.steps.end(); ++s) {
      most = std::max(most, s->prefill_tokens + s->decode_tokens);
    }
    for (auto s = first; s != frame_.steps.end(); ++s) draw_step(*s, most);
  }

  void draw_step(const scheduler::StepRecord& step, int32_t most) {
    // Rounded up: what took part is seen.
    const auto cells = [&](int32_t tokens) { return (tokens * kBarWidth + most - 1) / most; };
    const int decode = cells(step.decode_tokens);
    const int prefill =
        std::min(cells(step.prefill_tokens), kBarWidth - std::min(decode, kBarWidth - 1));
    line("{:8} {:8.2f}  {:{}}  {}+{} of {}, {} wait", step.number,
         static_cast<double>(step.duration_us) * 1e-3,
         std::string(static_cast<size_t>(prefill), 'P') +
             std::string(static_cast<size_t>(decode), 'g'),
         kBarWidth + 1, step.prefill_tokens, step.decode_tokens, step.sequences, step.waiting);
  }

  const Frame& frame_;
  const MetricsText& now_;
  const MetricsText& before_;
  double seconds_ = 1.0;
  std::vector<std::string> lines_;
};

int64_t number(const json::object& object, const char* name) {
  const json::value* value = object.if_contains(name);
  return value != nullptr && value->is_number() ? value->to_number<int64_t>() : 0;
}

}  // namespace

std::vector<std::string> draw(const Frame& frame) { return Painter(frame).paint(); }

std::vector<scheduler::StepRecord> read_steps(const std::string& trace) {
  std::vector<scheduler::StepRecord> steps;
  const Result<json::value> parsed = parse_json(trace);
  if (!parsed || !parsed->is_object()) return steps;
  const json::value* events = parsed->get_object().if_contains("traceEvents");
  if (events == nullptr || !events->is_array()) return steps;
  for (const json::value& event : events->get_array()) {
    const json::object* slice = event.if_object();
    const json::value* args = slice == nullptr ? nullptr : slice->if_contains("args");
    if (args == nullptr || !args->is_object() || !slice->contains("dur")) continue;
    const json::object& a = args->get_object();
    steps.push_back({.number = static_cast<uint64_t>(number(a, "step")),
                     .begin_us = number(*slice, "ts"),
                     .duration_us = number(*slice, "dur"),
                     .prefill_tokens = static_cast<int32_t>(number(a, "prefill_tokens")),
                     .decode_tokens = static_cast<int32_t>(number(a, "decode_tokens")),
                     .sequences = static_cast<int32_t>(number(a, "sequences")),
                     .running = static_cast<int32_t>(number(a, "running")),
                     .waiting = static_cast<int32_t>(number(a, "waiting")),
                     .pages_free = static_cast<int32_t>(number(a, "pages_free"))});
  }
  return steps;
}

}  // namespace tandem::cli::top
