// Parses and checks a GGUF container.
#include "gguf/container.h"

#include <bit>
#include <unordered_set>

#include "gguf/cursor.h"
#include "quant/types.h"

namespace tandem::gguf {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint32_t kMaxDims = 4;
constexpr size_t kMaxNameLength = 127;   // the format says 64; be lenient
constexpr size_t kMaxKeyLength = 65535;  // of the format
// The least bytes of an entry (key length, one byte of key, type, one byte of value) and of a
// tensor (name length, one byte of name, dims, one dimension, type, offset).
constexpr uint64_t kMinEntryBytes = 8 + 1 + 4 + 1;
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

// Bytes of a value at least; 0 for types that do not exist.
uint64_t min_bytes(ValueType type) {
  switch (type) {
    case ValueType::kU8:
    case ValueType::kI8:
    case ValueType::kBool:
      return 1;
    case ValueType::kU16:
    case ValueType::kI16:
      return 2;
    case ValueType::kU32:
    case ValueType::kI32:
    case ValueType::kF32:
      return 4;
    case ValueType::kString:
    case ValueType::kU64:
    case ValueType::kI64:
    case ValueType::kF64:
      return 8;
    case ValueType::kArray:
      return 12;
  }
  return 0;
}

ValueType read_type(Cursor& cursor, std::string_view key) {
  const auto type = static_cast<ValueType>(cursor.read<uint32_t>("a value type"));
  if (min_bytes(type) == 0) {
    throw Error("{}: key '{}' has unknown value type {}", cursor.path(), key,
                static_cast<uint32_t>(type));
  }
  return type;
}

bool read_bool(Cursor& cursor, std::string_view key) {
  const auto value = cursor.read<uint8_t>(key);
  if (value > 1) throw Error("{}: key '{}' holds {} as a boolean", cursor.path(), key, value);
  return value == 1;
}

template <typename Stored, typename Read>
std::vector<Stored> read_items(uint64_t count, const Read& read) {
  std::vector<Stored> items;
  items.reserve(count);
  for (uint64_t i = 0; i < count; ++i) items.push_back(static_cast<Stored>(read()));
  return items;
}

std::shared_ptr<Array> read_array(Cursor& cursor, std::string_view key) {
  auto array = std::make_shared<Array>();
  array->type = read_type(cursor, key);
  if (array->type == ValueType::kArray) {
    throw Error("{}: key '{}' is an array of arrays, which is not supported", cursor.path(), key);
  }
  const uint64_t count = cursor.read_count(min_bytes(array->type), "an array's length");
  switch (array->type) {
    case ValueType::kU8:
      array->items = read_items<uint64_t>(count, [&] { return cursor.read<uint8_t>(key); });
      break;
    case ValueType::kU16:
      array->items = read_items<uint64_t>(count, [&] { return cursor.read<uint16_t>(key); });
      break;
    case ValueType::kU32:
      array->items = read_items<uint64_t>(count, [&] { return cursor.read<uint32_t>(key); });
      break;
    case ValueType::kU64:
      array->items = read_items<uint64_t>(count, [&] { return cursor.read<uint64_t>(key); });
      break;
    case ValueType::kI8:
      array->items = read_items<int64_t>(count, [&] { return cursor.read<int8_t>(key); });
      break;
    case ValueType::kI16:
      array->items = read_items<int64_t>(count, [&] { return cursor.read<int16_t>(key); });
      break;
    case ValueType::kI32:
      array->items = read_items<int64_t>(count, [&] { return cursor.read<int32_t>(key); });
      break;
    case ValueType::kI64:
      array->items = read_items<int64_t>(count, [&] { return cursor.read<int64_t>(key); });
      break;
    case ValueType::kF32:
      array->items = read_items<double>(count, [&] { return cursor.read<float>(key); });
      break;
    case ValueType::kF64:
      array->items = read_items<double>(count, [&] { return cursor.read<double>(key); });
      break;
    case ValueType::kBool:
      array->items = read_items<bool>(count, [&] { return read_bool(cursor, key); });
      break;
    case ValueType::kString:
      array->items = read_items<std::string_view>(count, [&] { return cursor.read_string(key); });
      break;
    case ValueType::kArray:
      break;  // refused above
  }
  return array;
}

Value read_value(Cursor& cursor, ValueType type, std::string_view key) {
  switch (type) {
    case ValueType::kU8:
      return uint64_t{cursor.read<uint8_t>(key)};
    case ValueType::kU16:
      return uint64_t{cursor.read<uint16_t>(key)};
    case ValueType::kU32:
      return uint64_t{cursor.read<uint32_t>(key)};
    case ValueType::kU64:
      return cursor.read<uint64_t>(key);
    case ValueType::kI8:
      return int64_t{cursor.read<int8_t>(key)};
    case ValueType::kI16:
      return int64_t{cursor.read<int16_t>(key)};
    case ValueType::kI32:
      return int64_t{cursor.read<int32_t>(key)};
    case ValueType::kI64:
      return cursor.read<int64_t>(key);
    case ValueType::kF32:
      return double{cursor.read<float>(key)};
    case ValueType::kF64:
      return cursor.read<double>(key);
    case ValueType::kBool:
      return read_bool(cursor, key);
    case ValueType::kString:
      return cursor.read_string(key);
    case ValueType::kArray:
      return read_array(cursor, key);
  }
  throw Error("{}: key '{}' has an unknown value type", cursor.path(), key);
}

std::vector<Entry> read_metadata(Cursor& cursor, uint64_t count) {
  std::vector<Entry> metadata;
  metadata.reserve(count);
  std::unordered_set<std::string_view> seen;
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view key = cursor.read_string("a key");
    if (key.empty() || key.size() > kMaxKeyLength) {
      throw Error("{}: metadata entry {} has a key of {} bytes", cursor.path(), i, key.size());
    }
    if (!seen.insert(key).second) throw Error("{}: key '{}' occurs twice", cursor.path(), key);
    const ValueType type = read_type(cursor, key);
    metadata.push_back({.key = key, .type = type, .value = read_value(cursor, type, key)});
  }
  return metadata;
}

uint64_t read_alignment(const std::string& path, const Container& container) {
  const Entry* entry = container.find("general.alignment");
  if (entry == nullptr) return kDefaultAlignment;
  if (entry->type != ValueType::kU32) throw Error("{}: general.alignment is not a u32", path);
  const uint64_t alignment = std::get<uint64_t>(entry->value);
  if (alignment < 8 || !std::has_single_bit(alignment)) {
    throw Error("{}: general.alignment is {}, not a power of two from 8 up", path, alignment);
  }
  return alignment;
}

// Name, shape, type and offset; the data pointer follows when the data's start is known.
TensorInfo read_tensor(Cursor& cursor, uint64_t index) {
  TensorInfo info{};
  info.name = cursor.read_string("a tensor's name");
  if (info.name.empty() || info.name.size() > kMaxNameLength) {
    throw Error("{}: tensor {} has a name of {} bytes", cursor.path(), index, info.name.size());
  }
  const auto dims = cursor.read<uint32_t>("a tensor's dimensions");
  if (dims < 1 || dims > kMaxDims) {
    throw Error("{}: tensor '{}' has {} dimensions", cursor.path(), info.name, dims);
  }
  uint64_t elements = 1;
  for (uint32_t i = 0; i < dims; ++i) {
    const auto size = cursor.read<uint64_t>("a tensor's shape");
    // 2^62 elements are beyond any file and leave room for the product with a block's bytes.
    if (size == 0 || size > (uint64_t{1} << 62) / elements) {
      throw Error("{}: tensor '{}' has a dimension of {}", cursor.path(), info.name, size);
    }
    elements *= size;
    info.tensor.shape.dim[Shape::kMaxDims - 1 - i] = static_cast<int64_t>(size);
  }
  const auto type_id = cursor.read<uint32_t>("a tensor's type");
  const quant::TypeTraits* traits = quant::find_traits(type_id);
  if (traits == nullptr) {
    throw Error("{}: tensor '{}' has unknown type {}", cursor.path(), info.name, type_id);
  }
  info.tensor.dtype = traits->dtype;
  const auto block = static_cast<uint64_t>(traits->block_elements);
  if (static_cast<uint64_t>(info.tensor.cols()) % block != 0) {
    throw Error("{}: tensor '{}' has rows of {} elements, no multiple of the {} of a {} block",
                cursor.path(), info.name, info.tensor.cols(), block, traits->name);
  }
  const uint64_t blocks = elements / block;
  if (blocks > (uint64_t{1} << 62) / static_cast<uint64_t>(traits->block_bytes)) {
    throw Error("{}: tensor '{}' is larger than any file", cursor.path(), info.name);
  }
  info.bytes = blocks * static_cast<uint64_t>(traits->block_bytes);
  info.offset = cursor.read<uint64_t>("a tensor's offset");
  return info;
}

}  // namespace

const Entry* Container::find(std::string_view key) const {
  for (const Entry& entry : metadata) {
    if (entry.key == key) return &entry;
  }
  return nullptr;
}

Container parse_container(const std::string& path, std::span<const std::byte> bytes,
                          int file_index) {
  Cursor cursor(path, bytes);
  if (cursor.read<uint32_t>("the magic number") != kMagic)
    throw Error("{}: is not a GGUF file", path);
  Container container;
  container.version = cursor.read<uint32_t>("the version");
  if (container.version != 2 && container.version != 3) {
    const bool swapped = __builtin_bswap32(container.version) <= 3;
    throw Error("{}: GGUF version {} is not supported{}", path, container.version,
                swapped ? " (the file is big-endian)" : "; versions 2 and 3 are");
  }
  const uint64_t tensor_count = cursor.read_count(kMinTensorBytes, "the number of tensors");
  const uint64_t entry_count = cursor.read_count(kMinEntryBytes, "the number of metadata entries");
  container.metadata = read_metadata(cursor, entry_count);
  const uint64_t alignment = read_alignment(path, container);

  container.tensors.reserve(tensor_count);
  std::unordered_set<std::string_view> names;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    container.tensors.push_back(read_tensor(cursor, i));
    if (!names.insert(container.tensors.back().name).second) {
      throw Error("{}: tensor '{}' occurs twice", path, container.tensors.back().name);
    }
  }
  const uint64_t data_start = (cursor.position() + alignment - 1) / alignment * alignment;
  for (TensorInfo& info : container.tensors) {
    if (info.offset % alignment != 0) {
      throw Error("{}: tensor '{}' starts at {}, no multiple of the alignment {}", path, info.name,
                  info.offset, alignment);
    }
    if (data_start > bytes.size() || info.offset > bytes.size() - data_start ||
        info.bytes > bytes.size() - data_start - info.offset) {
      throw Error("{}: truncated: tensor '{}' of {} bytes goes beyond the end of the file", path,
                  info.name, info.bytes);
    }
    info.offset += data_start;
    info.file_index = file_index;
    info.tensor.data = const_cast<std::byte*>(bytes.data() + info.offset);
  }
  return container;
}

}  // namespace tandem::gguf
