// The list of kernel tables and the choice among them. Compiled for the base instruction set, like
// everything that runs before the choice.
#include "kernels/cpu/kernels.h"

#include "base/error.h"
#include "kernels/cpu/avx2/table.h"
#include "kernels/cpu/avx512/table.h"
#include "kernels/cpu/avxvnni/table.h"
#include "kernels/cpu/generic/table.h"

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

Table make_table(std::string_view name, bool supported, void (*fill)(Table&)) {
  Table table{};
  table.name = name;
  table.supported = supported;
  if (supported) fill(table);
  return table;
}

}  // namespace

int64_t attention_scratch_floats(int heads, int key_dim, int value_dim) {
  return int64_t{kAttentionTile} * (key_dim + value_dim) + 2 * int64_t{heads};
}

std::span<const Table> tables() {
  static const std::array<Table, 4> list = {
      make_table("generic", true, generic::fill_table),
      make_table("avx2", has_avx2(), avx2::fill_table),
      make_table("avxvnni", has_avxvnni(), avxvnni::fill_table),
      make_table("avx512", has_avx512(), avx512::fill_table),
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
  if (!name.empty()) throw Error("--cpu-isa {}: unknown; known are generic, avx2, avxvnni, avx512", name);
  return *best;
}

}  // namespace tandem::cpu
