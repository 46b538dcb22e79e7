// How many int8 operations a second the threads reach: the bound that prompts are quoted against.
#pragma once

#include "kernels/cpu/kernels.h"
#include "platform/thread_pool.h"

namespace tandem::ops {

// Operations per second (two for a multiply-add) of all threads of the pool together with the
// table's instructions, operands in registers: the best of several passes, because others may use
// the machine meanwhile.
double measure_peak_int8(platform::ThreadPool& pool, const cpu::Table& table);

}  // namespace tandem::ops
