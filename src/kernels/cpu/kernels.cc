// The list of kernel tables and the choice among them. Compiled for the base instruction set, like
// everything that runs before the choice.
#include "kernels/cpu/kernels.h"

#include <algorithm>

#include <sys/syscall.h>
#include <unistd.h>

#include "base/error.h"
#include "kernels/cpu/amx/table.h"
#include "kernels/cpu/avx2/table.h"
#include "kernels/cpu/avx512/table.h"
#include "kernels/cpu/avxvnni/table.h"
#include "kernels/cpu/generic/table.h"
#include "kernels/cpu/latent.h"

namespace tandem::cpu {
namespace {

// __builtin_cpu_supports asks the operating system's permission for wide registers too.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

bool has_avxvnni() { return has_avx2() && __builtin_cpu_supports("avxvnni"); }

bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vnni");
}

// Tile registers are 8 KB a thread, which the kernel saves for those processes only that asked.
// What it grants holds for all threads.
bool tiles_granted() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // the state component
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool has_amx() {
  return has_avx512() && __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") &&
         tiles_granted();
}

// How far weights are asked for ahead of the products of a few tokens. 16 cores of an Emerald
// Rapids Xeon read experts at 107 to 120 GB/s so, and at 92 to 95 without, of 125 that a plain sum
// reads; 4096 bytes are not far enough. Zen 4's hardware runs ahead by itself: its cores are slower
// by a quarter with any such request (docs/cpu-kernels.md).
int64_t best_prefetch_bytes() { return __builtin_cpu_is("intel") ? 8192 : 0; }

Table make_table(std::string_view name, bool supported, void (*fill)(Table&)) {
  Table table{};
  table.name = name;
  table.supported = supported;
  if (!supported) return table;
  table.prefetch_bytes = best_prefetch_bytes();
  fill(table);
  return table;
}

}  // namespace

int attention_span(int num_keys) {
  int span = kAttentionAlignment;
  while (num_keys > kAttentionSpans * span) span *= 2;
  return span;
}

int64_t attention_scratch_floats(int key_dim, int value_dim) {
  // A tile of keys and of values, each query's weights in it, its output in two layouts, and
  // itself.
  const int64_t floats = int64_t{kAttentionTile} * (key_dim + value_dim) +
                         int64_t{kAttentionQueries} * (kAttentionTile + 2 * value_dim + key_dim);
  return std::max(floats, LatentScratch(key_dim, value_dim).end);
}

int64_t attention_partial_floats(int value_dim) { return value_dim + 16; }

std::span<const Table> tables() {
  static const std::array<Table, 5> list = {
      make_table("generic", true, generic::fill_table),
      make_table("avx2", has_avx2(), avx2::fill_table),
      make_table("avxvnni", has_avxvnni(), avxvnni::fill_table),
      make_table("avx512", has_avx512(), avx512::fill_table),
      make_table("amx", has_amx(), amx::fill_table),
  };
  return list;
}

const Table& select(std::string_view name) {
  const Table* best = nullptr;
  for (const Table& table : tables()) {
    if (table.supported) best = &table;
    if (name.empty() || table.name != name) continue;
    if (!table.supported) throw Error("--cpu-isa {}: this CPU does not support it", name);
    return table;
  }
  if (!name.empty())
    throw Error("--cpu-isa {}: unknown; known are generic, avx2, avxvnni, avx512, amx", name);
  return *best;
}

}  // namespace tandem::cpu
