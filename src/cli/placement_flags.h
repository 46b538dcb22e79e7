// llama.cpp's spellings of the flags that say where weights go.
#pragma once

#include <string>
#include <vector>

namespace tandem::cli {

// The arguments with -ot, -ncmoe, -cmoe and -ngl written out: with a single dash they would be read
// as several flags of one letter.
std::vector<std::string> expand_spellings(int argc, const char* const* argv);

}  // namespace tandem::cli
