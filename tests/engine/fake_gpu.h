// Stands in for a GPU while an engine is set up: gives device memory out of reserved addresses,
// into which it copies nothing, and refuses what it is told to.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/error.h"
#include "platform/reservation.h"
#include "tests/engine/host_gpu.h"

namespace tandem::engine {

class FakeGpu : public HostGpu {
 public:
  bool refuses_locks = false, refuses_buffers = false;
  std::vector<std::string> calls;  // of prepare_streaming and lock

  std::byte* allocate(int64_t bytes, const char*) override {
    return memory_.emplace_back(bytes).data();
  }
  void upload(std::span<const std::byte>, std::byte*) override {}
  std::shared_ptr<void> lock(std::span<std::byte> memory) override {
    calls.push_back("lock");
    if (refuses_locks) throw Error("cannot lock {} MiB: as told", memory.size() >> 20);
    return std::make_shared<int>(0);
  }
  void prepare_streaming(int64_t layer_bytes) override {
    calls.push_back(layer_bytes > 0 ? "take buffers" : "give buffers back");
    if (layer_bytes > 0 && refuses_buffers) throw Error("no room for buffers: as told");
  }
  ops::GpuStepArrays begin_step(const ops::GpuStepLayout& layout, int) override {
    TANDEM_CHECK(false, "a step of {} tokens while an engine is set up", layout.ids.size());
  }

 private:
  std::deque<platform::Reservation> memory_;
};

}  // namespace tandem::engine
