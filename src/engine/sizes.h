// What engines on all devices size and check alike.
#pragma once

#include "engine/load.h"
#include "models/model.h"

namespace tandem::engine {

// The cache of one layer: the model's form with the page size and type chosen. Throws Error for a
// page size that is none.
ops::KvLayer cache_form(const models::Decoder& decoder, const Options& options, Device device);

// cpu_layers: so many of the first have their cache on the CPU, the others on the device.
EngineInfo make_info(const models::Decoder& decoder, const Options& options, Device device,
                     int cpu_layers = 0);

void check_batch(const Batch& batch, const EngineInfo& info);
void check_slice(const SequenceSlice& slice, const EngineInfo& info);

}  // namespace tandem::engine
