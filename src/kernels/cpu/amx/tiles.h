// The tile registers of this thread's core: configured while a Tiles lives.
//
// The kernels are templates over this class and EmulatedTiles. Tile numbers are part of the
// instructions, hence template arguments. The compiler's intrinsics are macros that paste the
// number's text, which a template argument has none of, and GCC's do not tell all that a tile load
// or a configuration reads from memory; so the instructions are written out here. Every load and
// store orders the memory accesses around it.
#pragma once

#include <cstdint>

#include "kernels/cpu/amx/tile_shape.h"

namespace tandem::cpu::amx {

class Tiles {
 public:
  // Configures once per kernel call, some 30 cycles. Released at the end, because a thread that
  // sleeps with tiles in use has 8 KB more to save and keeps its core from deep sleep.
  explicit Tiles(const TileConfig& config) { asm volatile("ldtilecfg %0" ::"m"(config)); }
  ~Tiles() { asm volatile("tilerelease"); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;

  template <int kTile>
  void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  // Rows `stride` bytes apart.
  template <int kTile>
  void load(const void* rows, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(rows), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  void store(void* rows, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(rows), "r"(stride), "i"(kTile) : "memory");
  }
  // C[m, n] += sum over k, i of A[m, 4k + i] * B[k, 4n + i]: A, then B of int8 (s) or uint8 (u).
  template <int kC, int kA, int kB>
  void dpbssd() {
    asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
  }
  template <int kC, int kA, int kB>
  void dpbsud() {
    asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
  }
  template <int kC, int kA, int kB>
  void dpbusd() {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
  }
  template <int kC, int kA, int kB>
  void dpbuud() {
    asm volatile("tdpbuud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kC), "i"(kA), "i"(kB));
  }
};

}  // namespace tandem::cpu::amx
