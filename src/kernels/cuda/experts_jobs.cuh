// The two products of an expert layer as jobs of the product kernels.
#pragma once

#include "kernels/cuda/experts_kernels.h"
#include "kernels/cuda/linear_launch.cuh"

namespace tandem::cuda {

template <typename Groups>
GatedJob<Groups> gated_job(const ExpertsParams& p, const ExpertBuffers& b) {
  GatedJob<Groups> job = {};
  set_shape(job, p.gate_type, p.hidden, p.width);
  job.list = b.groups;
  job.count = b.group_count;
  job.gate = static_cast<const char*>(p.gate);
  job.up = static_cast<const char*>(p.up);
  job.expert_bytes = job.tiles * job.panel_bytes;
  job.x = p.x.data;
  job.x_stride = p.x.stride;
  job.slot_token = b.slot_token;
  job.y = b.gated;
  job.y_stride = p.hidden;
  job.n = p.hidden;
  return job;
}

inline DownJob down_job(const ExpertsParams& p, const ExpertBuffers& b) {
  DownJob job = {};
  set_shape(job, p.down_type, p.width, p.hidden);
  job.list = b.groups;
  job.count = b.group_count;
  job.w = static_cast<const char*>(p.down);
  job.expert_bytes = job.tiles * job.panel_bytes;
  job.x = b.gated;
  job.x_stride = p.hidden;
  job.y = b.results;
  job.n = p.width;
  return job;
}

}  // namespace tandem::cuda
