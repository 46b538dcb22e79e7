// Two loops over the thread pool, and for larger steps one before them:
//
//   (tokens -> activations)   by the caller when they are few
//   gate and up of all        whoever computes the last rows of an expert's block of tokens makes
//                             the block's activations for down
//   down of all               a stage of the same loop: no barrier before it, a tile waits for its
//                             block's activations, which are made long before but for the last
//   weighted sums             by columns
//
// "All" are the shared expert, which has most tokens, and then the routed ones. In larger steps an
// expert's activation rows are written one after the other (slot order), because matrix units load
// blocks of rows; in small ones the kernels gather.
#include "moe/experts.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <new>
#include <thread>
#include <utility>

#include "moe/gpu_experts.h"
#include "ops/linear.h"
#include "ops/products.h"
#include "quant/types.h"

namespace tandem::moe {
namespace {

using ops::Activations;
using ops::Product;
using ops::Tile;
using ops::Workspace;

// Steps of more tokens take slot order: below it hardly an expert has the tokens to fill a matrix
// unit, and copying rows costs more than gathering them.
constexpr int64_t kMostGatheredTokens = 32;
// Columns of a token that a thread sums at a time: the sum stays in the first-level cache.
constexpr int64_t kSumColumns = 512;
// Multiply-adds of a piece of summing, at least: some 2 us, what a parallel loop costs. The rows to
// sum come out of other cores' caches, so this is less than for work on own data.
constexpr int64_t kSumWork = 4096;
// A token block has at least so many tokens, unless it is a product's only one.
constexpr int64_t kLeastBlock = 16;
constexpr int kNumFormats = 3;

bool is_float(const Tensor& w) {
  return quant::traits(w.dtype).activation == quant::ActivationFormat::kF32;
}
size_t format_of(const Tensor& w) { return static_cast<size_t>(quant::traits(w.dtype).activation); }

// A block of tokens between gate and up and down.
struct alignas(64) Block {
  std::atomic<int64_t> rows;        // still to be computed; threads count down at the same time
  std::atomic<bool> ready = false;  // what down reads is there
};
// Looks at `ready` before a thread gives up its core: some 100 us, for threads that are more than
// the cores.
constexpr int kLooks = 2000;

// What the routed experts, or the shared one, compute between the loops.
struct Side {
  const ExpertWeights* weights = nullptr;
  float* hidden = nullptr;     // [rows, F] f32
  Activations activated = {};  // [rows, F] in the format of down
  float* out = nullptr;        // [rows, M] f32

  int64_t hidden_width() const { return weights->down.cols(); }
  std::byte* activated_row(int64_t row) const {
    return const_cast<std::byte*>(activated.data) + row * activated.stride;
  }
};

// An expert's share of the step: rows [first, first + tokens) of its side.
struct Work {
  const Side* side;
  int64_t matrix;  // in the stacks
  int64_t first;
  int64_t tokens;
  const int32_t* token_of = nullptr;  // [tokens], null: 0, 1, ...
  int64_t block_tokens = 0;
  Block* blocks = nullptr;  // of tokens
};

// x in one format.
struct Input {
  DType dtype = DType::kF32;   // of some weights that read it
  bool is_x = false;           // floats: x itself
  Activations tokens = {};     // [T, M]
  std::byte* slots = nullptr;  // [T * K, M] in slot order
};

class Operator {
 public:
  Operator(ops::Context& ctx, const ExpertLayer& layer, const Grouping& grouping,
           const ExpertStep& step)
      : ctx_(ctx),
        step_(step),
        grouping_(grouping),
        scope_(ctx.workspace),
        width_(layer.routed.gate.cols()),
        slots_(step.tokens * step.used) {
    routed_ = take_side(layer.routed, slots_);
    if (layer.shared.gate) shared_ = take_side(layer.shared, step.tokens);
    for (const ExpertWeights* weights : {&layer.routed, &layer.shared}) {
      for (const Tensor* w : {&weights->gate, &weights->up}) {
        if (*w) take_input(*w, weights == &layer.routed);
      }
    }
    list_work();
  }

  void run() {
    quantize_tokens();
    list_gate_and_up();
    list_down();
    run_products();
    add_up();
  }

 private:
  template <typename T>
  T* take(int64_t count) {
    return reinterpret_cast<T*>(scope_.bytes(static_cast<size_t>(count) * sizeof(T)));
  }

  Side take_side(const ExpertWeights& weights, int64_t rows) {
    Side side{.weights = &weights};
    const int64_t hidden = side.hidden_width();
    side.hidden = take<float>(rows * hidden);
    if (is_float(weights.down)) {
      side.activated = {reinterpret_cast<std::byte*>(side.hidden), hidden * int64_t{sizeof(float)}};
    } else {
      const size_t stride = ops::activation_bytes(weights.down.dtype, 1, hidden);
      side.activated = {scope_.bytes(static_cast<size_t>(rows) * stride),
                        static_cast<int64_t>(stride)};
    }
    side.out = take<float>(rows * width_);
    return side;
  }

  void take_input(const Tensor& w, bool routed) {
    Input& input = inputs_[format_of(w)];
    const size_t stride = ops::activation_bytes(w.dtype, 1, width_);
    if (input.tokens.data == nullptr) {
      input.dtype = w.dtype;
      input.is_x = is_float(w);
      input.tokens = {is_float(w) ? reinterpret_cast<const std::byte*>(step_.x)
                                  : scope_.bytes(static_cast<size_t>(step_.tokens) * stride),
                      static_cast<int64_t>(stride)};
    }
    if (routed && step_.tokens > kMostGatheredTokens && input.slots == nullptr) {
      input.slots = scope_.bytes(static_cast<size_t>(slots_) * stride);
    }
  }

  void list_work() {
    const auto most = static_cast<int64_t>(grouping_.active.size()) + 1;
    work_ = take<Work>(most);
    gate_and_up_ = take<Product>(most);
    down_ = take<Product>(most);
    blocks_ = take<Block>(most + (slots_ + step_.tokens) / kLeastBlock);
    if (shared_.weights != nullptr) {
      work_[count_++] = {.side = &shared_, .matrix = 0, .first = 0, .tokens = step_.tokens};
    }
    for (const int32_t expert : grouping_.active) {
      const int32_t first = grouping_.first_slot[static_cast<size_t>(expert)];
      work_[count_++] = {.side = &routed_,
                         .matrix = expert,
                         .first = first,
                         .tokens = grouping_.tokens_of(expert),
                         .token_of = grouping_.slot_token.data() + first};
    }
  }

  // Each token once for each format; then copies of its row in slot order.
  void quantize_tokens() {
    const int64_t tokens_per_piece = std::max<int64_t>(1, 16384 / width_);  // as ops::quantize
    ctx_.pool.parallel_for(step_.tokens, tokens_per_piece, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) {
        for (const Input& input : inputs_) quantize_token(input, t);
      }
    });
  }

  void quantize_token(const Input& input, int64_t t) const {
    if (input.tokens.data == nullptr) return;
    const int64_t stride = input.tokens.stride;
    const std::byte* row = input.tokens.data + t * stride;
    if (!input.is_x) {
      ops::quantize_row(ctx_, input.dtype, step_.x + t * width_, width_,
                        const_cast<std::byte*>(row));
    }
    if (input.slots == nullptr) return;
    for (int rank = 0; rank < step_.used; ++rank) {
      const int64_t slot = grouping_.slot_of[static_cast<size_t>(t * step_.used + rank)];
      if (slot < 0) continue;
      std::memcpy(input.slots + slot * stride, row, static_cast<size_t>(stride));
    }
  }

  // x of an expert's tokens for one of its matrices.
  Activations input_of(const Work& work, const Tensor& w) const {
    const Input& input = inputs_[format_of(w)];
    if (work.token_of == nullptr || input.slots == nullptr) return input.tokens;
    return {input.slots + work.first * input.tokens.stride, input.tokens.stride};
  }

  void list_gate_and_up() {
    Block* next = blocks_;
    for (int64_t i = 0; i < count_; ++i) {
      Work& work = work_[i];
      const ExpertWeights& w = *work.side->weights;
      const int64_t hidden = work.side->hidden_width();
      gate_and_up_[i] = {.w = &w.gate,
                         .up = &w.up,
                         .matrix = work.matrix,
                         .x = input_of(work, w.gate),
                         .up_x = input_of(work, w.up),
                         .x_rows = step_.tokens > kMostGatheredTokens ? nullptr : work.token_of,
                         .y = work.side->hidden + work.first * hidden,
                         .y_stride = hidden,
                         .tokens = work.tokens};
      work.block_tokens = ops::token_block(gate_and_up_[i]);
      work.blocks = next;
      for (int64_t token = 0; token < work.tokens; token += work.block_tokens) {
        new (next++) Block{.rows = hidden};
      }
    }
  }

  void list_down() {
    for (int64_t i = 0; i < count_; ++i) {
      const Work& work = work_[i];
      const Side& side = *work.side;
      down_[i] = {.w = &side.weights->down,
                  .matrix = work.matrix,
                  .x = {side.activated_row(work.first), side.activated.stride},
                  .y = side.out + work.first * width_,
                  .y_stride = width_,
                  .tokens = work.tokens};
    }
  }

  void run_products() {
    const auto count_down = [this](int64_t i, const Tile& tile) {
      this->count_down(work_[i], tile);
    };
    const auto wait = [this](int64_t i, const Tile& tile) { this->wait(work_[i], tile); };
    const auto count = static_cast<size_t>(count_);
    const std::array<ops::ProductStage, 2> stages = {{
        {.products = {gate_and_up_, count}, .after = count_down},
        {.products = {down_, count}, .before = wait},
    }};
    ops::run_products(ctx_, stages);
  }

  // After a tile of gate and up.
  void count_down(const Work& work, const Tile& tile) const {
    const Side& side = *work.side;
    const int64_t rows = tile.row_end - tile.row_begin;
    Block& block = work.blocks[tile.token_begin / work.block_tokens];
    if (block.rows.fetch_sub(rows, std::memory_order_acq_rel) != rows) return;
    if (!is_float(side.weights->down)) {  // else down reads `hidden` itself
      const int64_t hidden = side.hidden_width();
      for (int64_t t = tile.token_begin; t < tile.token_end; ++t) {
        ops::quantize_row(ctx_, side.weights->down.dtype, side.hidden + (work.first + t) * hidden,
                          hidden, side.activated_row(work.first + t));
      }
    }
    block.ready.store(true, std::memory_order_release);
  }

  // Before a tile of down, whose blocks of tokens may be others.
  void wait(const Work& work, const Tile& tile) const {
    const int64_t last = (tile.token_end - 1) / work.block_tokens;
    for (int64_t i = tile.token_begin / work.block_tokens; i <= last; ++i) {
      for (int looks = 0; !work.blocks[i].ready.load(std::memory_order_acquire); ++looks) {
        looks < kLooks ? __builtin_ia32_pause() : std::this_thread::yield();
      }
    }
  }

  void add_up() const {
    const int64_t pieces = (width_ + kSumColumns - 1) / kSumColumns;  // of a token
    const int64_t grain =
        std::max<int64_t>(1, kSumWork / (std::min(kSumColumns, width_) * (step_.used + 2)));
    ctx_.pool.parallel_for(step_.tokens * pieces, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t column = i % pieces * kSumColumns;
        add_up_columns(i / pieces, column, std::min(kSumColumns, width_ - column));
      }
    });
  }

  void add_up_columns(int64_t t, int64_t column, int64_t columns) const {
    alignas(64) float sum[kSumColumns];
    std::fill_n(sum, columns, 0.0F);
    for (int64_t i = t * step_.used; i < (t + 1) * step_.used; ++i) {
      const int64_t slot = grouping_.slot_of[static_cast<size_t>(i)];
      if (slot < 0) continue;
      ctx_.cpu.multiply_add(routed_.out + slot * width_ + column, step_.weights[i], sum, columns);
    }
    if (shared_.weights != nullptr) {
      float* shared = shared_.out + t * width_ + column;
      if (step_.shared_gate != nullptr) {
        float gate = step_.shared_gate[t];
        ctx_.cpu.sigmoid(&gate, 1);
        for (int64_t c = 0; c < columns; ++c) shared[c] *= gate;
      }
      ctx_.cpu.add(sum, shared, sum, columns);
    }
    float* residual = step_.residual + t * width_ + column;
    ctx_.cpu.add(residual, sum, residual, columns);
  }

  ops::Context& ctx_;
  const ExpertStep& step_;
  const Grouping& grouping_;
  Workspace::Scope scope_;
  int64_t width_;  // M
  int64_t slots_;  // T * K
  Side routed_, shared_;
  std::array<Input, kNumFormats> inputs_;
  Work* work_ = nullptr;            // [count_]
  Product* gate_and_up_ = nullptr;  // [count_]
  Product* down_ = nullptr;         // [count_]
  Block* blocks_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace

int64_t ExpertWeights::bytes_per_expert() const {
  int64_t bytes = 0;
  for (const Tensor& w : {gate, up, down}) {
    bytes += w.shape.inner(1) * quant::row_bytes(w.dtype, w.cols());
  }
  return bytes;
}

size_t experts_workspace_bytes(const ExpertLayer& layer, int64_t tokens, int used, int threads) {
  const int64_t width = layer.routed.gate.cols();
  const int64_t slots = tokens * used;
  const int64_t most = std::min(layer.routed.gate.shape.inner(2), slots) + 1;  // experts
  const auto array = [](int64_t count, size_t bytes) {
    return Workspace::aligned(static_cast<size_t>(count) * bytes);
  };
  const auto side = [&](const ExpertWeights& w, int64_t rows) {
    const int64_t hidden = w.down.cols();
    return array(rows * hidden, sizeof(float)) + array(rows * width, sizeof(float)) +
           (is_float(w.down) ? 0 : array(rows, ops::activation_bytes(w.down.dtype, 1, hidden)));
  };
  size_t bytes = side(layer.routed, slots);
  if (layer.shared.gate) bytes += side(layer.shared, tokens);
  std::array<bool, kNumFormats> seen = {};
  for (const Tensor& w : {layer.routed.gate, layer.routed.up, layer.shared.gate, layer.shared.up}) {
    if (!w || std::exchange(seen[format_of(w)], true)) continue;
    // In slot order even where gathered steps or the shared expert alone read it: an upper bound.
    bytes += array(tokens + slots + 1, ops::activation_bytes(w.dtype, 1, width));
  }
  return bytes + array(most, sizeof(Work)) + 2 * array(most, sizeof(Product)) +
         array(most + (slots + tokens) / kLeastBlock, sizeof(Block)) +
         ops::products_workspace_bytes(most, true, threads);
}

void run_experts(ops::Context& ctx, const ExpertLayer& layer, Grouping& grouping,
                 const ExpertStep& step) {
  const ops::Profile::Scope timed(ctx.profile, ops::Op::kExperts);
  if (ctx.gpu != nullptr) return run_experts_beside_gpu(ctx, layer, grouping, step);
  grouping.assign(step.ids, step.tokens, static_cast<int>(layer.routed.gate.shape.inner(2)),
                  step.used);
  if (grouping.active.empty() && !layer.shared.gate) return;  // all of them are hot
  Operator(ctx, layer, grouping, step).run();
}

}  // namespace tandem::moe
