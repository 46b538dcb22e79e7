// Python's datetime.strftime with English names, whatever the process's locale.
#pragma once

#include <ctime>
#include <string>
#include <string_view>

#include "chat/jinja/meter.h"

namespace tandem::chat::jinja {

std::string format_time(std::string_view format, const std::tm& time, Meter& meter);

}  // namespace tandem::chat::jinja
