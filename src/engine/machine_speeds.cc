// Asks platform and ops in turn.
#include "engine/machine_speeds.h"

#include "ops/gpu_speeds.h"
#include "platform/bandwidth.h"

namespace tandem::engine {

MachineSpeeds measure_speeds(platform::ThreadPool& pool, const cpu::Table& table, bool with_gpu,
                             const MachineSpeeds& known) {
  MachineSpeeds speeds = known;
  speeds.isa = table.name;
  if (speeds.host_read == 0.0) speeds.host_read = platform::measure_bandwidth(pool).read;
  if (speeds.host_int8 == 0.0) speeds.host_int8 = ops::measure_peak_int8(pool, table);
  if (with_gpu && speeds.gpu_memory == 0.0) {
    const ops::GpuSpeeds gpu = ops::measure_gpu_speeds();
    speeds.gpu_memory = gpu.memory;
    speeds.gpu_upload = gpu.upload;
    speeds.gpu_bf16 = gpu.bf16;
  }
  return speeds;
}

}  // namespace tandem::engine
