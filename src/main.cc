// The program: dispatches to a verb (src/cli) and turns an Error into one line and a non-zero exit
// code.
#include "cli/cli.h"

int main(int argc, char** argv) { return tandem::cli::run(argc, argv); }
