// A process that dies says why, and dies all the same.
#include "platform/crash_report.h"

#include <csignal>
#include <stdexcept>
#include <thread>

#include <gtest/gtest.h>

namespace tandem::platform {
namespace {

void throw_in_a_thread() {
  install_crash_report();
  std::thread([] { throw std::runtime_error("the words of it"); }).join();
}

void raise_signal() {
  install_crash_report();
  std::raise(SIGFPE);
}

TEST(CrashReportDeathTest, TellsTheExceptionThatNobodyCaught) {
  EXPECT_EXIT(throw_in_a_thread(), ::testing::KilledBySignal(SIGABRT), "the words of it");
}

// A sanitizer's own handler stays: then this only tests that the process ends.
TEST(CrashReportDeathTest, TellsTheSignal) {
  struct sigaction before {};
  ::sigaction(SIGFPE, nullptr, &before);
  if (before.sa_handler == SIG_DFL) {
    EXPECT_EXIT(raise_signal(), ::testing::KilledBySignal(SIGFPE), "crashed by SIGFPE");
  } else {
    EXPECT_DEATH(raise_signal(), "");
  }
}

}  // namespace
}  // namespace tandem::platform
