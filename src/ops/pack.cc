// The work is cut into pieces of rows. A piece is read into a buffer that stays in its core's
// second-level cache and is packed from there, so that memory sees one read of the file's pages and
// one write of the panels. Reading through a mapping instead was slower by a third: each of its
// pages costs an entry of the page table, made and dropped again.
#include "ops/pack.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <vector>

#include "quant/panels.h"
#include "quant/types.h"

namespace tandem::ops {
namespace {

// Of rows: a quarter of the smallest second-level cache that matters.
constexpr int64_t kPieceBytes = int64_t{256} << 10;
// A thread takes pieces of 4 MiB together: where two threads meet in a huge page that is not there
// yet, both clear one and one is thrown away.
constexpr int64_t kPiecesAtOnce = 16;

struct Piece {
  const Packing* packing;
  int64_t matrix;  // of the stack
  int64_t row;     // the first, of a panel where there are panels
  int64_t rows;

  int64_t row_bytes() const { return quant::row_bytes(packing->to.dtype, packing->to.cols()); }
  int64_t bytes() const { return rows * row_bytes(); }
};

std::vector<Piece> cut(std::span<const Packing> packings) {
  std::vector<Piece> pieces;
  for (const Packing& packing : packings) {
    const Tensor& to = packing.to;
    const int64_t n = to.shape.inner(1);
    const int64_t panels =
        kPieceBytes / (quant::kPanelRows * quant::row_bytes(to.dtype, to.cols()));
    const int64_t most_rows = std::max<int64_t>(panels, 1) * quant::kPanelRows;
    for (int64_t matrix = 0; matrix < to.rows() / n; ++matrix) {
      for (int64_t row = 0; row < n; row += most_rows) {
        pieces.push_back({&packing, matrix, row, std::min(most_rows, n - row)});
      }
    }
  }
  return pieces;
}

void fill(const Context& ctx, const Piece& piece, std::byte* buffer) {
  const Tensor& to = piece.packing->to;
  const int64_t row_bytes = piece.row_bytes();
  const int64_t offset = (piece.matrix * to.shape.inner(1) + piece.row) * row_bytes;
  const auto bytes = static_cast<size_t>(piece.bytes());
  auto* out = const_cast<std::byte*>(quant::rows_at(to, piece.matrix, piece.row));
  if (to.layout == Layout::kRows) {
    piece.packing->read(offset, {out, bytes});
    return;
  }
  piece.packing->read(offset, {buffer, bytes});
  const cpu::PackFn kernel = ctx.cpu.pack[static_cast<size_t>(to.dtype)];
  for (int64_t row = 0; row < piece.rows; row += quant::kPanelRows) {
    kernel({.rows = buffer + row * row_bytes,
            .row_stride = row_bytes,
            .count = static_cast<int>(std::min<int64_t>(quant::kPanelRows, piece.rows - row)),
            .k = to.cols(),
            .panel = out + row / quant::kPanelRows * quant::rows_stride(to)});
  }
}

// The first exception of a parallel loop, whose body must not throw.
class Failure {
 public:
  bool happened() const { return happened_.load(std::memory_order_relaxed); }
  void keep_current() {
    const std::scoped_lock lock(mutex_);
    if (!exception_) exception_ = std::current_exception();
    happened_.store(true, std::memory_order_relaxed);
  }
  void rethrow() const {
    if (exception_) std::rethrow_exception(exception_);
  }

 private:
  std::atomic<bool> happened_{false};
  std::mutex mutex_;
  std::exception_ptr exception_;
};

}  // namespace

void pack(Context& ctx, std::span<const Packing> packings,
          const std::function<void(int64_t bytes)>& on_bytes) {
  const std::vector<Piece> pieces = cut(packings);
  int64_t largest = 0;
  for (const Piece& piece : pieces) largest = std::max(largest, piece.bytes());
  const size_t buffer_bytes = Workspace::aligned(static_cast<size_t>(largest));
  Workspace buffers(buffer_bytes * static_cast<size_t>(ctx.pool.size()));
  Workspace::Scope scope(buffers);
  std::byte* buffer = scope.bytes(buffers.capacity());  // [workers, piece]

  Failure failure;
  std::atomic<int64_t> done{0};
  const auto count = static_cast<int64_t>(pieces.size());
  ctx.pool.parallel_for(count, kPiecesAtOnce, [&](int64_t begin, int64_t end, int worker) {
    try {
      for (int64_t i = begin; i < end && !failure.happened(); ++i) {
        const Piece& piece = pieces[static_cast<size_t>(i)];
        fill(ctx, piece, buffer + static_cast<size_t>(worker) * buffer_bytes);
        done.fetch_add(piece.bytes(), std::memory_order_relaxed);
      }
      // Worker 0 is the thread that called.
      if (worker == 0 && on_bytes) on_bytes(done.load(std::memory_order_relaxed));
    } catch (...) {
      failure.keep_current();
    }
  });
  failure.rethrow();
  if (on_bytes) on_bytes(done.load(std::memory_order_relaxed));
}

}  // namespace tandem::ops
