// What the operating system says about this process, under the names of Prometheus' own clients.
#pragma once

#include <string>

namespace tandem::server {

// Lines in the text format; what cannot be read is left out.
std::string process_metrics();

}  // namespace tandem::server
