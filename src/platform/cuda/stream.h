// Owners of streams, events and graphs.
#pragma once

#include <memory>
#include <type_traits>

#include <cuda_runtime_api.h>

namespace tandem::platform::cuda {

// Calls the runtime's destroy function of a handle. Its failure leaves nothing to do.
template <auto kDestroy>
struct Destroy {
  template <typename T>
  void operator()(T* handle) const {
    kDestroy(handle);
  }
};

// A queue of work that does not wait for the default stream.
class Stream {
 public:
  Stream();  // of the current device; throws Error
  cudaStream_t get() const { return handle_.get(); }
  void synchronize() const;  // throws what failed on the device before
  bool busy() const;         // whether synchronize() would wait
  bool broken() const;       // it would throw, now and ever after

 private:
  std::unique_ptr<std::remove_pointer_t<cudaStream_t>, Destroy<cudaStreamDestroy>> handle_;
};

class Event {
 public:
  enum class Timing : bool { kOff, kOn };
  explicit Event(Timing timing = Timing::kOff);
  cudaEvent_t get() const { return handle_.get(); }
  void record(cudaStream_t stream) const;
  void synchronize() const;
  // Milliseconds from `earlier` to this; both with timing, recorded and reached.
  float since(const Event& earlier) const;

 private:
  std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, Destroy<cudaEventDestroy>> handle_;
};

// A captured sequence of launches, ready to run.
class Graph {
 public:
  Graph() = default;
  explicit operator bool() const { return executable_ != nullptr; }

  // Captures what `enqueue(stream)` puts on the stream; nothing of it runs. Work of other threads
  // on other streams goes on meanwhile. An exception of enqueue ends the capture and passes
  // through.
  template <typename Enqueue>
  static Graph capture(const Stream& stream, const Enqueue& enqueue) {
    Capture capture(stream.get());
    enqueue(stream.get());
    return capture.finish();
  }
  void launch(cudaStream_t stream) const;

 private:
  using Definition = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, Destroy<cudaGraphDestroy>>;
  using Executable =
      std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy<cudaGraphExecDestroy>>;

  class Capture {
   public:
    explicit Capture(cudaStream_t stream);
    ~Capture();  // throws the capture away unless finished
    Capture(const Capture&) = delete;
    Capture& operator=(const Capture&) = delete;
    Graph finish();

   private:
    cudaStream_t stream_;
    bool open_ = true;
  };

  Executable executable_;
};

}  // namespace tandem::platform::cuda
