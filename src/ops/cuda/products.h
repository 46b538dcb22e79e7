// Products with weights on the device: launches for projections, gated feed-forwards and matrices
// of a head each, with activations in the form that the kernels read.
#pragma once

#include <cstdint>
#include <span>

#include <cuda_runtime_api.h>

#include "base/tensor.h"
#include "kernels/cuda/linear.h"
#include "ops/context.h"
#include "ops/linear.h"
#include "ops/rope.h"

namespace tandem::ops {

// Activations [rows, n] as products read them: as they come, or made in the workspace.
cuda::ConstProductRows for_products(Workspace::Scope& scope, const Input& x, int64_t rows,
                                    int64_t n, cudaStream_t stream);

// As the operators of class Gpu.
void device_linear(Workspace& workspace, const Input& x, int64_t tokens,
                   std::span<const Projection> projections, cudaStream_t stream);
void device_feed_forward(Workspace& workspace, const Input& x, int64_t tokens, const Tensor& gate,
                         const Tensor& up, const Projection& down, cudaStream_t stream);
void device_linear_per_head(Workspace& workspace, const HeadsView& x, int64_t tokens,
                            const Tensor& w, const HeadsView& y, cudaStream_t stream);

}  // namespace tandem::ops
