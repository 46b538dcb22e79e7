// Passing routed experts to a host thread and back in the middle of a stream or a graph, through
// mapped host memory and flags in it: 3.4 us there and back, where a host-function node takes 46.
//
//   stream   ... send: operands, then the flag | other kernels | receive: waits, adds the sum ...
//   host                  spins until raised[slot] is new, works, answered[slot] = raised[slot]
//
// One kernel each way: copying a few KB is mostly the cost of a node of the graph, so fewer nodes.
// A slot's flags count up, on the device, so a replayed graph needs no new parameters.
#pragma once

#include <cstdint>

#include <cuda_runtime_api.h>

namespace tandem::cuda {

struct HandOff {
  uint32_t* count;           // device: raises so far
  uint32_t* blocks;          // device: of send(), those that are done; 0 between two
  uint32_t* raised;          // mapped host memory, as the device addresses it
  const uint32_t* answered;  // the same
  uint64_t* waited;          // the same: nanoseconds that the last receive() waited; or null
};

// Operands on the device and, as it addresses them, in mapped host memory. All are contiguous, at
// multiples of 16 bytes.
struct SendParams {
  const float* x;        // [T, M]
  const int32_t* ids;    // [T, K]
  const float* weights;  // [T, K]
  float* host_x;
  int32_t* host_ids;
  float* host_weights;
  int64_t values;  // T * M
  int64_t pairs;   // T * K
  HandOff slot;    // all null: no flag is raised, the host waits for the stream
  // [E] where experts lie that the GPU computes itself, or -1; null: there are none.
  const int32_t* places;
  int32_t* placed_ids;  // [T, K] the places of the experts, or -1
};
// The host sees ~id (negative) of an expert that has a place: the device alone decides who computes
// it, once in each step.
// All operands, and all that was enqueued before, are visible to a host that reads `raised` as new.
void send(const SendParams& params, cudaStream_t stream);

struct ReceiveParams {
  const float* host_sum;  // [T, M] mapped host memory
  float* residual;        // [T, M] device
  int64_t values;         // T * M
  HandOff slot;           // all null: the sum is there already
};
// residual += host_sum, as soon as the host has answered the slot's last raise. A few blocks stay
// on the GPU meanwhile.
void receive(const ReceiveParams& params, cudaStream_t stream);

}  // namespace tandem::cuda
