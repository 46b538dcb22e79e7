// A layer's experts where the activations are on a GPU: the shared expert runs there, the routed
// ones there too or, where their weights are in host memory, on the CPU meanwhile.
#pragma once

#include "moe/experts.h"

namespace tandem::moe {

// As run_experts, for contexts with a GPU. step's pointers are device memory. `grouping` is left
// empty where routed experts run on the GPU: who met where is known there alone.
void run_experts_beside_gpu(ops::Context& ctx, const ExpertLayer& layer, Grouping& grouping,
                            const ExpertStep& step);
// Whether the GPU's kernels for experts read the weights as they lie in host memory.
bool streamable(const ExpertWeights& weights);
// Scratch on the GPU.
size_t experts_beside_gpu_workspace_bytes(const ExpertLayer& layer, int64_t tokens, int used);

}  // namespace tandem::moe
