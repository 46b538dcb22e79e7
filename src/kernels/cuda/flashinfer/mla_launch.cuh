// Parameters of latent attention from ours to FlashInfer's.
#pragma once

#include <flashinfer/attention/mla_params.cuh>

#include "kernels/cuda/flashinfer/common.h"
#include "kernels/cuda/flashinfer/mla_launch.h"
#include "kernels/cuda/mla_plan.h"

namespace tandem::cuda::flashinfer {

namespace library = ::flashinfer;

template <typename Half>
using Params = library::MLAParams<Half, Half, Half, int32_t>;

// Arrays of the plan.
template <typename Half>
void set_plan(const MlaParams& p, Params<Half>& params) {
  const auto at = [&](MlaWord word) {
    return reinterpret_cast<int32_t*>(p.memory.plan + p.plan.words[word]);
  };
  params.q_indptr = at(kTokenStart);
  params.kv_indptr = at(kPageStart);
  params.partial_indptr = at(kPartialStart);
  params.merge_packed_offset_start = at(kMergeRowStart);
  params.merge_packed_offset_end = at(kMergeRowEnd);
  params.merge_partial_packed_offset_start = at(kMergePartialStart);
  params.merge_partial_packed_offset_end = at(kMergePartialEnd);
  params.merge_partial_stride = at(kMergeStride);
  params.q_len = at(kTokens);
  params.kv_len = at(kKeys);
  params.q_start = at(kRowStart);
  params.kv_start = at(kKeyStart);
  params.kv_end = at(kKeyEnd);
  params.work_indptr = at(kPieceStart);
}

template <typename Half>
Params<Half> make_params(const MlaParams& p) {
  constexpr uint32_t kRow = kLatentDim + kLatentRope;
  const MlaScratch scratch = cut_mla_scratch(p);
  const auto heads = static_cast<uint32_t>(p.shape.heads);
  Params<Half> params{};
  set_plan(p, params);
  params.q_nope = reinterpret_cast<Half*>(scratch.queries);
  params.q_pe = params.q_nope + kLatentDim;
  params.q_nope_stride_n = params.q_pe_stride_n = heads * kRow;
  params.q_nope_stride_h = params.q_pe_stride_h = kRow;
  params.ckv = reinterpret_cast<Half*>(p.cache.keys);
  params.kpe = params.ckv + kLatentDim;
  params.ckv_stride_page = params.kpe_stride_page = static_cast<uint32_t>(p.cache.page_stride);
  params.ckv_stride_n = params.kpe_stride_n = static_cast<uint32_t>(p.cache.token_stride);
  params.kv_indices = readable(p.pages);
  params.partial_o = reinterpret_cast<Half*>(scratch.partial + p.plan.words[kPartialOutput]);
  params.partial_lse = reinterpret_cast<float*>(scratch.partial + p.plan.words[kPartialWeight]);
  params.final_o = reinterpret_cast<Half*>(scratch.outputs);
  params.final_lse = nullptr;
  params.o_stride_n = heads * kLatentDim;
  params.o_stride_h = kLatentDim;
  params.block_size = library::uint_fastdiv(static_cast<uint32_t>(p.shape.page_size));
  params.num_heads = library::uint_fastdiv(heads);
  params.sm_scale = p.scale;
  params.return_lse_base_on_e = false;
  return params;
}

}  // namespace tandem::cuda::flashinfer
