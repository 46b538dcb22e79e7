// The pieces are made twice in the same order: first to choose their columns, then to write them
// column by column. Nothing is allocated; what planning needs lies behind the arrays.
#include "kernels/cuda/mla_plan.h"

#include <algorithm>

#include "base/check.h"

namespace tandem::cuda {
namespace {

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Piece {
  int request;
  int64_t row_start, key_start, key_end;
  bool split;  // others work on the same rows
};

// A column's load; the heap has the least loaded, then the first, on top.
struct Column {
  int64_t cost;
  int64_t index;
};
bool comes_later(const Column& a, const Column& b) {
  return a.cost != b.cost ? a.cost > b.cost : a.index > b.index;
}

// A step on a device: tiles and how far keys are split.
class Division {
 public:
  Division(const MlaShape& shape, const AttentionBatch& batch, int multiprocessors)
      : heads_(shape.heads), batch_(batch) {
    const int64_t rows = int64_t{batch.token_starts[batch.requests]} * heads_;
    width_ = rows / batch.requests > kMlaTile ? 2 : 1;
    columns_ = multiprocessors / width_;
    int64_t keys = 0;
    for_each_tile([&](int, int64_t, int64_t, int64_t tile_keys) { keys += tile_keys; });
    limit_ = round_limit(std::max<int64_t>(ceil_div(keys, columns_), 1));
  }

  int width() const { return width_; }
  int columns() const { return columns_; }
  int64_t tile() const { return int64_t{width_} * kMlaTile; }
  int64_t limit() const { return limit_; }
  int64_t tokens(int request) const {
    return batch_.token_starts[request + 1] - batch_.token_starts[request];
  }

  // body(request, first row, rows, keys that its last token sees), the tiles with the most keys
  // first.
  template <typename Body>
  void for_each_tile(const Body& body) const {
    for (int r = 0; r < batch_.requests; ++r) {
      const int64_t rows = tokens(r) * heads_;
      const int64_t tiles = ceil_div(rows, tile());
      for (int64_t i = tiles - 1; i >= 0; --i) {
        const int64_t unseen = i + 1 == tiles ? 0 : tokens(r) - ceil_div((i + 1) * tile(), heads_);
        const int64_t keys = std::max<int64_t>(batch_.keys[r] - std::max<int64_t>(unseen, 0), 0);
        body(r, i * tile(), std::min(tile(), rows - i * tile()), keys);
      }
    }
  }

  template <typename Body>
  void for_each_piece(const Body& body) const {
    for_each_tile([&](int request, int64_t row, int64_t, int64_t keys) {
      int64_t start = 0;
      do {  // once for a tile that sees no key: it gets zeros
        const int64_t end = std::min(start + limit_, keys);
        body(Piece{request, row, start, end, keys > limit_});
        start = end;
      } while (start < keys);
    });
  }

 private:
  // Keys of a piece at most: steps that leave few pieces short.
  static int64_t round_limit(int64_t keys) {
    if (keys <= 8) return 32;
    if (keys <= 16) return 64;
    if (keys <= 32) return 128;
    if (keys <= 64) return 192;
    return ceil_div(keys, 256) * 256;
  }

  int64_t heads_;
  const AttentionBatch& batch_;
  int width_ = 1, columns_ = 1;
  int64_t limit_ = 1;
};

// Hands out the staged memory.
class Cutter {
 public:
  explicit Cutter(std::span<std::byte> memory) : memory_(memory) {}
  template <typename T>
  std::span<T> take(int64_t count) {
    used_ = (used_ + 15) / 16 * 16;
    const size_t begin = used_;
    used_ += static_cast<size_t>(count) * sizeof(T);
    TANDEM_CHECK(used_ <= memory_.size(), "{} of {} bytes", used_, memory_.size());
    return {reinterpret_cast<T*>(memory_.data() + begin), static_cast<size_t>(count)};
  }
  size_t used() const { return used_; }

 private:
  std::span<std::byte> memory_;
  size_t used_ = 0;
};

constexpr MlaWord kPieceArrays[] = {kTokenStart, kPageStart, kPartialStart, kTokens,
                                    kKeys,       kRowStart,  kKeyStart,     kKeyEnd};
constexpr MlaWord kMergeArrays[] = {kMergeRowStart, kMergeRowEnd, kMergePartialStart,
                                    kMergePartialEnd, kMergeStride};

class Writer {
 public:
  Writer(const MlaShape& shape, const AttentionBatch& batch, int64_t pieces, int multiprocessors,
         std::span<std::byte> staged)
      : shape_(shape),
        batch_(batch),
        division_(shape, batch, multiprocessors),
        staged_(staged.data()),
        cutter_(staged) {
    for (const MlaWord word : kPieceArrays) take(word, pieces);
    take(kPieceStart, multiprocessors + 1);
    for (const MlaWord word : kMergeArrays) {
      take(word, multiprocessors);
      std::fill(arrays_[word].begin(), arrays_[word].end(), 0);
    }
    bytes_ = cutter_.used();
    heap_ = cutter_.take<Column>(multiprocessors).first(static_cast<size_t>(division_.columns()));
    column_of_ = cutter_.take<int32_t>(pieces);
    const auto rows = int64_t{2} * multiprocessors * kMlaTile;
    words_[kGridX] = division_.width();
    words_[kGridY] = division_.columns();
    words_[kPartialOutput] = 0;
    words_[kPartialWeight] = rows * kLatentDim * 2;
  }

  FilledPlan write() {
    choose_columns();
    write_pieces();
    write_merges();
    return {.plan = {words_}, .bytes = bytes_};
  }

 private:
  void take(MlaWord word, int64_t count) {
    arrays_[word] = cutter_.take<int32_t>(count);
    words_[word] = reinterpret_cast<std::byte*>(arrays_[word].data()) - staged_;
  }

  // Sets column_of_ and the columns' starts.
  void choose_columns() {
    for (size_t c = 0; c < heap_.size(); ++c) heap_[c] = {0, static_cast<int64_t>(c)};
    const std::span<int32_t> starts = arrays_[kPieceStart];
    std::fill(starts.begin(), starts.end(), 0);
    size_t piece = 0;
    division_.for_each_piece([&](const Piece& p) {
      TANDEM_CHECK(piece < column_of_.size(), "room for {} pieces", column_of_.size());
      std::pop_heap(heap_.begin(), heap_.end(), comes_later);
      Column& column = heap_.back();
      column_of_[piece++] = static_cast<int32_t>(column.index);
      ++starts[static_cast<size_t>(column.index) + 1];
      column.cost += 2 * division_.tile() + p.key_end - p.key_start;
      std::push_heap(heap_.begin(), heap_.end(), comes_later);
    });
    for (size_t c = 1; c < starts.size(); ++c) starts[c] += starts[c - 1];
  }

  void write_pieces() {
    // The heap's memory now counts what each column has got.
    for (size_t c = 0; c < heap_.size(); ++c) heap_[c].cost = arrays_[kPieceStart][c];
    size_t piece = 0;
    int64_t partial = 0;  // row of the next partial result
    division_.for_each_piece([&](const Piece& p) {
      const auto at = static_cast<size_t>(heap_[static_cast<size_t>(column_of_[piece++])].cost++);
      const int64_t rows = division_.tokens(p.request) * shape_.heads;
      set(kTokenStart, at, batch_.token_starts[p.request]);
      set(kPageStart, at, batch_.page_starts[p.request]);
      set(kPartialStart, at, p.split ? partial : -1);
      set(kTokens, at, division_.tokens(p.request));
      set(kKeys, at, batch_.keys[p.request]);
      set(kRowStart, at, p.row_start);
      set(kKeyStart, at, p.key_start);
      set(kKeyEnd, at, p.key_end);
      if (p.split) partial += std::min(division_.tile(), rows - p.row_start);
    });
  }

  // The rows of each split tile go to as many blocks as it has ranges of keys for each block of a
  // column, together.
  void write_merges() {
    size_t block = 0;
    int64_t partial = 0;
    division_.for_each_tile([&](int request, int64_t row, int64_t rows, int64_t keys) {
      if (keys <= division_.limit()) return;
      const int64_t first = int64_t{batch_.token_starts[request]} * shape_.heads + row;
      const int64_t parts = std::max<int64_t>(keys * division_.width() / division_.limit(), 1);
      const int64_t part = ceil_div(rows, parts);
      const int64_t end = partial + ceil_div(keys, division_.limit()) * rows;
      for (int64_t begin = 0; begin < rows; begin += part, ++block) {
        TANDEM_CHECK(block < arrays_[kMergeStride].size(), "{} merging blocks", block);
        set(kMergeRowStart, block, first + begin);
        set(kMergeRowEnd, block, first + std::min(begin + part, rows));
        set(kMergePartialStart, block, partial + begin);
        set(kMergePartialEnd, block, end);
        set(kMergeStride, block, rows);
      }
      partial = end;
    });
  }

  void set(MlaWord word, size_t index, int64_t value) {
    arrays_[word][index] = static_cast<int32_t>(value);
  }

  const MlaShape& shape_;
  const AttentionBatch& batch_;
  Division division_;
  std::byte* staged_;
  Cutter cutter_;
  std::array<std::span<int32_t>, kMlaWords> arrays_;
  std::span<Column> heap_;
  std::span<int32_t> column_of_;
  std::array<int64_t, kMlaWords> words_ = {};
  size_t bytes_ = 0;
};

}  // namespace

int64_t mla_pieces(const MlaShape& shape, int64_t tokens, int multiprocessors) {
  // Each request may leave a tile part empty; splitting adds a piece for each column at most.
  return ceil_div(tokens * shape.heads, kMlaTile) + tokens + multiprocessors;
}

size_t mla_plan_bytes(int64_t pieces, int multiprocessors) {
  const auto ints = 9 * static_cast<size_t>(pieces) + 6 * static_cast<size_t>(multiprocessors) + 1;
  constexpr size_t kPadding = 16 * (kMlaWords + 2);  // arrays begin at multiples of 16
  return ints * sizeof(int32_t) + static_cast<size_t>(multiprocessors) * sizeof(Column) + kPadding;
}

FilledPlan fill_mla_plan(const MlaShape& shape, const AttentionBatch& batch, int64_t pieces,
                         int multiprocessors, std::span<std::byte> staged) {
  return Writer(shape, batch, pieces, multiprocessors, staged).write();
}

}  // namespace tandem::cuda
