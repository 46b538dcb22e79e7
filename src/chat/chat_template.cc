// The engine's outer face: its exceptions end here as Failures that name the line.
#include "chat/chat_template.h"

#include <new>
#include <utility>

#include "chat/jinja/evaluator.h"
#include "chat/jinja/parser.h"

namespace tandem::chat {
namespace {

constexpr std::size_t kMaxSourceBytes = std::size_t{4} << 20;

Failure template_failure(std::string message) {
  return Failure{.message = "chat template: " + std::move(message), .code = "chat_template_error"};
}

class JinjaTemplate final : public ChatTemplate {
 public:
  JinjaTemplate(std::string source, std::unique_ptr<const jinja::Program> program)
      : source_(std::move(source)), program_(std::move(program)) {}

  Result<std::string> render(const boost::json::object& context, const std::tm& now) const override
      try {
    jinja::Evaluator evaluator(*program_, context, now);
    try {
      return evaluator.run();
    } catch (const jinja::TemplateError& error) {
      return template_failure(fmt::format("line {}: {}", evaluator.line(), error.message));
    }
  } catch (const jinja::TemplateError& error) {  // the context alone is beyond the limits
    return template_failure(error.message);
  } catch (const std::bad_alloc&) {
    return template_failure("out of memory");
  }

  const std::string& source() const override { return source_; }

 private:
  std::string source_;
  std::unique_ptr<const jinja::Program> program_;
};

}  // namespace

Result<std::shared_ptr<const ChatTemplate>> ChatTemplate::parse(std::string source) {
  if (source.size() > kMaxSourceBytes) {
    return template_failure(fmt::format("longer than {} bytes", kMaxSourceBytes));
  }
  try {
    auto program = jinja::parse(source);
    return std::shared_ptr<const ChatTemplate>(
        std::make_shared<JinjaTemplate>(std::move(source), std::move(program)));
  } catch (const jinja::TemplateError& error) {
    return template_failure(error.message);
  }
}

}  // namespace tandem::chat
