// What is fuzzed: each target takes bytes that a file or a client may hold, and must neither crash
// nor hang nor read what it may not. libFuzzer drives them (fuzz preset); without it corpus_test
// runs every recorded input through them.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace tandem::fuzz {

using Bytes = std::span<const uint8_t>;
using Target = void (*)(Bytes);

void gguf(Bytes bytes);       // a model file: container, configuration, vocabulary
void jinja(Bytes bytes);      // a chat template, rendered for a small conversation
void json_body(Bytes bytes);  // the body of a chat or text completion
void http(Bytes bytes);       // what a client sends over a connection
void encode(Bytes bytes);     // what users write, through the tokenizers
void output(Bytes bytes);     // what a model says, in pieces
void records(Bytes bytes);    // damages to the disk cache's files

inline std::string_view text_of(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace tandem::fuzz
