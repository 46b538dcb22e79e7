// The expert layer: workspace, choice of kernels by how many tokens meet, and the order of
// launches.
#include "kernels/cuda/experts.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cuda/experts_kernels.h"
#include "quant/panels.h"
#include "quant/types.h"

namespace tandem::cuda {
namespace {

// Tokens in a group, by the average number that meet in an expert: up to six, few have more than
// eight, and reading those experts twice costs less than wider groups cost all of them.
int choose_group_tokens(int tokens, int used, int experts, bool small) {
  const int64_t pairs = int64_t{tokens} * used;
  if (pairs <= int64_t{6} * experts) return 8;
  return pairs <= int64_t{10} * experts ? kFewGroupTokens : many_tokens(small);
}

// Parts of 256 bytes' alignment, one after the other.
class Stack {
 public:
  explicit Stack(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <typename T>
  T* take(int64_t count) {
    char* part = memory_ + used_;
    used_ += (static_cast<size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return reinterpret_cast<T*>(part);
  }
  size_t used() const { return used_; }

 private:
  char* memory_;
  size_t used_ = 0;
};

struct Shape {
  int tokens, used, experts, hidden, width;
};

ExpertBuffers divide(Stack& stack, const Shape& s) {
  const int64_t pairs = int64_t{s.tokens} * s.used;
  ExpertBuffers b = {};
  // The smallest groups are the most: enough for every choice.
  b.most_groups = most_groups(s.tokens, s.used, s.experts, 8);
  b.slot_of = stack.take<int32_t>(pairs);
  b.slot_token = stack.take<int32_t>(pairs);
  b.group_count = stack.take<int32_t>(1);
  b.groups = stack.take<TokenGroup>(b.most_groups);
  b.gated = stack.take<__nv_bfloat16>(pairs * s.hidden);
  b.results = stack.take<float>(pairs * s.width);
  return b;
}

void check_matrix(DType type, int n, int k) {
  TANDEM_CHECK(quant::has_panels(type), "no kernel for experts of {}", quant::traits(type).name);
  TANDEM_CHECK(k > 0 && k % quant::traits(type).block_elements == 0 && n % 4 == 0,
               "experts [{}, {}] of {}", n, k, quant::traits(type).name);
}

}  // namespace

size_t experts_workspace_bytes(int tokens, int used, int experts, int hidden, int width) {
  Stack stack(nullptr);
  divide(stack, {tokens, used, experts, hidden, width});
  return stack.used();
}

ExpertSums run_experts(const ExpertsParams& p, cudaStream_t stream) {
  if (p.tokens == 0) return {};
  TANDEM_CHECK(p.experts <= kMaxExperts, "{} experts", p.experts);
  check_matrix(p.gate_type, p.hidden, p.width);
  check_matrix(p.down_type, p.width, p.hidden);
  TANDEM_CHECK(p.x.stride % 32 == 0, "rows of x are {} values apart", p.x.stride);
  Stack stack(p.workspace);
  ExpertBuffers buffers = divide(stack, {p.tokens, p.used, p.experts, p.hidden, p.width});
  const int tokens_in_group =
      choose_group_tokens(p.tokens, p.used, p.experts, wants_small(p.shared_bytes));
  buffers.most_groups = most_groups(p.tokens, p.used, p.experts, tokens_in_group);

  const GroupParams grouping = {.ids = p.ids,
                                .tokens = p.tokens,
                                .used = p.used,
                                .experts = p.experts,
                                .group_tokens = tokens_in_group,
                                .slot_of = buffers.slot_of,
                                .slot_token = buffers.slot_token,
                                .groups = buffers.groups,
                                .group_count = buffers.group_count};
  if (tokens_in_group <= kFewGroupTokens) {
    experts_few(p, buffers, grouping, stream);
  } else {
    group_tokens(grouping, stream);
    experts_many(p, buffers, stream);
  }
  return {.results = buffers.results,
          .slot_of = buffers.slot_of,
          .weights = p.weights,
          .tokens = p.tokens,
          .used = p.used,
          .width = p.width,
          .residual = p.residual};
}

}  // namespace tandem::cuda
