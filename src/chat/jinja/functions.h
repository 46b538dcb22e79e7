// The tables of natives (filters, tests, methods, globals) and the binding of their arguments.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "chat/jinja/value.h"

namespace tandem::chat::jinja {

// Null where there is none of that name.
Native find_filter(std::string_view name);
Native find_test(std::string_view name);  // its result is a bool
Native find_global(std::string_view name);

struct NativeEntry {
  std::string_view name;  // lives as long as the program
  Native native;
};
const NativeEntry* find_method(const Value& object, std::string_view name);

template <std::size_t N>
const NativeEntry* find_entry(const NativeEntry (&table)[N], std::string_view name) {
  for (const NativeEntry& entry : table) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}
template <std::size_t N>
Native find_in(const NativeEntry (&table)[N], std::string_view name) {
  const NativeEntry* entry = find_entry(table, name);
  return entry == nullptr ? nullptr : entry->native;
}

Native find_text_filter(std::string_view name);
Native find_sequence_filter(std::string_view name);
const NativeEntry* find_text_method(std::string_view name);

// Counts the text a native is about to read, then runs it.
Value call_native(Native native, Runtime& runtime, const Value& self, const Arguments& arguments);

// Puts arguments in the order of the parameter names, as Python does; null where one is not given.
void bind_arguments(const Arguments& arguments, const char* const* names, const Value** bound,
                    std::size_t count, std::size_t required);

template <std::size_t N>
std::array<const Value*, N> bind(const Arguments& arguments, const char* const (&names)[N],
                                 std::size_t required = 0) {
  std::array<const Value*, N> bound{};
  bind_arguments(arguments, names, bound.data(), N, required);
  return bound;
}
inline void bind_none(const Arguments& arguments) {
  bind_arguments(arguments, nullptr, nullptr, 0, 0);
}

// Conversions of arguments; a null or None argument gives the fallback.
std::string_view text_argument(const Value* argument, std::string_view fallback);
Integer integer_argument(const Value* argument, Integer fallback);
bool flag_argument(const Value* argument, bool fallback);

}  // namespace tandem::chat::jinja
