// An engine that is lost at a step that was named beforehand, as one whose GPU has failed: to see,
// in the whole program, what becomes of requests and process (--debug_fail_step).
#pragma once

#include <cstdint>

#include "base/error.h"
#include "engine/engine.h"

namespace tandem::engine {

class FailingEngine : public Engine {
 public:
  // step: from 1; that one and all later ones fail. The engine must outlive this one.
  FailingEngine(Engine& engine, int64_t step) : engine_(engine), step_(step) {}

  const EngineInfo& info() const override { return engine_.info(); }
  void begin(const Batch& batch) override {
    ++begun_;
    if (!broken()) engine_.begin(batch);
  }
  StepResult finish() override {
    if (broken()) throw Error("step {} was made to fail by --debug_fail_step", begun_);
    return engine_.finish();
  }
  bool running() override { return !broken() && engine_.running(); }
  bool broken() override { return begun_ >= step_; }

  void read_page(int32_t page, std::span<std::byte> out) override { engine_.read_page(page, out); }
  void write_page(int32_t page, std::span<const std::byte> in) override {
    engine_.write_page(page, in);
  }
  void copy_page(int32_t from, int32_t to) override { engine_.copy_page(from, to); }
  std::optional<HotStatistics> hot_statistics() const override { return engine_.hot_statistics(); }

 private:
  Engine& engine_;
  const int64_t step_;
  int64_t begun_ = 0;
};

}  // namespace tandem::engine
