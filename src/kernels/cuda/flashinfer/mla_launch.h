// The launches of latent attention, one translation unit for each form.
#pragma once

#include "kernels/cuda/attention.h"

namespace tandem::cuda::flashinfer {

// How the scratch memory is cut.
struct MlaScratch {
  std::byte* queries;  // [T, H, 512 + 64] 16-bit floats
  std::byte* outputs;  // [T, H, 512] 16-bit floats
  std::byte* partial;  // what FlashInfer keeps of partial results
};
MlaScratch cut_mla_scratch(const MlaParams& params);

void launch_mla_ampere(const MlaParams& params, cudaStream_t stream);
void launch_mla_hopper(const MlaParams& params, cudaStream_t stream);

}  // namespace tandem::cuda::flashinfer
