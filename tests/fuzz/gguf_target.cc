// Model files: the container, every tensor's bytes, the configuration, the vocabulary.
#include <fstream>

#include "base/error.h"
#include "gguf/file.h"
#include "models/config.h"
#include "tests/fuzz/targets.h"
#include "tests/fuzz/temp_file.h"
#include "tokenizer/tokenizer.h"

namespace tandem::fuzz {
namespace {

// Reads what the file says it holds; the sum keeps the reads alive.
uint64_t touch(const gguf::File& file) {
  uint64_t sum = 0;
  for (const gguf::TensorInfo& info : file.tensors()) {
    const auto* bytes = static_cast<const uint8_t*>(info.tensor.data);
    if (info.bytes == 0) continue;
    sum += bytes[0] + bytes[info.bytes - 1];
    std::byte first[1];
    file.read(info, info.bytes - 1, first);
  }
  for (const gguf::Entry& entry : file.metadata()) {
    if (const auto* text = std::get_if<std::string_view>(&entry.value)) {
      for (const char c : *text) sum += static_cast<unsigned char>(c);
    }
  }
  return sum;
}

template <typename Body>
void expect_no_more_than_an_error(const Body& body) {
  try {
    body();
  } catch (const Error&) {  // what a broken file may do
  }
}

}  // namespace

void gguf(Bytes bytes) {
  static const TempFile file(".gguf");
  file.write(text_of(bytes));
  expect_no_more_than_an_error([&] {
    const auto model = gguf::File::open(file.path());
    volatile const uint64_t sum = touch(*model);
    static_cast<void>(sum);
    expect_no_more_than_an_error([&] { models::read_config(*model); });
    expect_no_more_than_an_error([&] {
      const auto tokenizer = tokenizer::Tokenizer::from_gguf(*model);
      const auto ids = tokenizer->encode("Hello, <s>w\xc3\xb6rld 123\n\xff\xe2\x82", {});
      tokenizer->decode(ids, false);
    });
  });
}

}  // namespace tandem::fuzz
