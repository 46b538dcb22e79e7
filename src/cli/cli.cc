// Verb dispatch and the outermost error boundary.
#include "cli/cli.h"

#include <algorithm>
#include <cstdio>
#include <exception>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "base/error.h"
#include "cli/placement_flags.h"
#include "cli/verbs.h"
#include "platform/crash_report.h"
#include "server/version.h"

namespace tandem::cli {

int run(int argc, char** argv) {
  platform::install_crash_report();
  CLI::App app{"tandem: serves large mixture-of-experts models on CPU and GPU together", "tandem"};
  app.require_subcommand(1);
  app.option_defaults()->always_capture_default();
  app.set_version_flag("--version", fmt::format("tandem {}", server::kVersion));
  int exit_code = 0;
  add_serve(app, &exit_code);
  add_chat(app, &exit_code);
  add_bench(app, &exit_code);
  add_plan(app, &exit_code);
  add_doctor(app, &exit_code);
  add_top(app, &exit_code);
  add_loadtest(app, &exit_code);
  add_eval(app, &exit_code);
  add_inspect(app, &exit_code);
  add_tokenize(app, &exit_code);
  add_render(app, &exit_code);
  add_help(app, &exit_code);
  try {
    std::vector<std::string> arguments = expand_spellings(argc, argv);
    arguments.erase(arguments.begin());
    std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
    app.parse(std::move(arguments));
    return exit_code;
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const Error& error) {
    std::fprintf(stderr, "tandem: %s\n", error.what());
  } catch (const std::bad_alloc&) {
    std::fprintf(stderr, "tandem: out of memory\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tandem: unexpected failure: %s\n", error.what());
  }
  return 1;
}

}  // namespace tandem::cli
