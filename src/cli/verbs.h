// The verbs of the command line, one source file each. A verb declares its options on its own
// subcommand and is called after parsing.
#pragma once

namespace CLI {
class App;
}

namespace tandem::cli {

// Each adds its subcommand; the returned exit code of the chosen verb is stored in *exit_code by
// its callback.
void add_serve(CLI::App& app, int* exit_code);
void add_chat(CLI::App& app, int* exit_code);
void add_bench(CLI::App& app, int* exit_code);
void add_plan(CLI::App& app, int* exit_code);
void add_doctor(CLI::App& app, int* exit_code);
void add_top(CLI::App& app, int* exit_code);
void add_loadtest(CLI::App& app, int* exit_code);
void add_help(CLI::App& app, int* exit_code);
void add_eval(CLI::App& app, int* exit_code);
void add_inspect(CLI::App& app, int* exit_code);
void add_tokenize(CLI::App& app, int* exit_code);
void add_render(CLI::App& app, int* exit_code);

}  // namespace tandem::cli
