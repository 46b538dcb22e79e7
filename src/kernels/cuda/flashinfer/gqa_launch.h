// The launches of grouped-query attention, one translation unit for each head size.
#pragma once

#include "kernels/cuda/attention.h"

namespace tandem::cuda::flashinfer {

// How the scratch memory is cut: queries as 16-bit floats, then what FlashInfer keeps of partial
// results.
struct GqaScratch {
  std::byte* queries;
  std::byte* partial;
};
GqaScratch cut_gqa_scratch(const GqaParams& params);
// Whether the plan splits keys, so that partial results are merged.
bool merges(const GqaPlan& plan);

void launch_gqa_64(const GqaParams& params, cudaStream_t stream);
void launch_gqa_128(const GqaParams& params, cudaStream_t stream);

}  // namespace tandem::cuda::flashinfer
