// Products as the tile unit has them: 16 x 16 sums of 64 products, one instruction.
#include "kernels/cpu/amx/peak.h"

#include "kernels/cpu/amx/tiles.h"

namespace tandem::cpu::amx {

int64_t peak_products(int64_t rounds) {
  TileConfig config;
  for (int tile = 0; tile < kTiles; ++tile) {
    config.row_bytes[tile] = kTileRowBytes;
    config.rows[tile] = kTileRows;
  }
  Tiles tiles(config);
  tiles.zero<0>();
  tiles.zero<1>();
  tiles.zero<2>();
  tiles.zero<3>();
  tiles.zero<4>();
  tiles.zero<5>();
  tiles.zero<6>();
  tiles.zero<7>();
  // Four independent sums from registers: an instruction takes 16 cycles, its result 52.
  for (int64_t round = 0; round < rounds; ++round) {
    tiles.dpbssd<0, 4, 6>();
    tiles.dpbssd<1, 4, 7>();
    tiles.dpbssd<2, 5, 6>();
    tiles.dpbssd<3, 5, 7>();
  }
  return rounds * 4 * kTileRows * kTileRows * kTileRowBytes;
}

}  // namespace tandem::cpu::amx
