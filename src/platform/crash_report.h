// What a process that dies by a bug says last: which signal or exception, and where.
#pragma once

namespace tandem::platform {

// Reports on stderr for signals like SIGSEGV and for exceptions that nobody caught, then lets the
// process die as it would have. Leaves signals alone that somebody else handles, as sanitizers do.
void install_crash_report();

}  // namespace tandem::platform
