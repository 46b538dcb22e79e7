// `tandem top`: a live view of a running server in the terminal.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <thread>

#include <CLI/CLI.hpp>
#include <fmt/core.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/client/http.h"
#include "cli/flags.h"
#include "cli/top/frame.h"
#include "cli/verbs.h"

namespace tandem::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct TopOptions {
  std::string url = "http://localhost:10002";
  std::string api_key;
  double interval = 1.0;
  bool once = false;
};

constexpr int kMaxSteps = 200;  // lines that no terminal exceeds

volatile std::sig_atomic_t interrupted = 0;

top::Reading read_metrics(const Url& url, const std::string& key) {
  const HttpReply reply = http_get(url, "/metrics", key);
  if (reply.status != 200) throw Error("{}/metrics: status {}", url.text(), reply.status);
  return {.time = std::chrono::duration<double>(Clock::now().time_since_epoch()).count(),
          .metrics = MetricsText(reply.body)};
}

std::string read_state(const Url& url, const std::string& key) {
  const HttpReply reply = http_get(url, "/health", key);
  const size_t mark = reply.body.find("\"status\":\"");
  if (mark == std::string::npos) return reply.status == 200 ? "ok" : "not ready";
  const size_t begin = mark + 10;
  return reply.body.substr(begin, reply.body.find('"', begin) - begin);
}

void fit_terminal(top::Frame& frame) {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
    frame.width = size.ws_col;
    frame.height = size.ws_row;
  }
}

top::Frame take_frame(const TopOptions& options, const Url& url, top::Reading before) {
  top::Frame frame{.url = url.text(),
                   .state = read_state(url, options.api_key),
                   .before = std::move(before),
                   .now = read_metrics(url, options.api_key),
                   .steps = {}};
  const HttpReply steps = http_get(url, fmt::format("/debug/steps/{}", kMaxSteps), options.api_key);
  frame.shows_steps = steps.status == 200;
  if (frame.shows_steps) frame.steps = top::read_steps(steps.body);
  fit_terminal(frame);
  return frame;
}

// Home, every line cleared behind its text, and all below: nothing flickers.
void show(const std::vector<std::string>& lines) {
  std::string text = "\x1b[H";
  for (size_t i = 0; i < lines.size(); ++i) {
    text += lines[i] + "\x1b[K" + (i + 1 < lines.size() ? "\r\n" : "\x1b[J");
  }
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

// The terminal's other screen; what was on the first one comes back at the end.
class OtherScreen {
 public:
  OtherScreen() { std::fputs("\x1b[?1049h\x1b[?25l", stdout); }
  ~OtherScreen() {
    std::fputs("\x1b[?25h\x1b[?1049l", stdout);
    std::fflush(stdout);
  }
};

void run_top(const TopOptions& options) {
  const Url url = parse_url(options.url);
  const auto pause = [&] {
    std::this_thread::sleep_for(std::chrono::duration<double>(options.interval));
  };
  top::Reading before = read_metrics(url, options.api_key);
  if (options.once) {
    pause();
    for (const std::string& line : draw(take_frame(options, url, std::move(before)))) {
      std::printf("%s\n", line.c_str());
    }
    return;
  }
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  sigaction(SIGINT, &action, nullptr);  // it ends the pause too
  const OtherScreen screen;
  while (interrupted == 0) {
    try {
      top::Frame frame = take_frame(options, url, before);
      show(draw(frame));
      before = std::move(frame.now);
    } catch (const Error& error) {  // it may be about to start again
      show({"tandem top  " + std::string(error.what())});
    }
    pause();
  }
}

}  // namespace

void add_top(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<TopOptions>();
  CLI::App* verb = app.add_subcommand("top", "watch a running server in the terminal");
  verb->add_option("--url", options->url, "the server's address")->capture_default_str();
  verb->add_option(flag("api_key"), options->api_key, "one of its keys, to see its steps");
  verb->add_option("--interval", options->interval, "seconds between pictures")
      ->check(CLI::Range(0.1, 3600.0))
      ->capture_default_str();
  verb->add_flag("--once", options->once, "print one picture, after one interval, and end");
  verb->callback([options, exit_code] {
    run_top(*options);
    *exit_code = 0;
  });
}

}  // namespace tandem::cli
