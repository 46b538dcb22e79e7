// Python's two ways of formatting: text % values and text.format(values).
#pragma once

#include "chat/jinja/value.h"

namespace tandem::chat::jinja {

// text % operand: a tuple holds the values, a dict what %(name)s looks up, anything else is the one
// value.
Value format_percent(const Text& format, const Value& operand, Runtime& runtime);
// The format filter. mapping: what %(name)s looks into; null where there is none.
Value format_percent(const Text& format, const Arguments& arguments, const Dict* mapping,
                     Runtime& runtime);
Value format_braces(const Text& format, const Arguments& arguments, Runtime& runtime);

}  // namespace tandem::chat::jinja
