# Run in every build: cmake -DSOURCE=... -DOUT=... -P commit.cmake writes the source file OUT, which says what commit
# SOURCE is at. The file changes only when the answer does, so that nothing is rebuilt for nothing.
execute_process(COMMAND git -C ${SOURCE} describe --always --dirty --exclude=*
                OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed OR commit STREQUAL "")
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUT} @ONLY CONTENT [[
#include "cli/build_commit.h"

namespace tandem::cli {

const char* build_commit() { return "@commit@"; }

}  // namespace tandem::cli
]])
