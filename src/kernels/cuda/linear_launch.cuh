// From a weight type at run time to a launch of the kernels of that type.
#pragma once

#include <algorithm>

#include "kernels/cuda/linear_few.cuh"
#include "kernels/cuda/linear_many.cuh"
#include "quant/panel_layout.h"
#include "quant/types.h"

namespace tandem::cuda {

// Calls f(QuantType<type>()) for a type that has panels.
template <typename F>
void with_quant_type(DType type, const F& f) {
  switch (type) {
#define TANDEM_QUANT_TYPE(name) \
  case DType::name:             \
    return f(QuantType<DType::name>())
    TANDEM_QUANT_TYPE(kQ4_0);
    TANDEM_QUANT_TYPE(kQ4_1);
    TANDEM_QUANT_TYPE(kQ5_0);
    TANDEM_QUANT_TYPE(kQ5_1);
    TANDEM_QUANT_TYPE(kQ8_0);
    TANDEM_QUANT_TYPE(kIQ4_NL);
    TANDEM_QUANT_TYPE(kMXFP4);
    TANDEM_QUANT_TYPE(kQ2_K);
    TANDEM_QUANT_TYPE(kQ3_K);
    TANDEM_QUANT_TYPE(kQ4_K);
    TANDEM_QUANT_TYPE(kQ5_K);
    TANDEM_QUANT_TYPE(kQ6_K);
    TANDEM_QUANT_TYPE(kIQ4_XS);
#undef TANDEM_QUANT_TYPE
    default:
      return;  // checked by the callers' callers (linear.cc, experts.cc)
  }
}

inline void set_shape(JobBase& job, DType type, int n, int k) {
  job.panel_bytes = quant::panel_bytes(type, k);
  job.k = k;
  job.blocks = k / quant::traits(type).block_elements;
  job.stages = (k + kStageColumns - 1) / kStageColumns;
  job.tiles = (n + 15) / 16;
}

inline void set_tokens(DenseGroups& job, int tokens, int group_tokens) {
  job.tokens = tokens;
  job.group_tokens = group_tokens;
  job.groups = (tokens + group_tokens - 1) / group_tokens;
}

inline LinearJob linear_job(const LinearParams& params, int group_tokens) {
  LinearJob job = {};
  const DType type = params.matrices[0].type;
  set_shape(job, type, 0, params.k);
  for (int i = 0; i < params.count; ++i) {
    const LinearMatrix& m = params.matrices[i];
    job.parts[i] = {
        static_cast<const char*>(m.w), m.bias, m.y, m.y_stride, m.n, job.tiles, m.add, m.rounded};
    job.tiles += (m.n + 15) / 16;
  }
  job.part_count = params.count;
  job.x = params.x.data;
  job.x_stride = params.x.stride;
  set_tokens(job, params.tokens, group_tokens);
  return job;
}

inline GatedJob<DenseGroups> gated_job(const GatedParams& params, int group_tokens) {
  GatedJob<DenseGroups> job = {};
  set_shape(job, params.type, params.n, params.k);
  job.gate = static_cast<const char*>(params.gate);
  job.up = static_cast<const char*>(params.up);
  job.x = params.x.data;
  job.x_stride = params.x.stride;
  job.y = params.y.data;
  job.y_stride = params.y.stride;
  job.n = params.n;
  set_tokens(job, params.tokens, group_tokens);
  return job;
}

inline HeadsJob heads_job(const HeadsParams& params, int group_tokens) {
  HeadsJob job = {};
  set_shape(job, params.type, params.n, params.k);
  job.w = static_cast<const char*>(params.w);
  job.head_bytes = job.tiles * job.panel_bytes;
  job.heads = params.heads;
  job.x = params.x.data;
  job.x_stride = params.x.stride;
  job.x_head_stride = params.x_head_stride;
  job.y = params.y;
  job.y_stride = params.y_stride;
  job.y_head_stride = params.y_head_stride;
  job.rounded = params.rounded;
  job.n = params.n;
  set_tokens(job, params.tokens, group_tokens);
  return job;
}

// More than 48 KB of shared memory must be asked for, once for each kernel and device; asking again
// costs less than a launch.
template <typename Kernel>
void allow_shared_memory(Kernel* kernel, int bytes) {
  cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
}

template <typename Q, int kTokenTiles, bool kSmall, typename Job>
void launch_few_of_size(const Job& job, int64_t groups, cudaStream_t stream) {
  constexpr int kBytes = FewMemory<Q, kTokenTiles, Job::kPanels, kSmall>::kBytes;
  auto* kernel = few_kernel<Q, kTokenTiles, kSmall, Job>;
  allow_shared_memory(kernel, kBytes);
  const int64_t items = groups * job.tiles;
  // The system keeps a kilobyte for each block.
  const int resident = shared_bytes_together() / (kBytes + 1024) >= 2 ? 2 : 1;
  const int most = resident * multiprocessors();
  const int slices = choose_slices(job.stages, Job::kPanels, items, most);
  const int64_t blocks = (items * slices + kFewWarps - 1) / kFewWarps;
  launch_sharing("few_kernel", kernel, static_cast<unsigned>(std::min<int64_t>(blocks, most)),
                 kFewThreads, kBytes, stream, job, slices);
}

// groups: at most that many on the device.
template <typename Q, int kTokenTiles, typename Job>
void launch_few(const Job& job, int64_t groups, bool small, cudaStream_t stream) {
  if (small) {
    launch_few_of_size<Q, kTokenTiles, true>(job, groups, stream);
  } else {
    launch_few_of_size<Q, kTokenTiles, false>(job, groups, stream);
  }
}

template <typename Q, bool kSmall, typename Job>
void launch_many_of_size(const Job& job, int64_t groups, cudaStream_t stream) {
  constexpr int kBytes = ManyMemory<Q, kSmall>::kBytes, kTiles = 2 / Job::kPanels * kManyWarps;
  auto* kernel = many_kernel<Q, kSmall, Job>;
  allow_shared_memory(kernel, kBytes);
  const dim3 grid(static_cast<unsigned>((job.tiles + kTiles - 1) / kTiles),
                  static_cast<unsigned>(groups));
  launch_sharing("many_kernel", kernel, grid, kManyThreads, kBytes, stream, job);
}

// The job's groups have many_tokens(small) tokens at most.
template <typename Q, typename Job>
void launch_many(const Job& job, int64_t groups, bool small, cudaStream_t stream) {
  if (small) {
    launch_many_of_size<Q, true>(job, groups, stream);
  } else {
    launch_many_of_size<Q, false>(job, groups, stream);
  }
}

}  // namespace tandem::cuda
