// How the tokens of a call become A tiles.
#pragma once

#include "kernels/cpu/amx/tile_shape.h"

namespace tandem::cpu::amx {

// Tiles of equally many rows, as few as hold all tokens; where the tokens do not divide, the last
// tile begins earlier and computes some of them again, to the same bits. So one configuration
// serves all tiles, no row beyond the last is read, and no work is spent on padding: 17 tokens are
// two tiles of 9, not 16 and 1.
struct TokenTiles {
  int tokens;
  int count;
  int rows;

  static TokenTiles of(int tokens) {
    const int count = (tokens + kTileRows - 1) / kTileRows;
    return {tokens, count, (tokens + count - 1) / count};
  }
  // With rows rounded up to a multiple of four, unless that is more than there are tokens.
  TokenTiles in_fours() const {
    const int rounded = (rows + 3) / 4 * 4;
    return rounded <= tokens ? TokenTiles{tokens, count, rounded} : *this;
  }
  // First token of a tile.
  int first(int tile) const {
    const int regular = tile * rows;
    return regular + rows <= tokens ? regular : tokens - rows;
  }
};

}  // namespace tandem::cpu::amx
