// Several products of activations with weight matrices in one parallel loop: the one way in which
// work on weights is split over threads, for dense layers and for experts.
//
// A product is cut into units: some rows of one matrix for all tokens, or, where there are many
// tokens, a block of rows for a block of tokens. Units of all products lie on one line, each as
// long as its cost, and threads take pieces of that line, long ones first:
//
//   |<---------- product 0 ---------->|<--- product 1 --->|<--------- product 2 ------ ...
//   | unit | unit | unit | unit | unit | u | u | u | u | u |   unit   |   unit   |
//   |       piece        |     piece     |  piece  | ...
//
// Products may come in two stages, of which the second reads what the first computes: each stage
// has a line of its own, threads go on from the first to the second without a barrier, and before
// each tile of the second wait for what that tile reads.
//
// A unit belongs to the piece that contains its start. Neighbouring units of few tokens are one
// call of the kernel, so that a thread reads a long run of weights. On a machine with several NUMA
// nodes there is a line for each node, with the rows that lie in its memory (quant/parts.h).
//
// No bit depends on the cutting: each output element is computed by one kernel call, whose lanes
// are output rows, and which walks its row from the start.
#pragma once

#include <cstdint>
#include <span>

#include "base/tensor.h"
#include "ops/context.h"

namespace tandem::ops {

// Activation rows in the format that some weights ask for.
struct Activations {
  const std::byte* data;
  int64_t stride;  // bytes from a row to the next
};

// y = w x for the tokens, or with `up` y = silu(w x) * (up x), for some matrices of a stack.
struct Product {
  const Tensor* w;                  // [E, n, k]
  const Tensor* up = nullptr;       // [E, n, k] or none
  int64_t matrix = 0;               // the first of the stack that takes part
  int64_t matrices = 1;             // how many do
  Activations x;                    // rows of the matrices, one matrix's [tokens] after the other's
  Activations up_x = {};            // the same rows in the format of `up`
  const int32_t* x_rows = nullptr;  // [tokens] which row of x each token reads; null: 0, 1, ...
  float* y;                         // [tokens, n] f32
  int64_t y_stride;                 // floats from a token to the next
  int64_t y_step = 0;               // floats from a matrix's y to the next matrix's
  int64_t tokens;
};

// Output elements that one thread has just computed.
struct Tile {
  int64_t matrix;  // counted from Product::matrix
  int64_t row_begin, row_end;
  int64_t token_begin, token_end;  // a token block: from a multiple of token_block(product)
};

// Tokens of a block of the product: all, or as many as leave their activations in the second-level
// cache.
int64_t token_block(const Product& product);

// What is called with the number of a product in its stage and a tile of it, on the thread that
// computes the tile. Refers to the callable, which must outlive it.
class TileHook {
 public:
  TileHook() = default;
  template <typename F>
  TileHook(const F& f)
      : context_(&f), call_([](const void* context, int64_t product, const Tile& tile) {
          (*static_cast<const F*>(context))(product, tile);
        }) {}
  void operator()(int64_t product, const Tile& tile) const {
    if (call_ != nullptr) call_(context_, product, tile);
  }

 private:
  const void* context_ = nullptr;
  void (*call_)(const void* context, int64_t product, const Tile& tile) = nullptr;
};

struct ProductStage {
  std::span<const Product> products;
  TileHook before = {};  // may wait for tiles of the stage before this one
  TileHook after = {};
};

// Runs one or two stages. Tiles cover every (matrix, row, token) of every product once.
void run_products(Context& ctx, std::span<const ProductStage> stages);
inline void run_products(Context& ctx, std::span<const Product> products, TileHook after = {}) {
  const ProductStage stage{.products = products, .after = after};
  run_products(ctx, std::span(&stage, 1));
}

// Scratch that run_products() takes for that many products a stage; `gated`: some have `up`.
size_t products_workspace_bytes(int64_t products, bool gated, int threads);

}  // namespace tandem::ops
