// The program's version, as answers and /version show it.
#pragma once

namespace tandem::server {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace tandem::server
