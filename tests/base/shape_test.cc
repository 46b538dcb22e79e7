// Shapes: right-aligned dimensions, and counting from the inside.
#include "base/shape.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

TEST(ShapeTest, MissingDimensionsLeadAndAreOne) {
  EXPECT_EQ(shape(5), shape(1, 1, 1, 5));
  EXPECT_EQ(shape(3, 5), shape(1, 1, 3, 5));
  EXPECT_EQ(shape(2, 3, 5), shape(1, 2, 3, 5));
}

TEST(ShapeTest, OrderMatters) { EXPECT_NE(shape(3, 5), shape(5, 3)); }

TEST(ShapeTest, InnerCountsFromTheContiguousDimension) {
  const Shape s = shape(2, 3, 5);
  EXPECT_EQ(s.inner(0), 5);
  EXPECT_EQ(s.inner(1), 3);
  EXPECT_EQ(s.inner(2), 2);
  EXPECT_EQ(s.inner(3), 1);
}

TEST(ShapeTest, CountsMoreElementsThan32BitsHold) {
  EXPECT_EQ(shape(256, 7168, 2048).elements(), int64_t{3758096384});
  EXPECT_EQ(shape(4, 0, 8).elements(), 0);
  EXPECT_EQ(Shape{}.elements(), 1);
}

}  // namespace
}  // namespace tandem
