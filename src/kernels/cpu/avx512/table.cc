// Fills the avx512 kernel table: linear kernels from linear.h, float kernels by instantiating
// kernels/cpu/lanes.
#include "kernels/cpu/avx512/table.h"

#include "kernels/cpu/avx512/ints16.h"
#include "kernels/cpu/avx512/linear.h"
#include "kernels/cpu/avx512/peak.h"
#include "kernels/cpu/avx512/vec16.h"
#include "kernels/cpu/lanes/attention.inl.h"
#include "kernels/cpu/lanes/elementwise.inl.h"

namespace tandem::cpu::avx512 {

void fill_table(Table& table) {
  for (int id = 0; id < kDTypeLimit; ++id) {
    table.linear[static_cast<size_t>(id)] = linear_kernel(static_cast<DType>(id));
    table.pack[static_cast<size_t>(id)] = pack_kernel(static_cast<DType>(id));
  }
  table.quantize_a32 = quantize_a32;
  table.quantize_a256 = quantize_a256;
  table.rms_norm = lanes::rms_norm<Vec16>;
  table.silu_mul = lanes::silu_mul<Vec16>;
  table.add = lanes::add<Vec16>;
  table.multiply_add = lanes::multiply_add<Vec16>;
  table.softmax = lanes::softmax<Vec16>;
  table.sigmoid = lanes::sigmoid<Vec16>;
  table.rope = lanes::rope<Vec16>;
  table.attention = lanes::attention<Vec16, Ints16>;
  table.merge_attention = lanes::merge_attention<Vec16>;
  table.store_kv = lanes::store_kv<Vec16>;
  table.store_kv_column = lanes::store_kv_column<Vec16>;
  table.store_latent = lanes::store_latent<Vec16, Ints16>;
  table.peak_products = peak_products;
}

}  // namespace tandem::cpu::avx512
