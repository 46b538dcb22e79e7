// Typed look-ups of metadata.
#include <limits>

#include "base/error.h"
#include "gguf/file.h"

namespace tandem::gguf {
namespace {

const Entry& require(const File& file, std::string_view key) {
  const Entry* entry = file.find(key);
  if (entry == nullptr) throw Error("{}: key '{}' is missing", file.path(), key);
  return *entry;
}

[[noreturn]] void wrong_kind(const File& file, std::string_view key, std::string_view wanted) {
  throw Error("{}: key '{}' is not {}", file.path(), key, wanted);
}

}  // namespace

size_t Array::size() const {
  return std::visit([](const auto& values) { return values.size(); }, items);
}

uint64_t File::get_u64(std::string_view key) const {
  const Entry& entry = require(*this, key);
  if (const auto* value = std::get_if<uint64_t>(&entry.value)) return *value;
  const auto* value = std::get_if<int64_t>(&entry.value);
  if (value == nullptr || *value < 0) wrong_kind(*this, key, "an unsigned integer");
  return static_cast<uint64_t>(*value);
}

uint64_t File::get_u64_or(std::string_view key, uint64_t fallback) const {
  return find(key) == nullptr ? fallback : get_u64(key);
}

double File::get_f64(std::string_view key) const {
  const Entry& entry = require(*this, key);
  if (const auto* value = std::get_if<double>(&entry.value)) return *value;
  if (const auto* value = std::get_if<uint64_t>(&entry.value)) return static_cast<double>(*value);
  if (const auto* value = std::get_if<int64_t>(&entry.value)) return static_cast<double>(*value);
  wrong_kind(*this, key, "a number");
}

double File::get_f64_or(std::string_view key, double fallback) const {
  return find(key) == nullptr ? fallback : get_f64(key);
}

bool File::get_bool_or(std::string_view key, bool fallback) const {
  const Entry* entry = find(key);
  if (entry == nullptr) return fallback;
  const auto* value = std::get_if<bool>(&entry->value);
  if (value == nullptr) wrong_kind(*this, key, "a boolean");
  return *value;
}

std::string_view File::get_string(std::string_view key) const {
  const Entry& entry = require(*this, key);
  const auto* value = std::get_if<std::string_view>(&entry.value);
  if (value == nullptr) wrong_kind(*this, key, "a string");
  return *value;
}

std::string_view File::get_string_or(std::string_view key, std::string_view fallback) const {
  return find(key) == nullptr ? fallback : get_string(key);
}

const Array* File::find_array(std::string_view key) const {
  const Entry* entry = find(key);
  if (entry == nullptr) return nullptr;
  const auto* value = std::get_if<std::shared_ptr<Array>>(&entry->value);
  if (value == nullptr) wrong_kind(*this, key, "an array");
  return value->get();
}

}  // namespace tandem::gguf
