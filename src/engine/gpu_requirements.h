// What an engine with a GPU asks for before it takes anything: memory of the host, and options that
// its plan allows.
#pragma once

#include <cstdint>

#include "engine/load.h"
#include "engine/planner.h"
#include "models/model.h"

namespace tandem::engine {

// Whether a layer with experts that is not wholly on the CPU has them there.
bool some_experts_on(Device device, const models::MoeConfig& moe, const Plan& plan);

// Throw Error. work: scratch, what is handed on in, and the cache of layers on the CPU.
void require_host_memory(const models::Decoder& decoder, int64_t work, const Options& options);
void require_deferrable(const models::MoeConfig& moe, const Plan& plan, const Options& options);

}  // namespace tandem::engine
