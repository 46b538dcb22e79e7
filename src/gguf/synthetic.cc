// All tensors of a type lie in one long view of a stretch of random blocks; a tensor begins at a
// block, so whatever it sees is valid. Norms see ones.
#include "gguf/synthetic.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <numeric>
#include <random>

#include "gguf/synthetic_models.h"
#include "platform/repeated_memory.h"
#include "quant/blocks.h"
#include "quant/types.h"

namespace tandem::gguf {
namespace {

// Long enough that neighbouring experts differ, short enough that all views of the largest model
// take 24 thousand mappings, of the 65530 that systems allow.
constexpr int64_t kStretchBytes = int64_t{16} << 20;
constexpr int64_t kSystemPage = 4096;
constexpr int64_t kAlignment = 64;  // of a tensor, as in files that are laid out for speed

// Weights' standard deviation: with rows of some thousand, sums stay near the size of their inputs.
constexpr float kDeviation = 1.0F / 64;

void put_half(quant::Half& half, float value) {
  const auto rounded = static_cast<_Float16>(value);
  std::memcpy(half.bytes, &rounded, sizeof rounded);
}

template <typename Block, typename Set>
void for_blocks(std::span<std::byte> bytes, const Set& set) {
  for (size_t at = 0; at + sizeof(Block) <= bytes.size(); at += sizeof(Block)) {
    set(*reinterpret_cast<Block*>(bytes.data() + at));
  }
}

// Random bytes with constant scales over them; the divisors are the deviations of the types' random
// integers.
void fill_random(DType dtype, std::span<std::byte> bytes) {
  std::mt19937_64 generator(static_cast<uint64_t>(dtype) + 1);
  for (size_t i = 0; i < bytes.size(); i += sizeof(uint64_t)) {
    const uint64_t word = generator();
    std::memcpy(bytes.data() + i, &word, sizeof word);
  }
  switch (dtype) {
    case DType::kF32:
      for_blocks<float>(bytes, [](float& value) {
        int32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        value = static_cast<float>(bits) * (1.7320508F / 0x1p31F * kDeviation);  // uniform
      });
      return;
    case DType::kQ5_0:
      for_blocks<quant::BlockQ5_0>(bytes, [](auto& b) { put_half(b.d, kDeviation / 9.2F); });
      return;
    case DType::kQ8_0:
      for_blocks<quant::BlockQ8_0>(bytes, [](auto& b) { put_half(b.d, kDeviation / 74.0F); });
      return;
    case DType::kQ4_K:
      for_blocks<quant::BlockQ4_K>(bytes, [](auto& b) {
        // All scales and minima are 32.
        constexpr float kScale = kDeviation / 4.6F / 32.0F;
        std::fill_n(b.scales, 8, uint8_t{32 | 0x80});
        std::fill_n(b.scales + 8, 4, uint8_t{0});
        put_half(b.d, kScale);
        put_half(b.dmin, kScale * 7.5F);
      });
      return;
    case DType::kQ6_K:
      for_blocks<quant::BlockQ6_K>(bytes, [](auto& b) {
        std::fill_n(b.scales, 16, int8_t{32});
        put_half(b.d, kDeviation / 18.5F / 32.0F);
      });
      return;
    default:
      TANDEM_CHECK(false, "no random blocks of {}", quant::traits(dtype).name);
  }
}

class SyntheticFile : public File {
 public:
  SyntheticFile(const std::string& name, int layers)
      : path_("synthetic " + name), model_(synthetic_model(name, layers)) {
    for (const SyntheticEntry& entry : model_.metadata) add_entry(entry);
    for (const SyntheticTensor& tensor : model_.tensors) add_tensor(tensor);
    lay_out();
  }

  std::string_view path() const override { return path_; }
  uint32_t version() const override { return 3; }
  uint64_t total_bytes() const override { return total_bytes_; }
  std::span<const Entry> metadata() const override { return metadata_; }
  std::span<const TensorInfo> tensors() const override { return tensors_; }

  const Entry* find(std::string_view key) const override {
    const auto found = std::find_if(metadata_.begin(), metadata_.end(),
                                    [&](const Entry& entry) { return entry.key == key; });
    return found == metadata_.end() ? nullptr : &*found;
  }
  const TensorInfo* find_tensor(std::string_view name) const override {
    const auto found = tensor_index_.find(name);
    return found == tensor_index_.end() ? nullptr : &tensors_[found->second];
  }
  void read(const TensorInfo& tensor, uint64_t offset, std::span<std::byte> out) const override {
    const auto* data = static_cast<const std::byte*>(tensor.tensor.data);
    const auto memory = std::find_if(memories_.begin(), memories_.end(),
                                     [&](const auto& candidate) { return candidate.holds(data); });
    TANDEM_CHECK(memory != memories_.end(), "{} is no tensor of this file", tensor.name);
    memory->read(data - memory->view() + static_cast<int64_t>(offset), out);
  }

 private:
  void add_entry(const SyntheticEntry& entry) {
    std::visit(
        [&](const auto& value) {
          using T = std::decay_t<decltype(value)>;
          if constexpr (std::is_same_v<T, std::string>) {
            metadata_.push_back({entry.key, ValueType::kString, std::string_view(value)});
          } else {
            constexpr ValueType kType = std::is_same_v<T, bool>     ? ValueType::kBool
                                        : std::is_same_v<T, double> ? ValueType::kF32
                                                                    : ValueType::kU32;
            metadata_.push_back({entry.key, kType, value});
          }
        },
        entry.value);
  }

  void add_tensor(const SyntheticTensor& tensor) {
    const int64_t rows = tensor.shape.elements() / tensor.shape.inner(0);
    const int64_t bytes = rows * quant::row_bytes(tensor.dtype, tensor.shape.inner(0));
    tensor_index_.emplace(tensor.name, tensors_.size());
    tensors_.push_back({.name = tensor.name,
                        .tensor = {.dtype = tensor.dtype, .shape = tensor.shape},
                        .file_index = 0,
                        .offset = total_bytes_,
                        .bytes = static_cast<uint64_t>(bytes)});
    total_bytes_ += static_cast<uint64_t>((bytes + kAlignment - 1) / kAlignment * kAlignment);
  }

  // Gives every tensor its place in the view of its type, or of the ones.
  void lay_out() {
    struct View {
      int64_t bytes = 0;
      std::vector<std::pair<TensorInfo*, int64_t>> tensors;  // and where in the view
    };
    std::map<std::pair<DType, bool>, View> views;
    for (size_t i = 0; i < tensors_.size(); ++i) {
      TensorInfo& info = tensors_[i];
      View& view = views[{info.tensor.dtype, model_.tensors[i].ones}];
      view.tensors.emplace_back(&info, view.bytes);
      const int64_t step =
          std::lcm(int64_t{quant::traits(info.tensor.dtype).block_bytes}, kAlignment);
      view.bytes += (static_cast<int64_t>(info.bytes) + step - 1) / step * step;
    }
    for (const auto& [kind, view] : views) {
      const auto& [dtype, ones] = kind;
      const int64_t unit = std::lcm(int64_t{quant::traits(dtype).block_bytes}, kSystemPage);
      const int64_t most = std::min(kStretchBytes, (view.bytes + unit - 1) / unit * unit);
      platform::RepeatedMemory& memory = memories_.emplace_back(most / unit * unit, view.bytes);
      if (ones) {
        for_blocks<float>(memory.stretch(), [](float& value) { value = 1.0F; });
      } else {
        fill_random(dtype, memory.stretch());
      }
      for (const auto& [info, offset] : view.tensors) info->tensor.data = memory.view() + offset;
    }
  }

  std::string path_;
  SyntheticModel model_;
  std::vector<Entry> metadata_;
  std::vector<TensorInfo> tensors_;
  std::unordered_map<std::string_view, size_t> tensor_index_;
  std::vector<platform::RepeatedMemory> memories_;  // a view for each type, and one of ones
  uint64_t total_bytes_ = 0;
};

}  // namespace

std::unique_ptr<File> open_synthetic(const std::string& name, int layers) {
  return std::make_unique<SyntheticFile>(name, layers);
}

}  // namespace tandem::gguf
