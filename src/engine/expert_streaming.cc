// Both ways are timed by running them: the feed-forward half of a layer, with its hand-off or its
// copy, on embeddings of random tokens.
#include "engine/expert_streaming.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <tuple>

#include "base/error.h"
#include "base/log.h"
#include "models/placement.h"
#include "ops/weight_memory.h"

namespace tandem::engine {
namespace {

// With 32 tokens most experts are read on the CPU; 512 are timed in a tenth of a second even with
// the largest models' layers.
constexpr int64_t kFew = 32, kMany = 512;
constexpr int kRuns = 3;  // of which the quickest counts; the first loads kernels

double line(int64_t x0, double y0, int64_t x1, double y1, int64_t x) {
  return y0 + (y1 - y0) * static_cast<double>(x - x0) / static_cast<double>(x1 - x0);
}

// Layers of one kind take the same time.
std::tuple<DType, DType, int64_t> kind_of(const models::Decoder& decoder, int layer) {
  const auto& experts = decoder.routed_experts(layer);
  return {experts.gate.dtype, experts.down.dtype, experts.gate.rows() * experts.gate.cols()};
}

}  // namespace

int64_t largest_expert_layer_bytes(const gguf::File& file) {
  std::map<int, int64_t> layers;
  int64_t most = 0;
  for (const gguf::TensorInfo& info : file.tensors()) {
    if (!models::is_routed_experts(info.name)) continue;
    const int64_t bytes = ops::WeightMemory::bytes_of(info.tensor.dtype, info.tensor.shape, 1);
    int64_t& layer = layers[models::layer_of(info.name)];
    layer += static_cast<int64_t>(ops::Workspace::aligned(static_cast<size_t>(bytes)));
    most = std::max(most, layer);
  }
  return most;
}

int64_t quicker_from(const StreamTimes& t, int64_t most) {
  const auto gain = [&](int64_t tokens) {
    return line(t.few, t.cpu.few - t.streamed.few, t.many, t.cpu.many - t.streamed.many, tokens);
  };
  if (t.few > most || t.many <= t.few) return 0;
  if (gain(t.few) > 0.0) return t.few;
  if (gain(most) <= 0.0) return 0;
  // The gain is a rising line through zero between the two.
  const double slope = (gain(most) - gain(t.few)) / static_cast<double>(most - t.few);
  const auto steps = static_cast<int64_t>(std::floor(-gain(t.few) / slope)) + 1;
  return std::min(t.few + steps, most);
}

ExpertStreaming::ExpertStreaming(ops::Gpu& gpu, models::Decoder& decoder, const Plan& plan,
                                 int64_t layer_bytes)
    : gpu_(gpu), decoder_(decoder), from_(plan.stream_from), layer_bytes_(layer_bytes) {
  for (int i = 0; i < static_cast<int>(plan.streamed.size()); ++i) {
    if (!plan.streamed[static_cast<size_t>(i)] || !decoder.can_stream(i)) continue;
    layers_.push_back(i);
    decoder.stream_from(i, std::max<int64_t>(from_, 1));
  }
}

void ExpertStreaming::begin(ops::Context& ctx, const EngineInfo& info,
                            const std::function<bool(int layer)>& all_hot) {
  if (from_ == 0) leave_out(all_hot);
  if (layers_.empty()) return;
  try {
    take_memory();
  } catch (const Error& error) {
    give_up();
    if (from_ > 0) throw Error("--stream_experts {}: {}", from_, error.what());
    log::warn("prompts' experts stay on the CPU: {}", error.what());
    return;
  }
  if (from_ == 0) choose(ctx, info);
}

void ExpertStreaming::leave_out(const std::function<bool(int layer)>& all_hot) {
  const auto left_out = std::erase_if(layers_, [&](int layer) {
    if (!all_hot(layer)) return false;
    decoder_.stream_from(layer, moe::kNeverStreamed);
    return true;
  });
  if (left_out == 0) return;
  log::info("prompts copy no experts of {} layers: the GPU has them all", left_out);
}

void ExpertStreaming::take_memory() {
  gpu_.prepare_streaming(layer_bytes_);
  locked_ = gpu_.lock(decoder_.weight_memory());
}

void ExpertStreaming::give_up() {
  for (const int layer : layers_) decoder_.stream_from(layer, moe::kNeverStreamed);
  locked_.reset();
  gpu_.prepare_streaming(0);
}

void ExpertStreaming::choose(ops::Context& ctx, const EngineInfo& info) {
  std::map<std::tuple<DType, DType, int64_t>, int64_t> known;
  bool any = false;
  for (const int layer : layers_) {
    const auto kind = kind_of(decoder_, layer);
    if (!known.contains(kind)) {
      const StreamTimes t = time(ctx, layer, info);
      const int64_t from = quicker_from(t, info.max_step_tokens);
      log::info(
          "experts of layer {} and its kind: with {} / {} tokens {:.2f} / {:.2f} ms on the CPU, "
          "{:.2f} / {:.2f} ms copied to the GPU{}",
          layer, t.few, t.many, t.cpu.few * 1e3, t.cpu.many * 1e3, t.streamed.few * 1e3,
          t.streamed.many * 1e3,
          from == 0 ? std::string(": never copied")
                    : fmt::format(": copied in steps of {} and more", from));
      known[kind] = from == 0 ? moe::kNeverStreamed : from;
    }
    decoder_.stream_from(layer, known[kind]);
    any |= known[kind] != moe::kNeverStreamed;
  }
  if (!any) give_up();
}

StreamTimes ExpertStreaming::time(ops::Context& ctx, int layer, const EngineInfo& info) {
  const int64_t room = std::min<int64_t>(
      {info.max_step_tokens, info.context_length, int64_t{info.num_pages} * info.page_size});
  StreamTimes t = {
      .few = std::min(kFew, room), .many = std::min(kMany, room), .cpu = {}, .streamed = {}};
  for (const bool streamed : {false, true}) {
    decoder_.stream_from(layer, streamed ? 1 : moe::kNeverStreamed);
    auto& [few, many] = streamed ? t.streamed : t.cpu;
    few = seconds(ctx, layer, t.few, info);
    many = seconds(ctx, layer, t.many, info);
  }
  return t;
}

double ExpertStreaming::seconds(ops::Context& ctx, int layer, int64_t tokens,
                                const EngineInfo& info) {
  std::mt19937 random(0);
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  for (int32_t& id : ids) {
    id = static_cast<int32_t>(random() % static_cast<uint32_t>(info.vocab_size));
  }
  // Nothing is stored, so one page stands for all.
  const std::vector<int32_t> pages(static_cast<size_t>((tokens - 1) / info.page_size + 1));
  const ops::GpuStepLayout::Sequence sequence = {
      .tokens = static_cast<int32_t>(tokens), .position = 0, .pages = pages};
  double best = std::numeric_limits<double>::max();
  for (int i = 0; i < kRuns; ++i) {
    const ops::GpuStepArrays arrays =
        gpu_.begin_step({.ids = ids, .sequences = {&sequence, 1}, .output_rows = {}});
    gpu_.wait();
    const auto start = std::chrono::steady_clock::now();
    decoder_.run_feed_forward(ctx, layer, arrays.ids, tokens);
    gpu_.wait();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::min(best, elapsed.count());
  }
  return best;
}

}  // namespace tandem::engine
