// Typed reading of JSON fields.
#include "server/fields.h"

#include <boost/json.hpp>
#include <gtest/gtest.h>

namespace tandem::server {
namespace {

boost::json::object parse(const char* text) { return boost::json::parse(text).as_object(); }

TEST(Fields, ReadsWhatIsThere) {
  const auto body = parse(
      R"({"n": 3, "whole": 5.0, "x": 0.5, "on": true, "name": "a", "o": {}, "l": [], "z": null})");
  Fields fields(body);
  EXPECT_EQ(fields.integer("n", 0, 10), 3);
  EXPECT_EQ(fields.integer("whole", 0, 10), 5);
  EXPECT_EQ(fields.number("x", 0, 1), 0.5);
  EXPECT_EQ(fields.number("n", 0, 3), 3.0);
  EXPECT_EQ(fields.boolean("on"), true);
  EXPECT_EQ(fields.text("name"), "a");
  EXPECT_NE(fields.object("o"), nullptr);
  EXPECT_NE(fields.array("l"), nullptr);
  EXPECT_EQ(fields.text("z"), std::nullopt);       // null
  EXPECT_EQ(fields.text("absent"), std::nullopt);  // not there
  EXPECT_FALSE(fields.failure());
  EXPECT_TRUE(fields.ignored().empty());
}

TEST(Fields, NamesTheFirstWrongField) {
  const auto body = parse(R"({"a": "text", "b": 7})");
  Fields fields(body);
  EXPECT_EQ(fields.number("a", 0, 1), std::nullopt);
  EXPECT_EQ(fields.integer("b", 0, 6), std::nullopt);
  ASSERT_TRUE(fields.failure());
  EXPECT_EQ(fields.failure()->param, "a");
  EXPECT_EQ(fields.failure()->code, "invalid_value");
}

TEST(Fields, RefusesNumbersThatAreNone) {
  for (const char* text : {R"({"n": 1.5})", R"({"n": "1"})", R"({"n": true})", R"({"n": [1]})",
                           R"({"n": 18446744073709551615})", R"({"n": 1e300})"}) {
    const auto body = parse(text);
    Fields fields(body);
    fields.integer("n", INT64_MIN, INT64_MAX);
    EXPECT_TRUE(fields.failure()) << text;
  }
}

TEST(Fields, RefusesOnlyWhatHasAnEffect) {
  const auto harmless = parse(R"({"a": false, "b": 0, "c": "", "d": [], "e": null})");
  Fields fields(harmless);
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) fields.refuse(name, "no");
  EXPECT_FALSE(fields.failure());

  for (const char* text :
       {R"({"a": true})", R"({"a": 1})", R"({"a": "x"})", R"({"a": [0]})", R"({"a": {}})"}) {
    const auto body = parse(text);
    Fields set(body);
    set.refuse("a", "no");
    ASSERT_TRUE(set.failure()) << text;
    EXPECT_EQ(set.failure()->code, "unsupported_parameter");
  }
}

TEST(Fields, ListsWhatNobodyRead) {
  const auto body = parse(R"({"known": 1, "unknown": 1, "null": null, "accepted": 2, "told": 3})");
  Fields fields(body);
  fields.integer("known", 0, 9);
  fields.accept({"accepted", "told"});
  fields.ignore("told");
  EXPECT_EQ(fields.ignored(), (std::vector<std::string>{"told", "unknown"}));
}

}  // namespace
}  // namespace tandem::server
