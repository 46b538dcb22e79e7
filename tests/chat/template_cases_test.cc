// Small templates, one for each construct, filter, test and method: our rendering against Python's
// jinja2 (data/make_jinja_cases.py writes the expectations).
#include <ctime>
#include <string>

#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

#include "chat/chat_template.h"
#include "tests/golden.h"

namespace tandem::chat {
namespace {

TEST(TemplateCases, EveryConstructRendersAsInPython) {
  const auto file = boost::json::parse(
      tandem::testing::read_file(TANDEM_SOURCE_DIR "/tests/chat/data/jinja_cases.json"));
  const auto& context = file.at("context").as_object();
  std::tm now{};
  now.tm_year = 126;
  now.tm_mday = 2;
  now.tm_hour = 3;
  now.tm_min = 4;
  now.tm_sec = 5;
  now.tm_wday = 5;
  now.tm_yday = 1;
  ASSERT_GT(file.at("cases").as_array().size(), 700u);
  for (const auto& recorded : file.at("cases").as_array()) {
    const std::string source(recorded.at(0).as_string());
    SCOPED_TRACE(source);
    std::string outcome = "fails";
    std::string reason;
    const auto parsed = ChatTemplate::parse(source);
    if (!parsed.ok()) {
      reason = parsed.failure().message;
    } else if (const auto result = (*parsed)->render(context, now); result.ok()) {
      outcome = "renders " + *result;
    } else {
      reason = result.failure().message;
    }
    const auto& row = recorded.as_array();
    const std::string expected =
        row.size() == 1 ? "fails" : "renders " + std::string(row[1].as_string());
    EXPECT_EQ(outcome, expected) << reason;
  }
}

}  // namespace
}  // namespace tandem::chat
