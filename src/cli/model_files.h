// Finds what a model consists of: weights, tokenizer, chat template.
#pragma once

#include <memory>
#include <string>

#include "chat/chat_template.h"
#include "gguf/file.h"
#include "tokenizer/tokenizer.h"

namespace tandem::cli {

struct ModelFiles {
  std::unique_ptr<gguf::File> weights;
  std::shared_ptr<const tokenizer::Tokenizer> tokenizer;
  std::shared_ptr<const chat::ChatTemplate> chat_template;  // null: none that works
  std::string chat_template_error;                          // why it does not work
  std::string name;                                         // for people: the file's
};

// gguf_path: file or directory; empty: the default model. model_path: directory with config.json,
// tokenizer.json and tokenizer_config.json, whose tokenizer and template are used and whose shape
// must be the file's; or a mere name, or empty. Throws Error.
ModelFiles open_model(const std::string& gguf_path, const std::string& model_path);

}  // namespace tandem::cli
