// HTML escapes, as `escape` and text marked `safe` use them.
#pragma once

#include <string_view>

#include "chat/jinja/meter.h"

namespace tandem::chat::jinja {

inline void escape_html(std::string_view text, TextBuilder& out) {
  for (const char& byte : text) {
    switch (byte) {
      case '&':
        out.append("&amp;");
        break;
      case '<':
        out.append("&lt;");
        break;
      case '>':
        out.append("&gt;");
        break;
      case '"':
        out.append("&#34;");
        break;
      case '\'':
        out.append("&#39;");
        break;
      default:
        out.append(1, byte);
    }
  }
}

}  // namespace tandem::chat::jinja
