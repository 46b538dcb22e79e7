// The command line: verbs, and the one place where an Error becomes a line on stderr and an exit
// code.
#pragma once

namespace tandem::cli {

// Runs the verb in argv; returns the process's exit code.
int run(int argc, char** argv);

}  // namespace tandem::cli
