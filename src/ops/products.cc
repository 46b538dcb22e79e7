// Cutting products into units, mapping pieces of the cost lines to units, calling the kernels.
#include "ops/products.h"

#include <algorithm>

#include "quant/panels.h"
#include "quant/parts.h"
#include "quant/types.h"

namespace tandem::ops {
namespace {

using quant::RowRange;

// Kernels decode weights once for so many tokens at a time.
constexpr int64_t kKernelTokens = 8;
// Activations of a token block: half of the second-level cache of 1 MiB.
constexpr int64_t kBlockBytes = 512 << 10;
constexpr int64_t kMostBlockTokens = 512;
// Weights that one kernel call walks again for each tile of tokens: a quarter of that cache.
constexpr int64_t kCallBytes = 256 << 10;
constexpr int64_t kLeastCallRows = 32, kMostCallRows = 256;
// A thread's scratch for the second factor of gated products.
constexpr int64_t kScratchFloats = 32 << 10;

// Cost of 16 rows x 32 columns for one token. Reading weights bounds the work on few tokens, so
// less than four count as four.
constexpr int64_t kLeastTokens = 4;
// The least piece worth taking, some 3 us of work: two panels of 2048 columns at decode.
constexpr int64_t kLeastPiece = 512;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How a product is cut.
struct Cut {
  int64_t unit_rows;     // a multiple of 16
  int64_t block_tokens;  // tokens of a unit
  int64_t blocks;        // token blocks
  int64_t call_rows;     // rows of one kernel call at most
  int64_t cost;          // of a unit
};

Cut cut_of(const Product& p) {
  Cut cut;
  cut.block_tokens = token_block(p);
  cut.blocks = ceil_div(p.tokens, std::max<int64_t>(cut.block_tokens, 1));
  const int64_t panel_bytes =
      quant::matrix_bytes(p.w->dtype, p.w->layout, quant::kPanelRows, p.w->cols());
  cut.call_rows = p.w->shape.inner(1) + quant::kPanelRows;  // no limit
  if (p.tokens > kKernelTokens) {
    cut.call_rows =
        std::clamp(kCallBytes / panel_bytes * quant::kPanelRows, kLeastCallRows, kMostCallRows);
  }
  if (p.up != nullptr) {
    const int64_t fitting = kScratchFloats / std::max<int64_t>(cut.block_tokens, 1);
    cut.call_rows = std::min(cut.call_rows, fitting / quant::kPanelRows * quant::kPanelRows);
  }
  // Two panels make use of matrix units, which take 32 rows and tokens at once.
  cut.unit_rows = cut.blocks > 1             ? cut.call_rows
                  : p.tokens > kKernelTokens ? 2 * quant::kPanelRows
                                             : quant::kPanelRows;
  cut.cost = cut.unit_rows / quant::kPanelRows * std::max(cut.block_tokens, kLeastTokens) *
             std::max<int64_t>(p.w->cols() / 32, 1) * (p.up != nullptr ? 2 : 1);
  return cut;
}

// A loop over products: the lines of costs, one for each stage and part.
class Loop {
 public:
  Loop(Context& ctx, std::span<const ProductStage> stages)
      : ctx_(ctx), stages_(stages), scope_(ctx.workspace) {
    TANDEM_CHECK(!stages.empty() && stages.size() <= platform::ThreadPool::kMaxStages, "{} stages",
                 stages.size());
    bool gated = false;
    for (const ProductStage& stage : stages) {
      most_ = std::max(most_, static_cast<int64_t>(stage.products.size()));
      for (const Product& p : stage.products) {
        check(p);
        parts_ = std::max(parts_, p.w->parts);
        gated = gated || p.up != nullptr;
      }
    }
    if (gated) scratch_ = scope_.floats(static_cast<size_t>(ctx.pool.size() * kScratchFloats));
    cuts_ = take<Cut>(num_stages() * most_);
    starts_ = take<int64_t>(num_stages() * platform::ThreadPool::kMaxParts * (most_ + 1));
    for (int stage = 0; stage < num_stages(); ++stage) lay_out(stage);
  }

  void run() {
    int64_t costs[platform::ThreadPool::kMaxStages * platform::ThreadPool::kMaxParts];
    for (int stage = 0; stage < num_stages(); ++stage) {
      for (int part = 0; part < parts_; ++part) {
        costs[stage * parts_ + part] = starts_of(stage, part)[products_of(stage).size()];
      }
    }
    ctx_.pool.parallel_for_stages(
        std::span(costs, static_cast<size_t>(num_stages() * parts_)), parts_, kLeastPiece,
        [this](int stage, int part, int64_t begin, int64_t end, int worker) {
          run_piece(stage, part, begin, end, worker);
        });
  }

 private:
  template <typename T>
  T* take(int64_t count) {
    return reinterpret_cast<T*>(scope_.bytes(static_cast<size_t>(count) * sizeof(T)));
  }
  int num_stages() const { return static_cast<int>(stages_.size()); }
  std::span<const Product> products_of(int stage) const {
    return stages_[static_cast<size_t>(stage)].products;
  }
  Cut& cut(int stage, int64_t product) const { return cuts_[stage * most_ + product]; }
  int64_t* starts_of(int stage, int part) const {
    return starts_ + (stage * parts_ + part) * (most_ + 1);
  }

  void lay_out(int stage) {
    const std::span<const Product> products = products_of(stage);
    const auto count = static_cast<int64_t>(products.size());
    for (int64_t i = 0; i < count; ++i) cut(stage, i) = cut_of(products[static_cast<size_t>(i)]);
    for (int part = 0; part < parts_; ++part) {
      int64_t* starts = starts_of(stage, part);
      starts[0] = 0;
      for (int64_t i = 0; i < count; ++i) {
        const Cut& c = cut(stage, i);
        starts[i + 1] = starts[i] + units(products[static_cast<size_t>(i)], c, part) * c.cost;
      }
    }
  }

  void check(const Product& p) const {
    for (const Tensor* w : {p.w, p.up}) {
      if (w == nullptr) continue;
      TANDEM_CHECK(ctx_.cpu.linear[static_cast<size_t>(w->dtype)] != nullptr,
                   "no {} kernel for weights of type {}", ctx_.cpu.name,
                   quant::traits(w->dtype).name);
      TANDEM_CHECK(quant::has_panels(w->dtype) == (w->layout == Layout::kPanels),
                   "weights of type {} in the wrong layout", quant::traits(w->dtype).name);
      TANDEM_CHECK(w->shape == p.w->shape && w->parts == p.w->parts, "{} and {} rows in {} parts",
                   w->rows(), p.w->rows(), w->parts);
    }
  }

  // Rows of the product's matrices that belong to a part: those in its memory, or an equal share
  // where the stack is not split.
  RowRange rows_of(const Product& p, int part) const {
    TANDEM_CHECK(p.w->parts == 1 || p.w->parts == parts_, "{} and {} parts", p.w->parts, parts_);
    return quant::rows_of_part(p.w->shape.inner(1), parts_, part);
  }
  int64_t row_units(const Product& p, const Cut& c, int part) const {
    const RowRange rows = rows_of(p, part);
    return ceil_div(rows.end - rows.begin, c.unit_rows);
  }
  int64_t units(const Product& p, const Cut& c, int part) const {
    return p.matrices * row_units(p, c, part) * c.blocks;
  }

  void run_piece(int stage, int part, int64_t begin, int64_t end, int worker) const {
    const int64_t* starts = starts_of(stage, part);
    const auto count = static_cast<int64_t>(products_of(stage).size());
    int64_t i = std::upper_bound(starts, starts + count + 1, begin) - starts - 1;
    for (; i < count && starts[i] < end; ++i) {
      const int64_t cost = cut(stage, i).cost;
      const int64_t first = begin > starts[i] ? ceil_div(begin - starts[i], cost) : 0;
      const int64_t last = ceil_div(std::min(end, starts[i + 1]) - starts[i], cost);
      if (first < last) run_units({stage, i, part, worker}, first, last);
    }
  }

  struct Place {
    int stage;
    int64_t product;  // of the stage
    int part, worker;
  };

  // Units are numbered matrix by matrix, then by rows, then by token blocks: blocks that follow
  // each other find their weights in the cache.
  void run_units(const Place& place, int64_t first, int64_t last) const {
    const ProductStage& stage = stages_[static_cast<size_t>(place.stage)];
    const Product& p = stage.products[static_cast<size_t>(place.product)];
    const Cut& c = cut(place.stage, place.product);
    const RowRange rows = rows_of(p, place.part);
    const int64_t per_matrix = row_units(p, c, place.part);
    const auto row_of = [&](int64_t unit) {
      return std::min(rows.begin + unit * c.unit_rows, rows.end);
    };
    while (first < last) {
      const int64_t unit = first / c.blocks % per_matrix;  // of rows
      const int64_t matrix = first / c.blocks / per_matrix;
      // Without token blocks all units of a matrix become one run of rows.
      const int64_t count = c.blocks > 1 ? 1 : std::min(last - first, per_matrix - unit);
      const int64_t token = first % c.blocks * c.block_tokens;
      const int64_t end = row_of(unit + count);
      for (int64_t row = row_of(unit); row < end; row += c.call_rows) {
        const Tile tile{.matrix = matrix,
                        .row_begin = row,
                        .row_end = std::min(row + c.call_rows, end),
                        .token_begin = token,
                        .token_end = std::min(token + c.block_tokens, p.tokens)};
        stage.before(place.product, tile);
        run_tile(p, tile, place.worker);
        stage.after(place.product, tile);
      }
      first += count;
    }
  }

  void run_tile(const Product& p, const Tile& tile, int worker) const {
    float* y = p.y + tile.matrix * p.y_step + tile.token_begin * p.y_stride + tile.row_begin;
    multiply(p, *p.w, p.x, tile, y, p.y_stride);
    if (p.up == nullptr) return;
    const int64_t rows = tile.row_end - tile.row_begin;
    float* up = scratch_ + worker * kScratchFloats;  // [tokens, rows]
    multiply(p, *p.up, p.up_x, tile, up, rows);
    for (int64_t t = 0; t < tile.token_end - tile.token_begin; ++t) {
      float* gate = y + t * p.y_stride;
      ctx_.cpu.silu_mul(gate, up + t * rows, gate, rows);
    }
  }

  void multiply(const Product& p, const Tensor& w, const Activations& x, const Tile& tile, float* y,
                int64_t y_stride) const {
    const int64_t first = tile.matrix * p.tokens + (p.x_rows == nullptr ? tile.token_begin : 0);
    ctx_.cpu.linear[static_cast<size_t>(w.dtype)]({
        .w = quant::rows_at(w, p.matrix + tile.matrix, tile.row_begin),
        .w_stride = quant::rows_stride(w),
        .x = x.data + first * x.stride,
        .x_stride = x.stride,
        .x_rows = p.x_rows == nullptr ? nullptr : p.x_rows + tile.token_begin,
        .y = y,
        .y_stride = y_stride,
        .n = static_cast<int>(tile.row_end - tile.row_begin),
        .k = static_cast<int>(w.cols()),
        .t = static_cast<int>(tile.token_end - tile.token_begin),
        .prefetch_bytes = ctx_.cpu.prefetch_bytes,
    });
  }

  Context& ctx_;
  std::span<const ProductStage> stages_;
  Workspace::Scope scope_;
  int parts_ = 1;
  int64_t most_ = 0;           // products of a stage
  Cut* cuts_ = nullptr;        // [stages, most]
  int64_t* starts_ = nullptr;  // [stages, parts, most + 1] where each begins on a part's line
  float* scratch_ = nullptr;   // [threads, kScratchFloats]
};

void report(const Profile::Scope& scope, std::span<const Product> products) {
  for (const Product& p : products) {
    for (const Tensor* w : {p.w, p.up}) {
      if (w == nullptr) continue;
      const int64_t rows = p.matrices * w->shape.inner(1);
      scope.add(rows * quant::row_bytes(w->dtype, w->cols()), rows * w->cols() * p.tokens);
    }
  }
}

}  // namespace

int64_t token_block(const Product& p) {
  const int64_t most =
      std::clamp<int64_t>(kBlockBytes / p.x.stride / 32 * 32, 32, kMostBlockTokens);
  if (p.tokens <= most) return p.tokens;
  // Equal blocks, of whole tiles of matrix units.
  return ceil_div(ceil_div(p.tokens, ceil_div(p.tokens, most)), 16) * 16;
}

void run_products(Context& ctx, std::span<const ProductStage> stages) {
  const Profile::Scope timed(ctx.profile, Op::kLinear);
  if (ctx.profile != nullptr) {
    for (const ProductStage& stage : stages) report(timed, stage.products);
  }
  Loop(ctx, stages).run();
}

size_t products_workspace_bytes(int64_t products, bool gated, int threads) {
  const auto count = static_cast<size_t>(platform::ThreadPool::kMaxStages * products);
  const size_t scratch = gated ? static_cast<size_t>(threads * kScratchFloats) * sizeof(float) : 0;
  return Workspace::aligned(count * sizeof(Cut)) + scratch +
         Workspace::aligned(platform::ThreadPool::kMaxParts *
                            (count + platform::ThreadPool::kMaxStages) * sizeof(int64_t));
}

}  // namespace tandem::ops
