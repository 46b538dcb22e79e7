// The instruments, on prometheus-cpp's registry.
#include "server/metrics.h"

#include <mutex>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include "server/process_stats.h"

namespace tandem::server {
namespace {

using Labels = prometheus::Labels;
using Buckets = prometheus::Histogram::BucketBoundaries;

// vLLM's bounds; between tokens with some below its first one.
const Buckets kTokenBuckets = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1,
                               0.15,  0.2,    0.3,   0.4,  0.5,   0.75, 1.0,   2.5,
                               5.0,   7.5,    10.0,  20.0, 40.0,  80.0};
const Buckets kFirstTokenBuckets = {0.001, 0.005, 0.01, 0.02,  0.04,  0.06,  0.08, 0.1,
                                    0.25,  0.5,   0.75, 1.0,   2.5,   5.0,   7.5,  10.0,
                                    20.0,  40.0,  80.0, 160.0, 640.0, 2560.0};
const Buckets kRequestBuckets = {0.3,  0.5,   0.8,   1.0,   1.5,   2.0,    2.5,
                                 5.0,  10.0,  15.0,  20.0,  30.0,  40.0,   50.0,
                                 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
const Buckets kStepBuckets(scheduler::StepSizes::kBounds.begin(),
                           scheduler::StepSizes::kBounds.end());

const Buckets kLengthBuckets = {1,   2,    5,    10,   20,    50,    100,   200,
                                500, 1000, 2000, 5000, 10000, 20000, 50000, 100000};

}  // namespace

struct Metrics::Instruments {
  explicit Instruments(const std::string& model_name) : labels{{"model_name", model_name}} {}

  prometheus::Gauge& gauge(const char* name, const char* help, const Labels& more = {}) {
    Labels all = labels;
    all.insert(more.begin(), more.end());
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(all);
  }
  prometheus::Counter& counter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add(labels);
  }
  prometheus::Histogram& histogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add(labels,
                                                                                     buckets);
  }

  const Labels labels;
  prometheus::Registry registry;

  prometheus::Gauge& running = gauge("vllm:num_requests_running", "Requests in the batch");
  prometheus::Gauge& waiting = gauge("vllm:num_requests_waiting", "Requests in the queue");
  prometheus::Gauge& cache_usage =
      gauge("vllm:kv_cache_usage_perc", "Share of the key/value pages in use, 0 to 1");
  prometheus::Gauge& cache_usage_older =
      gauge("vllm:gpu_cache_usage_perc", "Older name of vllm:kv_cache_usage_perc");
  prometheus::Gauge& pages_total = gauge("tandem:kv_pages_total", "Key/value pages");
  prometheus::Gauge& pages_free = gauge("tandem:kv_pages_free", "Key/value pages not in use");

  // Capacity 0: there is no such tier.
  struct TierGauges {
    prometheus::Gauge& capacity;
    prometheus::Gauge& used;
  };
  TierGauges tier(const char* name) {
    const Labels more = {{"tier", name}};
    return {gauge("tandem:kv_tier_pages", "Pages that a tier of the cache holds at most", more),
            gauge("tandem:kv_tier_pages_used", "Pages in use in a tier of the cache", more)};
  }
  TierGauges device = tier("device"), host = tier("host"), disk = tier("disk");

  prometheus::Counter& steps = counter("tandem:steps_total", "Steps of the engine");
  prometheus::Counter& step_seconds = counter("tandem:step_seconds_total", "Time in steps");
  prometheus::Counter& step_prefill =
      counter("tandem:step_prefill_tokens_total", "Tokens of prompts in steps");
  prometheus::Counter& step_decode =
      counter("tandem:step_decode_tokens_total", "Tokens of sequences that generate in steps");
  prometheus::Counter& prompt_tokens =
      counter("vllm:prompt_tokens_total", "Prompt tokens computed");
  prometheus::Counter& generated_tokens =
      counter("vllm:generation_tokens_total", "Tokens generated");
  prometheus::Gauge& hot_slots =
      gauge("tandem:hot_expert_slots", "Routed experts of host memory with copies on the GPU");
  prometheus::Counter& hot_pairs = counter(
      "tandem:hot_expert_pairs_total", "(token, expert) pairs of layers whose experts may be hot");
  prometheus::Counter& hot_hits =
      counter("tandem:hot_expert_hits_total", "Those of them that the GPU computed");
  prometheus::Counter& hot_switches =
      counter("tandem:hot_expert_switches_total", "Experts that took another's slot");
  prometheus::Counter& preemptions =
      counter("vllm:num_preemptions_total", "Requests that lost their pages to older ones");
  prometheus::Counter& cache_queries =
      counter("vllm:prefix_cache_queries_total", "Prompt tokens of answered requests");
  prometheus::Counter& cache_hits =
      counter("vllm:prefix_cache_hits_total", "Those of them that were in the cache");
  prometheus::Counter& cancelled =
      counter("tandem:requests_cancelled_total", "Requests whose client hung up");
  prometheus::Counter& refused =
      counter("tandem:requests_refused_total", "Requests answered with an error");
  prometheus::Counter& timed_out =
      counter("tandem:requests_timed_out_total", "Requests that did not end within their time");
  prometheus::Family<prometheus::Counter>& finished = prometheus::BuildCounter()
                                                          .Name("vllm:request_success_total")
                                                          .Help("Answers by their end")
                                                          .Register(registry);

  prometheus::Histogram& first_token =
      histogram("vllm:time_to_first_token_seconds", "From the request to its first token",
                kFirstTokenBuckets);
  prometheus::Histogram& next_token = histogram("vllm:inter_token_latency_seconds",
                                                "Between two tokens of an answer", kTokenBuckets);
  prometheus::Histogram& next_token_older =
      histogram("vllm:time_per_output_token_seconds",
                "Older name of vllm:inter_token_latency_seconds", kTokenBuckets);
  prometheus::Histogram& mean_token =
      histogram("vllm:request_time_per_output_token_seconds",
                "Mean time between the tokens of an answer", kTokenBuckets);
  prometheus::Histogram& prompt_length =
      histogram("vllm:request_prompt_tokens", "Prompt tokens of a request", kLengthBuckets);
  prometheus::Histogram& answer_length =
      histogram("vllm:request_generation_tokens", "Generated tokens of a request", kLengthBuckets);
  prometheus::Histogram& request = histogram("vllm:e2e_request_latency_seconds",
                                             "From the request to its last token", kRequestBuckets);

  prometheus::Histogram& queue_time =
      histogram("vllm:request_queue_time_seconds", "From submission to admission", kRequestBuckets);
  prometheus::Histogram& prefill_time = histogram(
      "vllm:request_prefill_time_seconds", "From admission to the first token", kRequestBuckets);
  prometheus::Histogram& decode_time = histogram(
      "vllm:request_decode_time_seconds", "From the first token to the last", kRequestBuckets);
  prometheus::Histogram& inference_time = histogram(
      "vllm:request_inference_time_seconds", "From admission to the last token", kRequestBuckets);
  prometheus::Histogram& step_tokens =
      histogram("vllm:iteration_tokens_total", "Tokens of a step of the engine", kStepBuckets);

  // Brings counters to the scheduler's totals, unless those are older than what another caller had.
  void raise_totals(const scheduler::Stats& stats) {
    if (stats.steps < seen.steps) return;
    const auto raise = [](prometheus::Counter& counter, auto total) {
      counter.Increment(static_cast<double>(total) - counter.Value());
    };
    raise(steps, stats.steps);
    raise(step_seconds, stats.step_seconds);
    raise(step_prefill, stats.step_prefill_tokens);
    raise(step_decode, stats.step_decode_tokens);
    raise(prompt_tokens, stats.prompt_tokens);
    raise(generated_tokens, stats.generated_tokens);
    raise(preemptions, stats.preemptions);
    raise(timed_out, stats.timed_out);
    hot_slots.Set(stats.hot.used_slots);
    raise(hot_pairs, stats.hot.pairs);
    raise(hot_hits, stats.hot.hits);
    raise(hot_switches, stats.hot.switches);
    std::vector<double> more;
    for (size_t i = 0; i < stats.step_sizes.steps.size(); ++i) {
      more.push_back(static_cast<double>(stats.step_sizes.steps[i] - seen.step_sizes.steps[i]));
    }
    step_tokens.ObserveMultiple(more, static_cast<double>(tokens_of(stats) - tokens_of(seen)));
    seen = stats;
  }
  static uint64_t tokens_of(const scheduler::Stats& stats) {
    return stats.step_prefill_tokens + stats.step_decode_tokens;
  }
  scheduler::Stats seen;

  // Its labels, of which the page's size is known with the first statistics, are the message.
  void set_cache_config(const scheduler::Stats& stats) {
    if (has_cache_config || stats.pages_total == 0) return;
    has_cache_config = true;
    gauge("vllm:cache_config_info", "Size of the key/value cache, in labels",
          {{"block_size", std::to_string(stats.page_size)},
           {"num_gpu_blocks", std::to_string(stats.pages_total)}})
        .Set(1);
  }
  bool has_cache_config = false;

  std::mutex text_mutex;  // text() moves counters to the scheduler's totals
};

Metrics::Metrics(const std::string& model_name)
    : instruments_(std::make_unique<Instruments>(model_name)) {
  // Series that exist before their first event can be told from absent ones.
  for (const char* reason : {"stop", "length", "tool_calls", "abort", "error"}) {
    Labels labels = instruments_->labels;
    labels["finished_reason"] = reason;
    instruments_->finished.Add(labels);
  }
}

Metrics::~Metrics() = default;

void Metrics::saw_first_token(double seconds) { instruments_->first_token.Observe(seconds); }
void Metrics::saw_next_token(double seconds) {
  instruments_->next_token.Observe(seconds);
  instruments_->next_token_older.Observe(seconds);
}
void Metrics::saw_disconnect() { instruments_->cancelled.Increment(); }
void Metrics::saw_refusal() { instruments_->refused.Increment(); }

void Metrics::saw_finish(const std::string& reason) {
  Labels labels = instruments_->labels;
  labels["finished_reason"] = reason;
  instruments_->finished.Add(labels).Increment();
}

void Metrics::saw_times(const scheduler::Times& times) {
  instruments_->queue_time.Observe(times.queued);
  instruments_->prefill_time.Observe(times.prefill);
  instruments_->decode_time.Observe(times.decode);
  instruments_->inference_time.Observe(times.prefill + times.decode);
}

void Metrics::saw_answer(double seconds, double first_token_seconds, const Usage& usage) {
  instruments_->request.Observe(seconds);
  instruments_->prompt_length.Observe(static_cast<double>(usage.prompt_tokens));
  instruments_->answer_length.Observe(static_cast<double>(usage.completion_tokens));
  if (usage.completion_tokens > 1) {
    instruments_->mean_token.Observe((seconds - first_token_seconds) /
                                     static_cast<double>(usage.completion_tokens - 1));
  }
  instruments_->cache_queries.Increment(static_cast<double>(usage.prompt_tokens));
  instruments_->cache_hits.Increment(static_cast<double>(usage.cached_tokens));
}

std::string Metrics::text(const scheduler::Stats& stats) {
  Instruments& m = *instruments_;
  const std::lock_guard lock(m.text_mutex);
  m.running.Set(stats.running);
  m.waiting.Set(stats.waiting);
  m.pages_total.Set(stats.pages_total);
  m.pages_free.Set(stats.pages_free);
  const int used = stats.pages_total - stats.pages_free;
  const double share = stats.pages_total > 0 ? static_cast<double>(used) / stats.pages_total : 0.0;
  m.cache_usage.Set(share);
  m.cache_usage_older.Set(share);
  const auto set_tier = [](Instruments::TierGauges& tier, int64_t capacity, int64_t in_use) {
    tier.capacity.Set(static_cast<double>(capacity));
    tier.used.Set(static_cast<double>(in_use));
  };
  set_tier(m.device, stats.pages_total, used);
  set_tier(m.host, stats.tiers.host.pages_total, stats.tiers.host.pages_used);
  set_tier(m.disk, stats.tiers.disk.pages_total, stats.tiers.disk.pages_used);
  m.set_cache_config(stats);
  m.raise_totals(stats);
  return prometheus::TextSerializer().Serialize(m.registry.Collect()) + process_metrics();
}

}  // namespace tandem::server
