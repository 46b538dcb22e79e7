// What the real and the emulated tile registers share: their configuration.
#pragma once

#include <cstdint>

namespace tandem::cpu::amx {

inline constexpr int kTiles = 8;
inline constexpr int kTileRows = 16;      // at most
inline constexpr int kTileRowBytes = 64;  // at most

// The 64 bytes that `ldtilecfg` reads.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};  // of tile i; tiles beyond kTiles stay 0
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace tandem::cpu::amx
