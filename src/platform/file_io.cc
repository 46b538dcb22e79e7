// The ring does what it can; what it leaves undone, for whatever reason, is done by pread and
// pwrite, which also find the error to report.
#include "platform/file_io.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include <liburing.h>
#include <unistd.h>

#include "base/check.h"

namespace tandem::platform {
namespace {

// Large enough for a disk to work at full speed on, small enough for several of a page of a
// megabyte to be under way.
constexpr size_t kPieceBytes = 256 << 10;
constexpr unsigned kPiecesUnderWay = 16;

enum class Direction { kRead, kWrite };

struct Transfer {
  Direction direction;
  int descriptor;
  uint64_t offset;
  std::byte* data;  // [size]; not changed by a write
  size_t size;

  void advance(size_t done) {
    data += done;
    offset += done;
    size -= done;
  }
};

bool run_plainly(Transfer t) {
  while (t.size > 0) {
    const auto at = static_cast<off_t>(t.offset);
    const ssize_t done = t.direction == Direction::kRead ? pread(t.descriptor, t.data, t.size, at)
                                                         : pwrite(t.descriptor, t.data, t.size, at);
    if (done < 0 && errno == EINTR) continue;
    if (done == 0) errno = 0;
    if (done <= 0) return false;
    t.advance(static_cast<size_t>(done));
  }
  return true;
}

}  // namespace

class FileIo::Ring {
 public:
  Ring() : works_(io_uring_queue_init(kPiecesUnderWay, &ring_, 0) == 0), is_open_(works_) {
    pieces_.reserve(kPiecesUnderWay);
  }
  ~Ring() {
    if (is_open_) io_uring_queue_exit(&ring_);
  }
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;

  bool works() const { return works_; }

  bool run(Transfer rest) {
    while (works_ && rest.size > 0) {
      pieces_.clear();
      while (pieces_.size() < kPiecesUnderWay && rest.size > 0) {
        pieces_.push_back(rest);
        pieces_.back().size = std::min(rest.size, kPieceBytes);
        rest.advance(pieces_.back().size);
      }
      run_pieces();
      if (!std::all_of(pieces_.begin(), pieces_.end(), run_plainly)) return false;
    }
    return run_plainly(rest);
  }

 private:
  // Leaves in each piece what was not done.
  void run_pieces() {
    for (Transfer& piece : pieces_) {
      io_uring_sqe* entry = io_uring_get_sqe(&ring_);
      const auto size = static_cast<unsigned>(piece.size);
      if (piece.direction == Direction::kRead) {
        io_uring_prep_read(entry, piece.descriptor, piece.data, size, piece.offset);
      } else {
        io_uring_prep_write(entry, piece.descriptor, piece.data, size, piece.offset);
      }
      io_uring_sqe_set_data(entry, &piece);
    }
    size_t submitted = 0;
    while (works_ && submitted < pieces_.size()) {
      const int taken = io_uring_submit(&ring_);
      if (taken == -EINTR) continue;
      works_ = taken > 0;  // otherwise the ring holds entries that it did not take: no more of it
      submitted += static_cast<size_t>(std::max(taken, 0));
    }
    // Buffers belong to the kernel until it has said that it is done with them.
    for (size_t i = 0; i < submitted; ++i) {
      io_uring_cqe* done = nullptr;
      int result;
      do {
        result = io_uring_wait_cqe(&ring_, &done);
      } while (result == -EINTR);
      TANDEM_CHECK(result == 0, "waiting for io_uring failed with {}", result);
      auto* piece = static_cast<Transfer*>(io_uring_cqe_get_data(done));
      piece->advance(static_cast<size_t>(std::max(done->res, 0)));
      io_uring_cqe_seen(&ring_, done);
    }
  }

  io_uring ring_;
  bool works_;
  const bool is_open_;
  std::vector<Transfer> pieces_;  // under way
};

FileIo::FileIo(bool side_by_side) {
  if (!side_by_side) return;
  ring_ = std::make_unique<Ring>();
  if (!ring_->works()) ring_.reset();
}

FileIo::~FileIo() = default;

bool FileIo::read(int descriptor, uint64_t offset, std::span<std::byte> out) {
  const Transfer all{Direction::kRead, descriptor, offset, out.data(), out.size()};
  return ring_ != nullptr ? ring_->run(all) : run_plainly(all);
}

bool FileIo::write(int descriptor, uint64_t offset, std::span<const std::byte> in) {
  const Transfer all{Direction::kWrite, descriptor, offset, const_cast<std::byte*>(in.data()),
                     in.size()};
  return ring_ != nullptr ? ring_->run(all) : run_plainly(all);
}

}  // namespace tandem::platform
