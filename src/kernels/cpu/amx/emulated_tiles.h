// The tile registers in plain C++, so that machines without them test the kernels' data layout. As
// on the real ones, a wrong shape ends the program with an undefined instruction, and a load clears
// what lies beyond the configured shape.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/amx/tile_shape.h"

namespace tandem::cpu::amx {

class EmulatedTiles {
 public:
  explicit EmulatedTiles(const TileConfig& config) : config_(config) {
    require(config.palette == 1 && config.start_row == 0);
    for (int i = 0; i < 16; ++i) {
      require(i < kTiles || (config.rows[i] == 0 && config.row_bytes[i] == 0));
      require(config.rows[i] <= kTileRows && config.row_bytes[i] <= kTileRowBytes);
    }
    std::memset(tiles_, 0, sizeof tiles_);
  }

  template <int kTile>
  void zero() {
    std::memset(tiles_[kTile], 0, sizeof tiles_[kTile]);
  }
  template <int kTile>
  void load(const void* rows, int64_t stride) {
    require(rows_of(kTile) > 0 && bytes_of(kTile) > 0);
    zero<kTile>();
    for (int r = 0; r < rows_of(kTile); ++r) {
      std::memcpy(tiles_[kTile][r], static_cast<const char*>(rows) + r * stride,
                  static_cast<size_t>(bytes_of(kTile)));
    }
  }
  template <int kTile>
  void store(void* rows, int64_t stride) {
    require(rows_of(kTile) > 0 && bytes_of(kTile) > 0);
    for (int r = 0; r < rows_of(kTile); ++r) {
      std::memcpy(static_cast<char*>(rows) + r * stride, tiles_[kTile][r],
                  static_cast<size_t>(bytes_of(kTile)));
    }
  }
  template <int kC, int kA, int kB>
  void dpbssd() {
    multiply<int8_t, int8_t, kC, kA, kB>();
  }
  template <int kC, int kA, int kB>
  void dpbsud() {
    multiply<int8_t, uint8_t, kC, kA, kB>();
  }
  template <int kC, int kA, int kB>
  void dpbusd() {
    multiply<uint8_t, int8_t, kC, kA, kB>();
  }
  template <int kC, int kA, int kB>
  void dpbuud() {
    multiply<uint8_t, uint8_t, kC, kA, kB>();
  }

 private:
  static void require(bool defined) {
    if (!defined) __builtin_trap();
  }
  int rows_of(int tile) const { return config_.rows[tile]; }
  int bytes_of(int tile) const { return config_.row_bytes[tile]; }

  template <typename AElement, typename BElement, int kC, int kA, int kB>
  [[gnu::noinline]] void multiply() {
    static_assert(kC != kA && kC != kB && kA != kB);
    require(rows_of(kC) > 0 && rows_of(kC) == rows_of(kA));
    require(bytes_of(kC) > 0 && bytes_of(kC) == bytes_of(kB) && bytes_of(kC) % 4 == 0);
    require(bytes_of(kA) > 0 && bytes_of(kA) == 4 * rows_of(kB));
    for (int m = 0; m < rows_of(kC); ++m) {
      int32_t c[kTileRows];
      std::memcpy(c, tiles_[kC][m], sizeof c);
      for (int k = 0; k < rows_of(kB); ++k) {
        BElement b[kTileRowBytes];
        AElement a[4];
        std::memcpy(b, tiles_[kB][k], sizeof b);
        std::memcpy(a, tiles_[kA][m] + 4 * k, sizeof a);
        for (int n = 0; n < bytes_of(kC) / 4; ++n) {
          for (int i = 0; i < 4; ++i) c[n] += a[i] * b[4 * n + i];
        }
      }
      std::memcpy(tiles_[kC][m], c, sizeof c);
    }
  }

  TileConfig config_;
  char tiles_[kTiles][kTileRows][kTileRowBytes];
};

}  // namespace tandem::cpu::amx
