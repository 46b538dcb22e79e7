// A step of T tokens: each layer's fixed part and its experts, on their side; then the output.
#include "engine/prediction.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tandem::engine {
namespace {

// Shares of the measured peaks, and costs in seconds: fitted to the figures of docs/benchmarking.md
// ("Predictions" there has the runs).
struct CpuEfficiency {
  double read;         // of the read bandwidth, weights
  double decode_a256;  // of the int8 peak, steps of few tokens
  double decode_a32;
  double prefill_a256;  // of the int8 peak, a prompt's steps
  double prefill_a32;
  double layer_seconds;  // its parallel loops, ten or so, start and end; more with more threads
};
// AMX's peak is of tiles in registers, far above what loads and rescaling allow.
constexpr CpuEfficiency kAmx = {.read = 0.96,
                                .decode_a256 = 0.13,
                                .decode_a32 = 0.13,
                                .prefill_a256 = 0.06,
                                .prefill_a32 = 0.06,
                                .layer_seconds = 100e-6};
constexpr CpuEfficiency kVector = {.read = 0.80,
                                   .decode_a256 = 0.80,
                                   .decode_a32 = 0.45,
                                   .prefill_a256 = 0.72,
                                   .prefill_a32 = 0.68,
                                   .layer_seconds = 20e-6};
// Float products (router, attention) at a share of the int8 peak: a float is four bytes, and the
// multiply-add of VNNI makes four products of a lane.
constexpr double kFloatShare = 0.15;
constexpr double kAmxFloatShare = 0.02;

constexpr double kGpuRead = 0.52;       // of the copy bandwidth, weights of a step
constexpr double kGpuBf16 = 0.22;       // of the tensor cores' peak, a prompt's steps
constexpr double kGpuAttention = 0.40;  // of the same peak
constexpr double kGpuLayerSeconds = 48e-6;
constexpr double kGpuLayerTokenSeconds = 1e-6;  // of a step that generates
// Activations to the host and back, two flags (docs/hybrid-execution.md).
constexpr double kHandOffSeconds = 15e-6;
// Above so many tokens a step is a prompt's.
constexpr double kPromptTokens = 32.0;

class Clock {
 public:
  Clock(const ModelSizes& model, const Plan& plan, const MachineSpeeds& machine, double spread)
      : model_(model),
        plan_(plan),
        machine_(machine),
        cpu_(machine.isa == "amx" ? kAmx : kVector),
        spread_(spread > 0.0 ? std::min<double>(spread, model.experts) : model.experts),
        hot_share_(hot_share(model, plan, spread_)) {}

  // A step of `tokens`, `outputs` of them with logits, `keys` of the cache before each in the mean.
  Prediction step(double tokens, double outputs, double keys) const {
    Prediction p;
    for (size_t i = 0; i < model_.layers.size(); ++i) add_layer(i, tokens, p);
    const Macs& output = model_.output;
    if (outputs > 0.0) {
      (plan_.on_gpu ? p.gpu : p.cpu) +=
          plan_.on_gpu ? gpu_time(static_cast<double>(model_.output_bytes), output, outputs)
                       : cpu_time(static_cast<double>(model_.output_bytes), output, outputs);
    }
    if (plan_.cpu_layers > 0) p.hand_offs += kHandOffSeconds;
    add_attention(static_cast<double>(model_.attention_macs_per_key) * keys * tokens, p);
    return p;
  }

 private:
  // Of what tokens go to: they are spread over fewer experts than there are, which are the hot
  // ones.
  static double hot_share(const ModelSizes& model, const Plan& plan, double spread) {
    int64_t beside = 0;  // of layers on the GPU
    for (auto i = static_cast<size_t>(plan.cpu_layers); i < model.layers.size(); ++i) {
      if (plan.experts[i] == Device::kCpu) beside += model.layers[i].experts_bytes;
    }
    if (beside == 0) return 0.0;
    const double slots =
        static_cast<double>(plan.gpu.hot) * model.experts / static_cast<double>(beside);
    return std::min(1.0, slots / spread);
  }

  bool on_gpu(size_t layer) const {
    return plan_.on_gpu && layer >= static_cast<size_t>(plan_.cpu_layers);
  }

  void add_attention(double macs, Prediction& p) const {
    const double layers = static_cast<double>(model_.layers.size());
    const double on_cpu = plan_.on_gpu ? plan_.cpu_layers / layers : 1.0;
    if (on_cpu > 0.0) p.cpu += cpu_floats(macs * on_cpu);
    if (on_cpu < 1.0) p.gpu += 2.0 * macs * (1.0 - on_cpu) / (machine_.gpu_bf16 * kGpuAttention);
  }

  void add_layer(size_t i, double tokens, Prediction& p) const {
    const LayerSizes& layer = model_.layers[i];
    const double fixed = static_cast<double>(layer.fixed_bytes);
    // However alike tokens are, a prompt has some for every expert.
    const double spread = tokens > kPromptTokens ? model_.experts : spread_;
    const double distinct =
        model_.experts > 0 ? expected_experts(spread, model_.used, tokens) / model_.experts : 0.0;
    const double experts = static_cast<double>(layer.experts_bytes) * distinct;
    if (!on_gpu(i)) {
      p.cpu += cpu_.layer_seconds + cpu_time(fixed, layer.fixed, tokens) +
               cpu_time(experts, layer.experts, tokens);
      return;
    }
    const double before = kGpuLayerSeconds + gpu_time(fixed, layer.fixed, tokens);
    p.gpu += before;
    if (tokens <= kPromptTokens) p.gpu += kGpuLayerTokenSeconds * tokens;
    if (layer.experts_bytes == 0) return;
    const double there = gpu_time(experts, layer.experts, tokens);
    if (plan_.experts[i] == Device::kCuda) {
      p.gpu += there;
      return;
    }
    const double cpu = (1.0 - hot_share_) * cpu_time(experts, layer.experts, tokens);
    const double hot = hot_share_ * there;
    const double wait = copy_wait(i, tokens, before + there);
    const bool streams = plan_.stream_from > 0 ? tokens >= plan_.stream_from
                                               : there + wait < cpu + hot + kHandOffSeconds;
    if (streams && std::isfinite(wait)) {
      p.gpu += there;
      p.copies += wait;
    } else {
      p.cpu += cpu;
      p.gpu += hot;
      p.hand_offs += kHandOffSeconds;
    }
  }

  // Of a layer's copy, what its computing does not hide; without end where none is made.
  double copy_wait(size_t i, double tokens, double computing) const {
    if (i >= plan_.streamed.size() || !plan_.streamed[i] || tokens <= kPromptTokens ||
        machine_.gpu_upload == 0.0) {
      return std::numeric_limits<double>::infinity();
    }
    const double copy = static_cast<double>(model_.layers[i].experts_bytes) / machine_.gpu_upload;
    return std::max(copy - computing, 0.0);
  }

  double cpu_floats(double macs) const {
    const double share = machine_.isa == "amx" ? kAmxFloatShare : kFloatShare;
    return 2.0 * macs / (machine_.host_int8 * share);
  }

  double cpu_time(double bytes, const Macs& macs, double tokens) const {
    const bool prompt = tokens > kPromptTokens;
    const double a256 = prompt ? cpu_.prefill_a256 : cpu_.decode_a256;
    const double a32 = prompt ? cpu_.prefill_a32 : cpu_.decode_a32;
    const double int8 = machine_.host_int8 / 2.0;  // multiply-adds
    return bytes / (machine_.host_read * cpu_.read) +
           tokens * (macs.a256 / (int8 * a256) + 2.0 * macs.a32 / (int8 * a32)) +
           cpu_floats(tokens * macs.floats);
  }

  double gpu_time(double bytes, const Macs& macs, double tokens) const {
    const double products = tokens > kPromptTokens
                                ? 2.0 * tokens * macs.total() / (machine_.gpu_bf16 * kGpuBf16)
                                : 0.0;  // hidden behind reading
    return bytes / (machine_.gpu_memory * kGpuRead) + products;
  }

  const ModelSizes& model_;
  const Plan& plan_;
  const MachineSpeeds& machine_;
  const CpuEfficiency& cpu_;
  double spread_;
  double hot_share_;
};

Prediction& operator+=(Prediction& sum, const Prediction& part) {
  sum.cpu += part.cpu;
  sum.gpu += part.gpu;
  sum.hand_offs += part.hand_offs;
  sum.copies += part.copies;
  return sum;
}

}  // namespace

double expected_experts(double spread, int used, double tokens) {
  if (spread <= used) return spread;
  return spread * (1.0 - std::pow(1.0 - used / spread, tokens));
}

Prediction predict(const ModelSizes& model, const Plan& plan, const MachineSpeeds& machine,
                   const Workload& work) {
  const Clock clock(model, plan, machine, work.spread);
  Prediction sum;
  double tokens = 0.0;
  if (work.prompt == 0) {
    tokens = work.streams;
    sum = clock.step(tokens, tokens, work.depth);
  } else {
    tokens = work.prompt;
    for (int done = 0; done < work.prompt; done += work.chunk) {
      const double count = std::min(work.chunk, work.prompt - done);
      const bool last = done + work.chunk >= work.prompt;
      sum += clock.step(count, last ? 1.0 : 0.0, done + count / 2.0);
    }
  }
  sum.tokens_per_second = tokens / (sum.cpu + sum.gpu + sum.hand_offs + sum.copies);
  return sum;
}

}  // namespace tandem::engine
