// After one step the table forgets the old expert and the copy begins, after a later one the copy
// is there and the table knows the new expert. In between the CPU computes both, and no kernel
// reads the slot.
#include "engine/hot_experts.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "engine/hot_file.h"

namespace tandem::engine {
namespace {

// Of the GPU, for what is taken later: graphs, and buffers of libraries.
constexpr int64_t kKeepFree = int64_t{512} << 20;
// What a crash loses of the counts; a file of 50 KB is written in less than a millisecond.
constexpr std::chrono::minutes kSaveEvery{5};
// A round of copies after each step, and one more for so many tokens: each is some 0.3 ms, so many
// tokens of a prompt are 20 ms at least.
constexpr int64_t kTokensOfRound = 32;
// Experts on their way: as many as fit a round, of models with small experts.
constexpr size_t kMostMoving = 4;

// The same number of each layer's experts, and one more of the first layers while there is room.
void share_out(int64_t bytes, int experts, std::vector<ops::HotLayerSource>& layers) {
  int64_t one_of_each = 0;
  for (const ops::HotLayerSource& layer : layers) one_of_each += ops::HotSlots::slot_bytes(layer);
  const auto whole = static_cast<int>(std::min<int64_t>(bytes / one_of_each, experts));
  int64_t left = bytes - whole * one_of_each;
  for (ops::HotLayerSource& layer : layers) {
    layer.slots = whole;
    left -= ops::HotSlots::slot_bytes(layer);
    if (left >= 0 && whole < experts) ++layer.slots;
  }
}

}  // namespace

std::unique_ptr<HotExperts> HotExperts::create(ops::Gpu& gpu, const models::Decoder& decoder,
                                               const HotOptions& options, int64_t bytes,
                                               int max_tokens, int max_sequences) {
  std::vector<ops::HotLayerSource> sources;
  std::vector<int> layers, slots;
  for (const models::Decoder::HostExperts& host : decoder.experts_in_host_memory()) {
    sources.push_back({.gate = host.gate, .up = host.up, .down = host.down, .slots = 0});
    layers.push_back(host.layer);
  }
  if (sources.empty()) return nullptr;
  const auto& routing = decoder.config().moe.routing;
  share_out(std::min(bytes, gpu.free_bytes() - kKeepFree), routing.experts, sources);
  int64_t reserved = 0;
  for (const ops::HotLayerSource& source : sources) {
    slots.push_back(source.slots);
    reserved += source.slots * ops::HotSlots::slot_bytes(source);
  }
  if (reserved <= 0) return nullptr;
  HotChoice choice(slots, routing.experts, options.policy);
  if (!options.file.empty()) {
    choice.set_counts(read_hot_file(options.file, layers, routing.experts).counts);
  }
  log::info("hot experts: {} of {} in each of {} layers on the GPU, {:.2f} GB", slots.back(),
            routing.experts, slots.size(), static_cast<double>(reserved) / 1e9);
  ops::HotSlots& memory = gpu.reserve_hot_slots({.layers = sources,
                                                 .used = routing.used,
                                                 .max_tokens = max_tokens,
                                                 .max_generating = max_sequences});
  return std::make_unique<HotExperts>(memory, std::move(choice), std::move(layers), options.file);
}

HotExperts::HotExperts(ops::HotSlots& slots, HotChoice choice, std::vector<int> layers,
                       std::string file)
    : slots_(slots),
      choice_(std::move(choice)),
      layers_(std::move(layers)),
      file_(std::move(file)),
      saved_(std::chrono::steady_clock::now()) {
  for (int i = 0; i < choice_.layers(); ++i) statistics_.slots += choice_.slots(i);
}

HotExperts::~HotExperts() { save(); }

// A full disk is no reason to stop serving.
void HotExperts::save() const {
  if (file_.empty()) return;
  try {
    write_hot_file(file_, {.layers = layers_,
                           .experts = choice_.experts(),
                           .counts = {choice_.counts().begin(), choice_.counts().end()}});
  } catch (const Error& error) {
    log::warn("{}", error.what());
  }
}

void HotExperts::fill(platform::ThreadPool& pool) {
  choice_.fill();
  int begun = 0;
  for (int layer = 0; layer < choice_.layers(); ++layer) {
    for (int expert = 0; expert < choice_.experts(); ++expert) {
      const int slot = choice_.slot_of(layer, expert);
      if (slot < 0) continue;
      slots_.begin_copy(layer, expert, slot);
      slots_.map(layer, expert, slot);
      ++begun;
    }
  }
  while (begun > 0) begun -= slots_.advance(pool, true);
  statistics_.used_slots = choice_.used_slots();
}

bool HotExperts::holds_all(int layer) const {
  const auto found = std::find(layers_.begin(), layers_.end(), layer);
  if (found == layers_.end()) return false;
  return choice_.slots(static_cast<int>(found - layers_.begin())) == choice_.experts();
}

void HotExperts::move(platform::ThreadPool& pool, int64_t tokens) {
  for (int64_t round = tokens / kTokensOfRound; round >= 0; --round) {
    while (moving_.size() < kMostMoving) {
      const std::optional<HotChoice::Switch> next = choice_.next();
      if (!next) break;
      slots_.map(next->layer, next->evicted, -1);
      slots_.begin_copy(next->layer, next->expert, next->slot);
      moving_.push_back(*next);
    }
    if (moving_.empty()) break;
    for (int arrived = slots_.advance(pool, round > 0); arrived > 0; --arrived) {
      const HotChoice::Switch& done = moving_.front();
      choice_.settle(done);
      slots_.map(done.layer, done.expert, done.slot);
      moving_.pop_front();
      ++statistics_.switches;
    }
  }
  statistics_.used_slots = choice_.used_slots();
}

void HotExperts::after_step(platform::ThreadPool& pool, int64_t tokens) {
  const std::span<const uint32_t> pairs = slots_.pairs();
  for (const uint32_t count : pairs) statistics_.pairs += count;
  statistics_.hits += slots_.hits();
  choice_.add(pairs, tokens);
  slots_.forget();
  move(pool, tokens);
  const auto now = std::chrono::steady_clock::now();
  if (now - saved_ < kSaveEvery) return;
  saved_ = now;
  save();
}

}  // namespace tandem::engine
