// Models that differ in anything that a result depends on have different identities.
#include "gguf/identity.h"

#include <gtest/gtest.h>

#include "tests/gguf/writer.h"

namespace tandem::gguf {
namespace {

struct Model {
  uint32_t layers = 2;
  std::string type = "tiny";
  std::string token = "a";
  std::string tensor = "x.weight";
  float first = 0.0F, last = 0.0F;
  uint64_t rows = 2000;
};

Hash128 identity_of(const Model& model) {
  Writer w;
  w.header(1, 3).u32("a.block_count", model.layers);
  w.text("a.type").put<uint32_t>(8).text(model.type);
  w.text("tokenizer.ggml.bos").put<uint32_t>(8).text(model.token);
  w.tensor(model.tensor, {3, model.rows}, 0, 0).pad();
  const uint64_t count = 3 * model.rows;
  for (uint64_t i = 0; i < count; ++i) {
    w.put(i == 0 ? model.first : i == count / 2 ? model.last : 1.0F);
  }
  const TempFolder folder;
  return identity(*File::open(folder.write("m.gguf", w.bytes())));
}

TEST(Identity, DependsOnWhatAResultDependsOn) {
  const Hash128 base = identity_of({});
  EXPECT_EQ(identity_of({}), base) << "a copy of the file";
  EXPECT_EQ(identity_of({.token = "b"}), base) << "how a token is spelled";
  EXPECT_NE(identity_of({.layers = 3}), base);
  EXPECT_NE(identity_of({.type = "tinz"}), base);
  EXPECT_NE(identity_of({.tensor = "y.weight"}), base);
  EXPECT_NE(identity_of({.first = 1.0F}), base);
  EXPECT_NE(identity_of({.last = 1.0F}), base);
  EXPECT_NE(identity_of({.rows = 2001}), base);
}

}  // namespace
}  // namespace tandem::gguf
