// What predictions are made from, measured on this machine; takes a second or two.
#pragma once

#include "engine/prediction.h"
#include "ops/peak.h"
#include "platform/thread_pool.h"

namespace tandem::engine {

// with_gpu: the first GPU's speeds too. What `known` has already is not measured.
MachineSpeeds measure_speeds(platform::ThreadPool& pool, const cpu::Table& table, bool with_gpu,
                             const MachineSpeeds& known = {});

}  // namespace tandem::engine
