// How fast the GPU's memory, its tensor cores and the bus to it are: what predictions stand on.
#pragma once

namespace tandem::ops {

// Bytes and floating-point operations (two for a multiply-add) a second.
struct GpuSpeeds {
  double memory = 0.0;  // read and written by a copy on the device
  double upload = 0.0;  // from page-locked host memory
  double bf16 = 0.0;    // tensor cores at the highest clock, as the card's kind has them
};

// Of the first GPU, in some 50 ms. Throws Error where there is none.
GpuSpeeds measure_gpu_speeds();

}  // namespace tandem::ops
