// Parameters from ours to FlashInfer's, and its kernels for one head size. Outputs and partial
// results are floats.
#pragma once

#include <flashinfer/attention/default_prefill_params.cuh>
#include <flashinfer/attention/prefill.cuh>
#include <flashinfer/attention/scheduler.cuh>
#include <flashinfer/attention/variants.cuh>

#include "kernels/cuda/attention_merge.h"
#include "kernels/cuda/flashinfer/common.h"
#include "kernels/cuda/flashinfer/gqa_launch.h"
#include "kernels/cuda/launch.h"

// The library merges partial results of 16-bit floats only; its template does not compile for
// others. Where it would have the merged logarithms written, which nobody asks for, the outputs for
// products go (make_params).
template <>
inline cudaError_t flashinfer::VariableLengthMergeStates<float, float, int32_t>(
    float* partial, float* lse, int32_t* starts, float* merged, float* rounded, uint32_t max_rows,
    uint32_t* rows, uint32_t heads, uint32_t dim, bool, cudaStream_t stream) {
  tandem::cuda::merge_attention({.partial = partial,
                                 .lse = lse,
                                 .starts = starts,
                                 .out = merged,
                                 .rows = rows,
                                 .max_rows = static_cast<int>(max_rows),
                                 .heads = static_cast<int>(heads),
                                 .dim = static_cast<int>(dim),
                                 .rounded = reinterpret_cast<__nv_bfloat16*>(rounded)},
                                stream);
  return cudaSuccess;
}

namespace tandem::cuda::flashinfer {

namespace library = ::flashinfer;

template <typename Half>
using Params = library::BatchPrefillPagedParams<Half, Half, float, int32_t>;

template <typename Half>
library::paged_kv_t<Half, int32_t> paged_cache(const GqaParams& p) {
  const int64_t strides[3] = {p.cache.page_stride, p.cache.head_stride, p.cache.token_stride};
  return library::paged_kv_t<Half, int32_t>(
      static_cast<uint32_t>(p.shape.kv_heads), static_cast<uint32_t>(p.shape.page_size),
      static_cast<uint32_t>(p.shape.dim), static_cast<uint32_t>(p.requests),
      library::QKVLayout::kHND, reinterpret_cast<Half*>(p.cache.keys),
      reinterpret_cast<Half*>(p.cache.values), strides, readable(p.pages), readable(p.page_starts),
      readable(p.last_page_keys));
}

template <typename Half>
Params<Half> make_params(const GqaParams& p, const library::PrefillPlanInfo& plan) {
  const auto at = [&]<typename T>(int64_t offset, T*) {
    return reinterpret_cast<T*>(p.memory.plan + offset);
  };
  const int heads = p.shape.heads, dim = p.shape.dim;
  Params<Half> params(reinterpret_cast<Half*>(cut_gqa_scratch(p).queries), paged_cache<Half>(p),
                      nullptr, readable(p.token_starts), nullptr, nullptr, p.out,
                      plan.split_kv ? reinterpret_cast<float*>(p.rounded) : nullptr, nullptr,
                      static_cast<uint32_t>(heads), heads * dim, dim, /*window_left=*/-1,
                      /*logits_soft_cap=*/0.0F, p.scale, /*rope_scale=*/1.0F, /*rope_theta=*/1e4F);
  int32_t* none = nullptr;
  params.request_indices = at(plan.request_indices_offset, none);
  params.qo_tile_indices = at(plan.qo_tile_indices_offset, none);
  params.kv_tile_indices = at(plan.kv_tile_indices_offset, none);
  params.o_indptr = at(plan.o_indptr_offset, none);
  params.kv_chunk_size_ptr = at(plan.kv_chunk_size_ptr_offset, none);
  if (plan.split_kv) params.merge_indptr = at(plan.merge_indptr_offset, none);
  if (plan.enable_cuda_graph) {
    params.block_valid_mask = at(plan.block_valid_mask_offset, static_cast<bool*>(nullptr));
    params.total_num_rows = at(plan.total_num_rows_offset, static_cast<uint32_t*>(nullptr));
  }
  params.padded_batch_size = static_cast<uint32_t>(plan.padded_batch_size);
  params.max_total_num_rows = static_cast<uint32_t>(plan.total_num_rows);
  return params;
}

template <int kDim, typename Half>
void launch_gqa(const GqaParams& p, cudaStream_t stream) {
  library::PrefillPlanInfo plan;
  plan.FromVector({p.plan.words.begin(), p.plan.words.end()});
  const Params<Half> params = make_params<Half>(p, plan);
  std::byte* partial = plan.split_kv ? cut_gqa_scratch(p).partial : nullptr;
  auto* sums = plan.split_kv ? reinterpret_cast<float*>(partial + plan.v_offset) : nullptr;
  auto* weights = plan.split_kv ? reinterpret_cast<float*>(partial + plan.s_offset) : nullptr;
  const auto run = [&]<uint32_t kTile>() {
    return library::BatchPrefillWithPagedKVCacheDispatched<
        /*SAME_KV_STRIDES=*/true, kTile, kDim, kDim, library::PosEncodingMode::kNone,
        /*USE_FP16_QK_REDUCTION=*/false, library::MaskMode::kCausal,
        library::DefaultAttention<false, false, false, false>>(params, sums, weights,
                                                               has_dependent_launch(), stream);
  };
  call("grouped-query attention", [&] {
    if (plan.cta_tile_q == 16) return run.template operator()<16>();
    if (plan.cta_tile_q == 64) return run.template operator()<64>();
    return run.template operator()<128>();
  });
}

template <int kDim>
void launch_gqa_of_type(const GqaParams& p, cudaStream_t stream) {
  if (p.cache.type == CacheType::kF16) {
    launch_gqa<kDim, half>(p, stream);
  } else {
    launch_gqa<kDim, nv_bfloat16>(p, stream);
  }
}

}  // namespace tandem::cuda::flashinfer
