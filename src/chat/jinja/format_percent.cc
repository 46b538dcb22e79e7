// text % values: printf's conversions as Python understands them.
#include <cmath>
#include <optional>

#include "chat/jinja/format.h"
#include "chat/jinja/format_spec.h"
#include "chat/jinja/operations.h"
#include "chat/jinja/print.h"
#include "chat/jinja/unicode.h"

namespace tandem::chat::jinja {
namespace {

class PercentFormatter {
 public:
  // may_be_unused: whether arguments may be left over.
  PercentFormatter(const Text& format, const Arguments& arguments, const Dict* mapping,
                   bool may_be_unused, Runtime& runtime)
      : format_(format.view()),
        markup_(format.markup()),
        arguments_(arguments),
        mapping_(mapping),
        may_be_unused_(may_be_unused),
        runtime_(runtime) {}

  Value run() {
    for (at_ = 0; at_ < format_.size();) {
      if (format_[at_] != '%') {
        const std::size_t next = std::min(format_.find('%', at_), format_.size());
        out_.append(format_.substr(at_, next - at_));
        at_ = next;
      } else {
        ++at_;
        conversion();
      }
    }
    if (!may_be_unused_ && next_ < arguments_.positional.size()) {
      fail("not all arguments converted during string formatting");
    }
    return runtime_.heap.text(out_.take(), markup_);
  }

 private:
  char peek() const {
    if (at_ >= format_.size()) fail("incomplete format");
    return format_[at_];
  }

  const Value& next_argument() {
    if (next_ >= arguments_.positional.size()) fail("not enough arguments for format string");
    return arguments_.positional[next_++];
  }

  Value named_argument() {
    const std::size_t close = format_.find(')', at_);
    if (close == std::string_view::npos) fail("incomplete format key");
    const std::string_view key = format_.substr(at_ + 1, close - at_ - 1);
    at_ = close + 1;
    if (mapping_ == nullptr) fail("format requires a mapping");
    const Value* found = mapping_->find(key);
    if (found == nullptr) fail("format key '{}' is missing", key);
    return *found;
  }

  std::size_t number() {
    if (at_ >= format_.size() || format_[at_] != '*') return read_width(format_, at_);
    ++at_;
    const auto value = as_integer(next_argument());
    if (!value || *value < 0 || *value > static_cast<Integer>(kMaxFormatWidth))
      fail("bad width for *");
    return static_cast<std::size_t>(*value);
  }

  void conversion() {
    std::optional<Value> named;
    if (peek() == '(') named = named_argument();
    FormatSpec spec;
    spec.align = '>';
    for (; std::string_view("#0- +").find(peek()) != std::string_view::npos; ++at_) {
      if (peek() == '#') spec.alternate = true;
      if (peek() == '0' && spec.align != '<') spec.fill = '0', spec.align = '=';
      if (peek() == '-') spec.fill = ' ', spec.align = '<';
      if (peek() == '+' || (peek() == ' ' && spec.sign != '+')) spec.sign = peek();
    }
    spec.width = number();
    if (peek() == '.') {
      ++at_;
      spec.precision = static_cast<int>(number());
    }
    while (std::string_view("hlL").find(peek()) != std::string_view::npos) ++at_;
    spec.type = peek();
    ++at_;
    if (spec.type == '%') {
      out_.append("%");
    } else {
      convert(named ? *named : next_argument(), spec);
    }
  }

  void convert(const Value& value, FormatSpec spec) {
    if (spec.type == 's' || spec.type == 'r' || spec.type == 'a' ||
        (spec.type == 'c' && is<Text>(value))) {
      TextBuilder text(runtime_.meter);
      if (spec.type == 's' || spec.type == 'c')
        append_text(value, markup_, text, runtime_.meter);
      else
        print_repr(value, text);
      std::string_view shown = text.view();
      if (spec.precision >= 0)
        shown = shown.substr(0, offset_of(shown, static_cast<std::size_t>(spec.precision)));
      spec.fill = ' ';
      if (spec.align == '=') spec.align = '>';
      return pad(shown, spec, false, out_);
    }
    if (std::string_view("diuxXoeEfFgGc").find(spec.type) == std::string_view::npos) {
      fail("unsupported format character '{}'", spec.type);
    }
    if (!is_number(value))
      fail("%{} format: a number is required, not {}", spec.type, type_name(value));
    const bool decimal = spec.type == 'd' || spec.type == 'i' || spec.type == 'u';
    if (decimal) spec.type = 'd';
    if (decimal && is<double>(value)) {
      const double whole = std::trunc(std::get<double>(value));
      if (!(std::fabs(whole) < 1e38)) fail("cannot convert float {} to integer", float_text(whole));
      return format_number(static_cast<Integer>(whole), spec, out_);
    }
    format_number(value, spec, out_);
  }

  std::string_view format_;
  bool markup_;
  const Arguments& arguments_;
  const Dict* mapping_;
  bool may_be_unused_;
  Runtime& runtime_;
  TextBuilder out_{runtime_.meter};
  std::size_t at_ = 0;
  std::size_t next_ = 0;
};

}  // namespace

// Python takes whatever can be indexed, except text and tuples, for a mapping that need not be
// used.
Value format_percent(const Text& format, const Value& operand, Runtime& runtime) {
  Arguments arguments;
  const auto* sequence = std::get_if<Sequence*>(&operand);
  if (sequence != nullptr && (*sequence)->kind == SequenceKind::kTuple) {
    arguments.positional = (*sequence)->items;
    return PercentFormatter(format, arguments, nullptr, false, runtime).run();
  }
  arguments.positional.push_back(operand);
  const auto* dict = std::get_if<Dict*>(&operand);
  const bool indexable = sequence != nullptr && ((*sequence)->kind == SequenceKind::kList ||
                                                 (*sequence)->kind == SequenceKind::kRange);
  const bool may_be_unused = dict != nullptr || indexable || is<Undefined>(operand);
  return PercentFormatter(format, arguments, dict == nullptr ? nullptr : *dict, may_be_unused,
                          runtime)
      .run();
}

Value format_percent(const Text& format, const Arguments& arguments, const Dict* mapping,
                     Runtime& runtime) {
  return PercentFormatter(format, arguments, mapping, mapping != nullptr, runtime).run();
}

}  // namespace tandem::chat::jinja
