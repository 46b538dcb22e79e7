// Events of Chrome's trace format: "X" is a slice with a duration, "C" a counter.
#include "server/step_trace.h"

#include <boost/json.hpp>

#include "base/json.h"

namespace tandem::server {
namespace {

namespace json = boost::json;

json::object event(const char* name, const char* phase, int64_t time_us, json::object args) {
  return {{"name", name}, {"cat", "step"},          {"ph", phase}, {"ts", time_us}, {"pid", 1},
          {"tid", 1},     {"args", std::move(args)}};
}

const char* kind_of(const scheduler::StepRecord& step) {
  if (step.prefill_tokens == 0) return "decode";
  return step.decode_tokens == 0 ? "prefill" : "mixed";
}

}  // namespace

std::string step_trace(const std::vector<scheduler::StepRecord>& steps) {
  json::array events;
  for (const scheduler::StepRecord& step : steps) {
    json::object slice = event(kind_of(step), "X", step.begin_us,
                               {{"step", step.number},
                                {"prefill_tokens", step.prefill_tokens},
                                {"decode_tokens", step.decode_tokens},
                                {"sequences", step.sequences},
                                {"running", step.running},
                                {"waiting", step.waiting},
                                {"pages_free", step.pages_free}});
    slice["dur"] = step.duration_us;
    events.push_back(std::move(slice));
    const int64_t end = step.begin_us + step.duration_us;
    events.push_back(event("queue", "C", end, {{"waiting", step.waiting}}));
    events.push_back(event("pages free", "C", end, {{"pages", step.pages_free}}));
  }
  return to_string(json::object{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}});
}

}  // namespace tandem::server
