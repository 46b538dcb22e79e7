// The commit that the program was built from.
#pragma once

namespace tandem::cli {

// As git abbreviates it, with "-dirty" behind it where files differed; "unknown" outside a
// checkout. Defined in a file that each build writes (cmake/commit.cmake).
const char* build_commit();

}  // namespace tandem::cli
