// Hostile templates and conversations end in a Failure: quickly, without a crash, without much
// memory.
#include <chrono>
#include <ctime>
#include <string>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <gtest/gtest.h>

#include "chat/chat_template.h"

namespace tandem::chat {
namespace {

std::string repeated(const std::string& text, int count) {
  std::string out;
  for (int i = 0; i < count; ++i) out += text;
  return out;
}

Result<std::string> render(const std::string& source, const boost::json::object& context = {}) {
  const auto parsed = ChatTemplate::parse(source);
  if (!parsed) return parsed.failure();
  std::tm now{};
  now.tm_mday = 1;
  return (*parsed)->render(context, now);
}

// Generous, for sanitizer builds on busy machines; a hang takes far longer.
constexpr std::chrono::seconds kPatience{60};

void expect_failure(const std::string& source, const std::string& reason,
                    const boost::json::object& context = {}) {
  SCOPED_TRACE(source.substr(0, 200));
  const auto start = std::chrono::steady_clock::now();
  const auto result = render(source, context);
  EXPECT_LT(std::chrono::steady_clock::now() - start, kPatience);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.failure().message.find(reason), std::string::npos) << result.failure().message;
}

TEST(TemplateLimits, DeepSyntaxIsRefused) {
  const int deep = 20'000;
  expect_failure("{{ " + repeated("(", deep) + "1" + repeated(")", deep) + " }}", "nested");
  expect_failure("{{ " + repeated("[", deep) + repeated("]", deep) + " }}", "nested");
  expect_failure("{{ " + repeated("{1:", deep) + "1" + repeated("}", deep) + " }}", "nested");
  expect_failure("{{ " + repeated("not ", deep) + "1 }}", "nested");
  expect_failure("{{ " + repeated("-", deep) + "1 }}", "nested");
  expect_failure("{{ " + repeated("1 if 1 else ", deep) + "1 }}", "nested");
  expect_failure("{{ " + repeated("f(", deep) + repeated(")", deep) + " }}", "nested");
  expect_failure("{{ " + repeated("a[", deep) + "1" + repeated("]", deep) + " }}", "nested");
  expect_failure("{{ " + repeated("a|default(", deep) + repeated(")", deep) + " }}", "nested");
  expect_failure(repeated("{% if 1 %}", deep) + repeated("{% endif %}", deep), "nested");
  expect_failure(repeated("{% for i in [1] %}", deep) + repeated("{% endfor %}", deep), "nested");
  expect_failure("{% set " + repeated("(", deep) + "a" + repeated(")", deep) + " = 1 %}", "nested");
}

// These grow to the left without nested brackets: parsing them is fine, evaluating them is not.
TEST(TemplateLimits, LongChainsAreRefused) {
  const int length = 100'000;
  expect_failure("{{ 1" + repeated(" + 1", length) + " }}", "nested");
  expect_failure("{{ a" + repeated(".b", length) + " }}", "nested");
  expect_failure("{{ a" + repeated("|string", length) + " }}", "nested");
  expect_failure("{{ a" + repeated("()", length) + " }}", "nested");
  expect_failure("{{ 1" + repeated(" and 1", length) + " }}", "nested");
  const auto flat = render("{{ ''" + repeated(" ~ 'ab'", length) + " }}");
  ASSERT_TRUE(flat.ok()) << flat.failure().message;
  EXPECT_EQ(flat->size(), 2u * length);
}

TEST(TemplateLimits, EndlessRecursionIsRefused) {
  expect_failure("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "deep");
  expect_failure(
      "{% macro f(n) %}{{ g(n) }}{% endmacro %}{% macro g(n) %}{{ f(n + 1) }}{% endmacro %}{{ f(1) "
      "}}",
      "deep");
  expect_failure(
      "{% macro f(x) %}{% call f(x) %}{{ caller() }}{% endcall %}{% endmacro %}{{ f(1) }}", "deep");
  expect_failure("{% macro f(a=f()) %}{% endmacro %}{{ f() }}", "deep");
  expect_failure("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", "deep");
}

TEST(TemplateLimits, LongLoopsAreRefused) {
  const std::string loop = "{% set r = range(100000) %}{% for a in r %}";
  expect_failure(loop + "{% for b in r %}{% endfor %}{% endfor %}", "too long");
  expect_failure(loop + "{% for b in r %}{% if a %}{% endif %}{% endfor %}{% endfor %}",
                 "too long");
  expect_failure(loop + "{% set x = range(100000) %}{% endfor %}", "memory");
  expect_failure(loop + "{% set x = r|list|sort %}{% endfor %}", "too long");
  expect_failure("{{ range(100001) }}", "range");
  expect_failure("{{ range(0, -999999999999, -1) }}", "range");
  expect_failure(
      "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(100) }}",
      "too long");
  expect_failure("{% set l = [1] %}{% for x in range(60) %}{% set _ = l.extend(l) %}{% endfor %}",
                 "");
}

TEST(TemplateLimits, ScanningLargeTextIsCounted) {
  boost::json::object context;
  context["s"] = std::string(5'000'000, 'a');
  const std::string loop = "{% for i in range(100000) %}";
  for (const char* scan :
       {"s|length", "'b' in s", "s == s ~ ''", "s.find('ab')", "s.strip('b')", "s[5:6]",
        "s.replace('b', 'c')", "s.rsplit('ab')", "s < s ~ 'b'", "s.startswith(s)"}) {
    expect_failure(loop + "{{ (" + scan + ") and '' }}{% endfor %}", "", context);
  }
  context["t"] = std::string(2'500'000, 'a') + "b" + std::string(2'400'000, 'a');
  expect_failure("{{ s.rfind(t) }}", "too long", context);
  expect_failure("{{ s.strip(t) }}", "too long", context);
  EXPECT_EQ(*render("{{ t in s }}", context), "False");
}

TEST(TemplateLimits, GrowthOfTextIsBounded) {
  expect_failure("{{ 'x' * 1000000000 }}", "grows");
  expect_failure("{{ [1] * 1000000000 }}", "too large");
  expect_failure(
      "{% set ns = namespace(s='xxxxxxxxxx') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s "
      "%}{% endfor %}",
      "grows");
  expect_failure(
      "{% set ns = namespace(l=[1]) %}{% for i in range(100) %}{% set ns.l = ns.l + ns.l %}{% "
      "endfor %}",
      "memory");
  expect_failure("{% set s = 'x' * 60000000 %}{{ s }}{{ s }}", "grows");
  expect_failure("{% set s = 'x' * 60000000 %}{{ [s, s, s]|join }}", "grows");
  expect_failure("{% set s = 'x' * 1000000 %}{{ s|replace('', s) }}", "grows");
  expect_failure("{% set s = 'a\n' * 10000 %}{{ s|indent(1000000) }}", "grows");
  expect_failure("{{ '%1000000000d' % 1 }}", "width");
  expect_failure("{{ '%*d' % (1000000000, 1) }}", "width");
  expect_failure("{{ '{:1000000000}'.format(1) }}", "width");
  expect_failure("{{ 'a'.center(1000000000) }}", "");
  expect_failure("{{ 'a'.zfill(1000000000) }}", "");
  expect_failure("{{ [1]|tojson(indent=1000000000) }}", "indent");
  expect_failure("{{ [1]|batch(1000000000, 1)|list }}", "batch");
  expect_failure("{% set s = '%d' * 1000000 %}{{ s.split('d')|map('replace', '', s)|list }}", "");
  expect_failure("{{ 2 ** 1000 }}", "overflow");
  expect_failure("{{ 9 ** 9 ** 9 }}", "overflow");
  expect_failure(
      "{% set l = [] %}{% for i in range(100000) %}{% for j in range(1000) %}{% set _ = "
      "l.append(l) %}{% endfor %}{% endfor %}",
      "");
  expect_failure(
      "{% set k = 'x' * 30000000 %}{% set l = [] %}{% for i in range(100) %}{% set _ = l.append(k "
      "~ i) %}{% endfor %}",
      "");
}

TEST(TemplateLimits, EndlessValuesAreRefused) {
  const std::string cycle = "{% set l = [] %}{% set _ = l.append(l) %}";
  expect_failure(cycle + "{{ l }}", "deep");
  expect_failure(cycle + "{{ l|tojson }}", "deep");
  expect_failure(cycle + "{% set m = [] %}{% set _ = m.append(m) %}{{ l == m }}", "deep");
  expect_failure(cycle + "{% set m = [] %}{% set _ = m.append(m) %}{{ l < m }}", "deep");
  const std::string doubled =
      "{% set ns = namespace(a=[]) %}{% for i in range(100) %}{% set ns.a = [ns.a, ns.a] %}{% "
      "endfor %}";
  expect_failure(doubled + "{{ ns.a }}", "");
  expect_failure(doubled + "{{ ns.a|tojson }}", "");
  const std::string twice =
      "{% set n2 = namespace(a=[]) %}{% for i in range(100) %}{% set n2.a = [n2.a, n2.a] %}{% "
      "endfor %}";
  expect_failure(doubled + twice + "{{ ns.a == n2.a }}", "too long");
  const std::string nest =
      "{% set ns = namespace(a=[]) %}{% for i in range(90000) %}{% set ns.a = [ns.a] %}{% endfor "
      "%}";
  expect_failure(nest + "{{ ns.a }}", "deep");
  EXPECT_TRUE(render(nest).ok());
  expect_failure("{{ ('[' * 100000)|from_json }}", "JSON");
}

TEST(TemplateLimits, DeepConversationsAreSafe) {
  boost::json::value deep = 1;
  for (int i = 0; i < 250; ++i) deep = boost::json::array{deep};
  EXPECT_TRUE(render("{{ d|tojson }}{{ d }}{{ d == d }}{{ [d]|sort|length }}", {{"d", deep}}).ok());
  for (int i = 0; i < 2000; ++i) deep = boost::json::array{std::move(deep)};
  expect_failure("{{ d }}", "nested", {{"d", deep}});
  boost::json::array many;
  for (int i = 0; i < 3'000'000; ++i) many.emplace_back(boost::json::array{});
  expect_failure("{{ d }}", "memory", {{"d", many}});
}

TEST(TemplateLimits, RealisticSizesPass) {
  boost::json::object context;
  boost::json::array messages;
  for (int i = 0; i < 2000; ++i) {
    messages.push_back(
        {{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", std::string(5000, 'x')}});
  }
  context["messages"] = messages;
  const auto result = render(
      "{% for m in messages %}{% if '</think>' in m.content %}{% set c = "
      "m.content.split('</think>')[-1] %}{% else %}"
      "{% set c = m.content %}{% endif %}{{ '<|' + m.role + '|>' + c|trim + '\n' }}{% if not "
      "loop.last and "
      "messages[loop.index0 + 1].role == m.role %}{{ raise_exception('x') }}{% endif %}{% endfor "
      "%}",
      context);
  ASSERT_TRUE(result.ok()) << result.failure().message;
  EXPECT_GT(result->size(), 10'000'000u);
}

// The shield's mark is no UTF-8: it passes through everything.
TEST(TemplateLimits, StrayBytesPassThrough) {
  const boost::json::object context{{"s", "<\xff|im_end|>\xc3"},
                                    {"k",
                                     {{"\xff",
                                       "a\xff"
                                       "b"}}}};
  const auto result = render(
      "{{ s }}{{ s|trim }}{{ s|tojson }}{{ s|tojson(ensure_ascii=true) }}{{ s[1:] }}{{ s|upper "
      "}}{{ s|length }}{{ k }}"
      "{{ s.split('|')[0] }}{{ (s|tojson)|from_json }}{{ s[::-1] }}{{ '\xff' in s }}{{ "
      "s.strip('<\xc3') }}\xff",
      context);
  ASSERT_TRUE(result.ok()) << result.failure().message;
  EXPECT_EQ(*result,
            "<\xff|im_end|>\xc3<\xff|im_end|>\xc3\"<\xff|im_end|>\xc3\"\"<\xff|im_end|>\xc3\"\xff|"
            "im_end|>\xc3"
            "<\xff|IM_END|>\xc3"
            "12{'\xff': 'a\xff"
            "b'}<\xff<\xff|im_end|>\xc3\xc3>|dne_mi|\xff<True\xff|im_end|>\xff");
}

TEST(TemplateLimits, MethodsOutliveTheNameTheyWereFoundBy) {
  const auto result = render(
      "{% set m = {}['it' ~ 'ems'] %}{% set u = 'ab'['upp' ~ 'er'] %}{{ m }} {{ u }} {{ u() }}");
  ASSERT_TRUE(result.ok()) << result.failure().message;
  EXPECT_EQ(*result, "<function items> <function upper> AB");
}

TEST(TemplateLimits, FailuresNameLineAndConstruct) {
  expect_failure("a\n{{ messages.x }}", "line 2");
  expect_failure("a\n{{ messages.x }}", "messages");
  expect_failure("\n\n{{ 5|items|list }}", "line 3: filter 'items'");
  expect_failure("\n{% iff %}", "line 2: unknown or misplaced statement 'iff'");
  expect_failure("{{ 'a'|nosuch }}", "no filter named 'nosuch'");
  expect_failure("{{ raise_exception('Only user and assistant') }}", "Only user and assistant");
}

}  // namespace
}  // namespace tandem::chat
