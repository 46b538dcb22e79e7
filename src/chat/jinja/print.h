// Python's str() and repr() of values.
#pragma once

#include <string>

#include "chat/jinja/value.h"

namespace tandem::chat::jinja {

// Shortest digits that read back the same, spelled as Python does: 1.0, 1e-07, 1e+22, inf.
std::string float_text(double value);
std::string integer_text(Integer value);

void print(const Value& value, TextBuilder& out);  // str()
void print_repr(const Value& value, TextBuilder& out);
std::string text_of(const Value& value, Meter& meter);

}  // namespace tandem::chat::jinja
