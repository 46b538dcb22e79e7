// Ends the program with one clear line on a CPU below AVX2. Compiled for plain x86-64 and run
// before any other initialiser, because the rest of the binary may use AVX2 anywhere.
#include <cstdlib>

#include <unistd.h>

namespace {

__attribute__((constructor(101))) void require_avx2() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("bmi2")) {
    return;
  }
  static constexpr char kMessage[] =
      "tandem: this CPU (or virtual machine) has no AVX2, FMA or BMI2; tandem needs an x86-64-v3 "
      "CPU "
      "(Intel Haswell, AMD Zen or newer)\n";
  [[maybe_unused]] auto written = write(2, kMessage, sizeof kMessage - 1);
  _exit(1);
}

}  // namespace
