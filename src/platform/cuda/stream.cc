// Creation, waiting and capture.
#include "platform/cuda/stream.h"

#include "platform/cuda/error.h"

namespace tandem::platform::cuda {

Stream::Stream() {
  cudaStream_t stream = nullptr;
  TANDEM_CUDA_CALL(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  handle_.reset(stream);
}

void Stream::synchronize() const { TANDEM_CUDA_CALL(cudaStreamSynchronize(get())); }

bool Stream::busy() const {
  if (cudaStreamQuery(get()) != cudaErrorNotReady) return false;
  cudaGetLastError();  // or a later call would find "not ready" there
  return true;
}

bool Stream::broken() const {
  const cudaError_t state = cudaStreamQuery(get());
  cudaGetLastError();
  return state != cudaSuccess && state != cudaErrorNotReady;
}

Event::Event(Timing timing) {
  cudaEvent_t event = nullptr;
  TANDEM_CUDA_CALL(cudaEventCreateWithFlags(
      &event, timing == Timing::kOn ? cudaEventDefault : cudaEventDisableTiming));
  handle_.reset(event);
}

void Event::record(cudaStream_t stream) const { TANDEM_CUDA_CALL(cudaEventRecord(get(), stream)); }

void Event::synchronize() const { TANDEM_CUDA_CALL(cudaEventSynchronize(get())); }

float Event::since(const Event& earlier) const {
  float milliseconds = 0.0F;
  TANDEM_CUDA_CALL(cudaEventElapsedTime(&milliseconds, earlier.get(), get()));
  return milliseconds;
}

// Thread-local mode: a call of another thread, such as an allocation, does not break the capture.
Graph::Capture::Capture(cudaStream_t stream) : stream_(stream) {
  TANDEM_CUDA_CALL(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
}

Graph::Capture::~Capture() {
  if (!open_) return;
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream_, &graph);
  if (graph != nullptr) cudaGraphDestroy(graph);
  cudaGetLastError();
}

Graph Graph::Capture::finish() {
  open_ = false;
  cudaGraph_t graph = nullptr;
  TANDEM_CUDA_CALL(cudaStreamEndCapture(stream_, &graph));
  const Definition definition(graph);
  cudaGraphExec_t executable = nullptr;
  TANDEM_CUDA_CALL(cudaGraphInstantiate(&executable, graph, 0));
  Graph result;
  result.executable_.reset(executable);
  return result;
}

void Graph::launch(cudaStream_t stream) const {
  TANDEM_CUDA_CALL(cudaGraphLaunch(executable_.get(), stream));
}

}  // namespace tandem::platform::cuda
