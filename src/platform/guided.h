// Guided self-scheduling in rounds ("factoring", Hummel, Schonberg and Flynn 1992): the pieces of a
// loop are long at first, so that threads read long runs of memory, and short at the end, so that
// threads end together. A piece follows from its number alone, so that taking one is a single
// fetch_add, whoever else takes one at the same moment.
//
//   round 0: `threads` pieces of 1/2 of the items in all, round 1: of 1/2 of the rest, ... 1, 1, 1
#pragma once

#include <algorithm>
#include <cstdint>

namespace tandem::platform {

struct Piece {
  int64_t begin;
  int64_t end;  // begin == end: there is no such piece, nor any later one
};

inline Piece guided_piece(int64_t number, int64_t items, int64_t threads) {
  int64_t first = 0;
  for (;;) {
    const int64_t length = (items - first) / (2 * threads);
    if (length <= 1) break;  // from here on, and where nothing is left: single items
    if (number < threads) {
      return {first + number * length, first + (number + 1) * length};
    }
    number -= threads;
    first += threads * length;
  }
  const int64_t begin = std::min(first + number, items);
  return {begin, std::min(begin + 1, items)};
}

}  // namespace tandem::platform
