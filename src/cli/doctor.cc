// `tandem doctor`: what of this machine speed and start-up depend on, whether it is well, and what
// to do.
#include <cstdio>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "cli/flags.h"
#include "cli/verbs.h"
#include "kernels/cpu/kernels.h"
#include "ops/gpu.h"
#include "platform/gpu.h"
#include "platform/system_facts.h"
#include "platform/topology.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;

struct Check {
  std::string status;  // ok, warn, fail
  std::string name, value;
  std::string advice;  // empty: nothing to do
};

constexpr int64_t kMib = int64_t{1} << 20;
constexpr int64_t kGib = int64_t{1} << 30;

Check ok(std::string name, std::string value) {
  return {"ok", std::move(name), std::move(value), {}};
}
Check warn(std::string name, std::string value, std::string advice) {
  return {"warn", std::move(name), std::move(value), std::move(advice)};
}
Check fail(std::string name, std::string value, std::string advice) {
  return {"fail", std::move(name), std::move(value), std::move(advice)};
}

std::string cuda_version(int version) {
  return fmt::format("{}.{}", version / 1000, version % 1000 / 10);
}

void add_gpu(std::vector<Check>& checks) {
  const platform::Gpus gpus = platform::find_gpus();
  if (gpus.built_cuda == 0) {
    checks.push_back(
        warn("gpu", "this build has no GPU parts", "to use a GPU, configure again where nvcc is"));
    return;
  }
  if (gpus.driver_cuda == 0) {
    checks.push_back(warn("driver", "none", "without a GPU nothing; else install NVIDIA's driver"));
  } else if (gpus.driver_cuda / 1000 < gpus.built_cuda / 1000) {
    checks.push_back(warn("driver",
                          fmt::format("runs CUDA {}, built with {}", cuda_version(gpus.driver_cuda),
                                      cuda_version(gpus.built_cuda)),
                          "install a newer driver, or build with an older toolkit"));
  } else {
    checks.push_back(
        ok("driver", fmt::format("runs CUDA {}, built with {}", cuda_version(gpus.driver_cuda),
                                 cuda_version(gpus.built_cuda))));
  }
  if (gpus.list.empty()) {
    checks.push_back(warn("gpu", gpus.missing, "models run on the CPU"));
    return;
  }
  const platform::Gpu& gpu = gpus.list.front();
  const std::string what =
      fmt::format("{}, compute capability {}.{}, {} of {} MiB free", gpu.name, gpu.compute / 10,
                  gpu.compute % 10, gpu.free_bytes / kMib, gpu.memory_bytes / kMib);
  try {
    ops::open_gpu();
    checks.push_back(ok("gpu", what));
  } catch (const Error& error) {
    checks.push_back(warn("gpu", what, error.what()));
  }
  if (gpus.list.size() > 1) {
    checks.push_back(warn("gpus", fmt::format("{} are here", gpus.list.size()),
                          "one is used, the first; CUDA_VISIBLE_DEVICES chooses another"));
  }
}

void add_cpu(const platform::SystemFacts& facts, const platform::Topology& topology,
             std::vector<Check>& checks) {
  checks.push_back(ok("cpu", fmt::format("{}, {} cores{}, {} usable threads", topology.cpu_name,
                                         topology.cores.size(), facts.smt ? " with SMT" : "",
                                         topology.usable_cpus)));
  const std::string isa(cpu::select().name);
  const bool has_tiles = facts.has_cpu("amx_tile") && facts.has_cpu("amx_int8");
  if (has_tiles && isa != "amx") {
    checks.push_back(warn("kernels", isa + ", though the CPU has AMX",
                          "the system grants no tile registers: take Linux 5.16 or newer, or let "
                          "the container's filter pass arch_prctl"));
  } else if (isa == "generic" || isa == "avx2") {
    checks.push_back(warn("kernels", isa, "a CPU with VNNI or AMX is several times as fast"));
  } else {
    checks.push_back(ok("kernels", isa));
  }
  if (facts.governor.empty()) {
    checks.push_back(ok("governor", "not shown by this system"));
  } else if (facts.governor == "powersave") {
    checks.push_back(warn("governor", facts.governor, "cpupower frequency-set -g performance"));
  } else {
    checks.push_back(ok("governor", facts.governor));
  }
  const size_t nodes = topology.nodes.size();
  checks.push_back(ok(
      "numa", nodes > 1 ? fmt::format("{} nodes; --numa auto splits weights", nodes) : "1 node"));
}

void add_memory(const platform::SystemFacts& facts, const platform::Topology& topology,
                std::vector<Check>& checks) {
  const std::string memory = fmt::format("{:.1f} of {:.1f} GiB available",
                                         static_cast<double>(topology.available_bytes) / kGib,
                                         static_cast<double>(topology.memory_bytes) / kGib);
  // Less does not hold the default model and its cache.
  if (topology.available_bytes < kGib) {
    checks.push_back(fail("memory", memory, "free some: models lie in it"));
  } else {
    checks.push_back(ok("memory", memory));
  }
  checks.push_back(
      ok("memory limit", facts.cgroup_memory
                             ? fmt::format("{:.1f} GiB for this group of processes",
                                           static_cast<double>(*facts.cgroup_memory) / kGib)
                             : "none"));
  if (facts.huge_pages.empty()) {
    checks.push_back(ok("huge pages", "not shown by this system"));
  } else if (facts.huge_pages == "never") {
    checks.push_back(
        warn("huge pages", "never", "echo madvise >/sys/kernel/mm/transparent_hugepage/enabled"));
  } else {
    checks.push_back(ok("huge pages", facts.huge_pages));
  }
  // Buffers between CPU and GPU; the CUDA driver locks them itself, but some containers count them.
  constexpr int64_t kLocked = 64 * kMib;
  if (facts.locked_limit && *facts.locked_limit < kLocked) {
    checks.push_back(warn("locked memory", fmt::format("{} KiB", *facts.locked_limit / 1024),
                          "matters with a GPU only, where page-locked memory is refused: ulimit -l "
                          "unlimited"));
  } else {
    checks.push_back(ok("locked memory", facts.locked_limit
                                             ? fmt::format("{} MiB", *facts.locked_limit / kMib)
                                             : "unlimited"));
  }
  if (facts.io_uring.empty()) {
    checks.push_back(ok("io_uring", "available"));
  } else {
    checks.push_back(warn("io_uring", facts.io_uring,
                          "files are read by plain calls, somewhat slower from fast disks"));
  }
}

void add_port(int port, std::vector<Check>& checks) {
  const std::string name = fmt::format("port {}", port);
  if (const auto problem = platform::port_problem(port)) {
    checks.push_back(warn(name, *problem, "end what listens there, or serve with --port"));
  } else {
    checks.push_back(ok(name, "free"));
  }
}

std::vector<Check> examine(int port) {
  const platform::SystemFacts facts = platform::read_system_facts();
  const platform::Topology topology = platform::read_topology();
  std::vector<Check> checks;
  add_gpu(checks);
  add_cpu(facts, topology, checks);
  add_memory(facts, topology, checks);
  add_port(port, checks);
  return checks;
}

void print(const std::vector<Check>& checks, bool as_json) {
  json::array list;
  for (const Check& c : checks) {
    if (as_json) {
      list.push_back(json::object{
          {"status", c.status}, {"name", c.name}, {"value", c.value}, {"advice", c.advice}});
    } else {
      std::printf("%-5s %-14s %s%s%s\n", c.status.c_str(), c.name.c_str(), c.value.c_str(),
                  c.advice.empty() ? "" : ": ", c.advice.c_str());
    }
  }
  if (as_json) std::printf("%s\n", to_string(list).c_str());
}

}  // namespace

void add_doctor(CLI::App& app, int* exit_code) {
  auto port = std::make_shared<int>(10002);
  auto output = std::make_shared<std::string>("table");
  CLI::App* verb =
      app.add_subcommand("doctor", "whether this machine is set up well, and what to do");
  verb->add_option("--port", *port, "port that the server would listen on")
      ->check(CLI::Range(1, 65535));
  verb->add_option("-o,--output", *output, "table or json")
      ->check(CLI::IsMember({"table", "json"}));
  verb->callback([port, output, exit_code] {
    const std::vector<Check> checks = examine(*port);
    print(checks, *output == "json");
    const bool failed = std::any_of(checks.begin(), checks.end(),
                                    [](const Check& c) { return c.status == "fail"; });
    *exit_code = failed ? 1 : 0;
  });
}

}  // namespace tandem::cli
