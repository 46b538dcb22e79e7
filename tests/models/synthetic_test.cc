// Every synthetic model is one that the decoders accept, at its full size: its weights have places
// but are not there.
#include "gguf/synthetic.h"

#include <string>

#include <gtest/gtest.h>

#include "models/model.h"

namespace tandem::models {
namespace {

TEST(Synthetic, EveryModelHasADecoder) {
  for (const char* name :
       {"ds-v2-lite", "ds-v3", "qwen3-30b-a3b", "qwen3-235b-a22b", "qwen3-14b"}) {
    for (const int layers : {0, 1, 5}) {
      SCOPED_TRACE(std::string(name) + " with layers " + std::to_string(layers));
      const std::unique_ptr<gguf::File> file = gguf::open_synthetic(name, layers);
      const std::unique_ptr<Decoder> decoder = create_decoder(*file, 8);
      EXPECT_TRUE(layers == 0 || decoder->config().layers == layers);
      // All matrices, each once; only norms and biases are read elsewhere.
      EXPECT_GT(decoder->weight_file_bytes(),
                static_cast<int64_t>(file->total_bytes() / 1000 * 998));
      EXPECT_GE(decoder->weight_memory_bytes(), decoder->weight_file_bytes());
      EXPECT_LT(decoder->weight_memory_bytes(), decoder->weight_file_bytes() / 1000 * 1002);
    }
  }
}

}  // namespace
}  // namespace tandem::models
