// Planning latent attention: which block works on which rows and keys. The arrays are those that
// FlashInfer's kernels read (its MLAPlan makes the same ones, but allocates, has room for 16384
// pieces always, and checks no bounds).
//
// Rows are (token, head) pairs of a request. A piece is a tile of rows and a range of keys; columns
// of blocks take pieces in turn, the least loaded first. Where a tile's keys are split, blocks
// merge its partial results afterwards.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/attention.h"

namespace tandem::cuda {

// What the words of a MlaPlan say: the grid, then offsets in bytes into the plan, then into the
// partial results.
enum MlaWord : uint8_t {
  kGridX,              // 1 or 2 blocks share a piece, 64 rows each
  kGridY,              // columns
  kTokenStart,         // [pieces] first token of the piece's request
  kPageStart,          // [pieces] first of its pages in the list
  kPartialStart,       // [pieces] row of its partial result, -1: it writes the result itself
  kTokens,             // [pieces] tokens of the request
  kKeys,               // [pieces] keys of the request
  kRowStart,           // [pieces] first row
  kKeyStart,           // [pieces] range of keys
  kKeyEnd,             // [pieces]
  kPieceStart,         // [columns + 1] first piece of each column
  kMergeRowStart,      // [multiprocessors] rows that a block merges, of all
  kMergeRowEnd,        // [multiprocessors]
  kMergePartialStart,  // [multiprocessors] first partial row of the first of them
  kMergePartialEnd,    // [multiprocessors]
  kMergeStride,        // [multiprocessors] partial rows from a range of keys to the next
  kPartialOutput,      // [2 * 64 * multiprocessors, 512] 16-bit floats
  kPartialWeight,      // [2 * 64 * multiprocessors] floats
  kMlaWords,
};

inline constexpr int kMlaTile = 64;  // rows of a block

// Pieces that a step of `tokens` tokens may need on a device of so many multiprocessors.
int64_t mla_pieces(const MlaShape& shape, int64_t tokens, int multiprocessors);
// Bytes of the arrays for `pieces`, and of what planning itself needs behind them.
size_t mla_plan_bytes(int64_t pieces, int multiprocessors);

struct FilledPlan {
  MlaPlan plan;
  size_t bytes;  // to be copied to the device
};
// Fills `staged`, of mla_plan_bytes(pieces, multiprocessors).
FilledPlan fill_mla_plan(const MlaShape& shape, const AttentionBatch& batch, int64_t pieces,
                         int multiprocessors, std::span<std::byte> staged);

}  // namespace tandem::cuda
