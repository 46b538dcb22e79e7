// object.name and object[key] as Jinja resolves them: methods hide keys of the same name in the
// first form, keys come first in the second; what is not there is undefined, and looking into
// undefined fails.
#pragma once

#include <string_view>

#include "chat/jinja/value.h"

namespace tandem::chat::jinja {

// origin: the expression, for the message when the result is used though undefined; may be null.
Value attribute(const Value& object, std::string_view name, const Expression* origin,
                Runtime& runtime);
Value subscript(const Value& object, const Value& key, const Expression* origin, Runtime& runtime);

[[noreturn]] void fail_undefined(const Undefined& undefined);

}  // namespace tandem::chat::jinja
