// Handlers of signals: they may call nothing that takes a lock or memory.
#include "platform/crash_report.h"

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <string_view>

#include <execinfo.h>
#include <unistd.h>

namespace tandem::platform {
namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
constexpr int kMaxFrames = 64;

void write_text(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
    if (written <= 0) return;
    text.remove_prefix(static_cast<size_t>(written));
  }
}

void report_signal(int signal) {
  write_text("tandem: crashed by ");
  write_text(sigabbrev_np(signal) == nullptr ? "a signal" : "SIG");
  if (const char* name = sigabbrev_np(signal)) write_text(name);
  write_text(signal == SIGBUS ? ", as when a mapped model file is cut short or its disk fails"
                              : "; this is a bug, please report it with these lines");
  write_text(":\n");
  void* frames[kMaxFrames];
  ::backtrace_symbols_fd(frames, ::backtrace(frames, kMaxFrames), STDERR_FILENO);
  ::raise(signal);  // again, now with the system's own end (SA_RESETHAND)
}

[[noreturn]] void report_exception() {
  const char* what = "no exception";
  if (const std::exception_ptr current = std::current_exception()) {
    try {
      std::rethrow_exception(current);
    } catch (const std::exception& error) {
      write_text("tandem: ended by an exception that nobody caught: ");
      write_text(error.what());
      write_text("\n");
      std::abort();
    } catch (...) {
      what = "an exception of unknown type";
    }
  }
  write_text("tandem: ended by std::terminate: ");
  write_text(what);
  write_text("\n");
  std::abort();
}

}  // namespace

void install_crash_report() {
  void* frames[1];
  ::backtrace(frames, 1);  // loads what a handler must not
  for (const int signal : kSignals) {
    struct sigaction before {};
    if (::sigaction(signal, nullptr, &before) != 0 || before.sa_handler != SIG_DFL) continue;
    struct sigaction action {};
    action.sa_handler = report_signal;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
    ::sigaction(signal, &action, nullptr);
  }
  std::set_terminate(report_exception);
}

}  // namespace tandem::platform
