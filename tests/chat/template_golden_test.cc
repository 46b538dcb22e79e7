// Chat templates of published models: our rendering against recorded renderings of Python's jinja2,
// byte for byte.
#include <ctime>
#include <filesystem>
#include <string>

#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

#include "chat/chat_template.h"
#include "tests/golden.h"

namespace tandem::chat {
namespace {

// The clock of the recordings: 2026-01-02 03:04:05, a Friday.
std::tm recorded_now() {
  std::tm now{};
  now.tm_year = 126;
  now.tm_mday = 2;
  now.tm_hour = 3;
  now.tm_min = 4;
  now.tm_sec = 5;
  now.tm_wday = 5;
  now.tm_yday = 1;
  return now;
}

void check_file(const std::string& path) {
  const auto file = boost::json::parse(tandem::testing::read_file(path));
  const auto parsed = ChatTemplate::parse(std::string(file.at("template").as_string()));
  ASSERT_TRUE(parsed.ok()) << path << ": " << parsed.failure().message;
  for (const auto& recorded : file.at("cases").as_array()) {
    SCOPED_TRACE(path + ": " + recorded.at("name").as_string().c_str());
    const auto result = (*parsed)->render(recorded.at("context").as_object(), recorded_now());
    if (const auto* expected = recorded.as_object().if_contains("expected")) {
      ASSERT_TRUE(result.ok()) << result.failure().message;
      EXPECT_EQ(*result, std::string(expected->as_string()));
      continue;
    }
    const std::string error(recorded.at("error").as_string());
    ASSERT_FALSE(result.ok()) << "expected " << error << "\n" << *result;
    static const std::string kRaised = "TemplateError: ";
    if (error.starts_with(kRaised)) {
      EXPECT_NE(result.failure().message.find(error.substr(kRaised.size())), std::string::npos)
          << result.failure().message;
    }
  }
}

TEST(TemplateGolden, EveryPublishedTemplateRendersAsInPython) {
  const std::string folder = tandem::testing::golden_path("templates");
  if (folder.empty()) GTEST_SKIP() << "no golden/templates beside the sources";
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".json") continue;
    check_file(entry.path().string());
    ++files;
  }
  EXPECT_GT(files, 0);
}

}  // namespace
}  // namespace tandem::chat
