// Sampling of a step's rows on the device: their settings go up in one copy ahead of the step,
// and the kernels write tokens to page-locked memory, so that no copy stands behind the logits.
// Rows whose lists the kernels do not take are left to the caller.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include <cuda_runtime_api.h>

#include "kernels/cuda/sample.h"
#include "ops/sample.h"
#include "platform/cuda/memory.h"

namespace tandem::ops {

class SamplingOnDevice {
 public:
  SamplingOnDevice(int rows, int vocab);

  // Enqueues the upload of the rows' settings; taken[i] = 0 where row i is the caller's. What was
  // enqueued for the rows before must be over.
  void stage(std::span<const SampleParams> rows, std::span<uint8_t> taken, cudaStream_t stream);
  // Enqueues one draw for each row staged from logits [B, V].
  void sample(const float* logits, cudaStream_t stream) const;
  // Of a row that was taken, once the stream has come so far; valid until the next call.
  SampleResult result(int row);

 private:
  // The step's list of one kind, in page-locked memory; on the device at the same offset.
  template <typename T>
  struct List {
    size_t offset;
    size_t room;
    int32_t used = 0;
  };
  template <typename T>
  List<T> take(size_t room);
  template <typename T>
  T* on_host(const List<T>& list) const {
    return reinterpret_cast<T*>(staged_.data() + list.offset);
  }
  template <typename T>
  const T* on_device(const List<T>& list) const {
    return reinterpret_cast<const T*>(device_.data() + list.offset);
  }
  template <typename T>
  void upload(const List<T>& list, cudaStream_t stream) const;

  // False: the row does not fit, or names a token twice.
  bool add_biases(const SampleParams& params, cuda::SampleRow& row);
  bool add_banned(const SampleParams& params, cuda::SampleRow& row);
  bool add_history(const SampleParams& params, cuda::SampleRow& row);

  int vocab_;
  size_t bytes_ = 0;
  bool only_best_ = false;  // of the rows staged, cuda::SampleParams::only_best
  List<cuda::SampleRow> rows_;
  List<cuda::TokenBias> biases_;
  List<int32_t> banned_;
  List<cuda::TokenCount> history_;
  platform::cuda::PinnedMemory staged_, results_;
  platform::cuda::DeviceMemory device_, work_, states_;
  std::vector<uint16_t> seen_;  // [V] as in the CPU's sampler; zeros between calls
  std::vector<int> wanted_;     // [B] log probabilities of each row, as asked for
  std::vector<TokenLogprob> top_;
};

}  // namespace tandem::ops
