// Parameters of latent attention from ours to FlashInfer's.
#pragma once

#include <flashinfer/attention/mla_params.cuh>
#include <flashinfer/attention/scheduler.cuh>

#include "kernels/cuda/flashinfer/common.h"
#include "kernels/cuda/flashinfer/mla_launch.h"

namespace tandem::cuda::flashinfer {

namespace library = ::flashinfer;

template <typename Half>
using Params = library::MLAParams<Half, Half, Half, int32_t>;

inline library::MLAPlanInfo plan_info(const MlaPlan& plan) {
  library::MLAPlanInfo info;
  info.FromVector({plan.words.begin(), plan.words.end()});
  return info;
}

// Arrays of the plan.
template <typename Half>
void set_plan(const MlaParams& p, const library::MLAPlanInfo& plan, Params<Half>& params) {
  const auto at = [&](int64_t offset) {
    return reinterpret_cast<int32_t*>(p.memory.plan + offset);
  };
  params.q_indptr = at(plan.q_indptr_offset);
  params.kv_indptr = at(plan.kv_indptr_offset);
  params.partial_indptr = at(plan.partial_indptr_offset);
  params.merge_packed_offset_start = at(plan.merge_packed_offset_start_offset);
  params.merge_packed_offset_end = at(plan.merge_packed_offset_end_offset);
  params.merge_partial_packed_offset_start = at(plan.merge_partial_packed_offset_start_offset);
  params.merge_partial_packed_offset_end = at(plan.merge_partial_packed_offset_end_offset);
  params.merge_partial_stride = at(plan.merge_partial_stride_offset);
  params.q_len = at(plan.q_len_offset);
  params.kv_len = at(plan.kv_len_offset);
  params.q_start = at(plan.q_start_offset);
  params.kv_start = at(plan.kv_start_offset);
  params.kv_end = at(plan.kv_end_offset);
  params.work_indptr = at(plan.work_indptr_offset);
}

template <typename Half>
Params<Half> make_params(const MlaParams& p, const library::MLAPlanInfo& plan) {
  constexpr uint32_t kRow = kLatentDim + kLatentRope;
  const MlaScratch scratch = cut_mla_scratch(p);
  const auto heads = static_cast<uint32_t>(p.shape.heads);
  Params<Half> params{};
  set_plan(p, plan, params);
  params.q_nope = reinterpret_cast<Half*>(scratch.queries);
  params.q_pe = params.q_nope + kLatentDim;
  params.q_nope_stride_n = params.q_pe_stride_n = heads * kRow;
  params.q_nope_stride_h = params.q_pe_stride_h = kRow;
  params.ckv = reinterpret_cast<Half*>(p.cache.keys);
  params.kpe = params.ckv + kLatentDim;
  params.ckv_stride_page = params.kpe_stride_page = static_cast<uint32_t>(p.cache.page_stride);
  params.ckv_stride_n = params.kpe_stride_n = static_cast<uint32_t>(p.cache.token_stride);
  params.kv_indices = readable(p.pages);
  params.partial_o = reinterpret_cast<Half*>(scratch.partial + plan.partial_o_offset);
  params.partial_lse = reinterpret_cast<float*>(scratch.partial + plan.partial_lse_offset);
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
