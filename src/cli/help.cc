// `tandem help`: the verbs, or with --markdown every flag of every verb as docs/options.md, which a
// test compares with this output.
#include <cstdio>
#include <map>

#include <CLI/CLI.hpp>
#include <fmt/core.h>

#include "base/check.h"
#include "cli/verbs.h"

namespace tandem::cli {
namespace {

// What a flag's own line does not say: how it works together with others.
struct Note {
  const char* verb;
  const char* flag;  // without dashes
  const char* text;
};
constexpr Note kNotes[] = {
    {"serve", "gguf_path", "wins over the weights of `--model_path`"},
    {"serve", "model_path", "must describe the model of `--gguf_path`"},
    {"serve", "api_key",
     "`/debug/steps` wants it too; `/health`, `/live` and `/metrics` do not; see "
     "`--max_running_per_key`"},
    {"serve", "max_running_per_key",
     "more wait, and those of other keys pass them; without `--api_key` there is no limit"},
    {"serve", "max_queue_per_key",
     "beyond `--max_running_per_key`, or `--max_batch_size` where that is 0; each of `n` choices "
     "counts"},
    {"serve", "ssl_keyfile", "only together with `--ssl_certfile`"},
    {"serve", "ssl_certfile", "only together with `--ssl_keyfile`"},
    {"serve", "max_new_tokens",
     "a request's own limit wins, up to the context and to `--cache_lens`"},
    {"serve", "cache_lens",
     "shared by `--max_batch_size` requests; rounded up to whole pages of `--page_size`"},
    {"serve", "chunk_size",
     "at least `--max_batch_size`, so that every running request gets a token"},
    {"serve", "max_batch_size", "more requests wait, up to `--max_queue`"},
    {"serve", "max_queue", "counts what waits, not what runs (`--max_batch_size`)"},
    {"serve", "sched_strategy",
     "with `FCFS-single-prefill` one prompt at a time gets what is left of `--chunk_size`"},
    {"serve", "request_timeout", "a request may ask for less with `timeout`; the answer is 504"},
    {"serve", "drain_seconds",
     "after the first signal; new requests get 503 meanwhile, a second signal ends at once"},
    {"serve", "sse_ping", "some load generators take comments for data: keep it at 15 or above"},
    {"serve", "force_think", "a request's `reasoning_format` says how the thinking is shown"},
    {"serve", "config", "its keys are flags of this list; the command line wins"},
    {"serve", "cpu_infer",
     "threads are pinned beside their part of the weights with `--numa auto`"},
    {"serve", "debug_steps", "`tandem top` shows them one by one then"},
    {"serve", "debug_fail_step",
     "counts from 1; requests get their errors and the process ends with 1"},
    {"serve", "strict_params", "otherwise they are named in the header `x-ignored-params`"},
    {"loadtest", "rate", "never more than `--concurrency` at once: later ones wait"},
    {"loadtest", "mix", "the `burst` mix needs `--rate`; with 0 all bursts are at once"},
    {"top", "interval", "rates and quantiles are of that time"},
    {"bench", "generate", "`--streams` sequences at once, each after `--depth` tokens"},
};

std::string cell(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c == '\n' ? ' ' : c;
  }
  return out;
}

// "--max_new_tokens,--max-new-tokens" -> `--max_new_tokens`: dashes are accepted everywhere.
std::string names_of(const CLI::Option& option) {
  std::string names;
  for (const std::string& name : option.get_snames()) names += "`-" + name + "` ";
  for (const std::string& name : option.get_lnames()) {
    const bool negated = name.starts_with("no-") || name.starts_with("no_");
    const bool dashed = name.find('-') != std::string::npos;
    if ((negated || dashed) && option.get_lnames()[0] != name) continue;
    names += "`--" + name + "` ";
  }
  if (names.empty()) names = "`" + option.get_name() + "` ";
  names.pop_back();
  return names;
}

const char* note_of(const CLI::App& verb, const CLI::Option& option) {
  for (const Note& note : kNotes) {
    if (verb.get_name() == note.verb && option.check_lname(note.flag)) return note.text;
  }
  return "";
}

std::string interaction_of(const CLI::App& verb, const CLI::Option& option) {
  std::string text = note_of(verb, option);
  const auto add = [&](const char* word, const std::set<CLI::Option*>& others) {
    for (const CLI::Option* other : others) {
      text += fmt::format("{}{} {}", text.empty() ? "" : "; ", word, names_of(*other));
    }
  };
  add("needs", option.get_needs());
  add("not with", option.get_excludes());
  return text;
}

std::string values_of(const CLI::Option& option) {
  if (option.get_expected_max() == 0) return "";
  std::string type = option.get_type_name();
  // "INT:INT in [0 - 65535]" -> "INT in [0 - 65535]"
  if (const size_t colon = type.find(':'); colon != std::string::npos)
    type = type.substr(colon + 1);
  return type;
}

std::string default_of(const CLI::Option& option) {
  std::string text = option.get_default_str();
  if (option.get_expected_max() == 0) return text.empty() ? "off" : text;
  if (option.get_type_name() == "BOOLEAN") text = text == "1" ? "true" : "false";
  if (text.empty() || text == "{}" || text == "[]" || text == "\"\"") return "none";
  return "`" + text + "`";
}

// Hidden ones, which are refused with a reason, apart.
std::vector<const CLI::Option*> options_of(const CLI::App& verb, bool hidden) {
  std::vector<const CLI::Option*> options;
  for (const CLI::Option* option :
       verb.get_options([&](const CLI::Option* o) { return o->get_group().empty() == hidden; })) {
    if (!option->check_lname("help")) options.push_back(option);
  }
  return options;
}

void print_table(const CLI::App& verb) {
  std::printf(
      "| flag | default | values | meaning | together with others |\n|---|---|---|---|---|\n");
  for (const CLI::Option* option : options_of(verb, false)) {
    std::printf("| %s | %s | %s | %s | %s |\n", cell(names_of(*option)).c_str(),
                cell(default_of(*option)).c_str(), cell(values_of(*option)).c_str(),
                cell(option->get_description()).c_str(),
                cell(interaction_of(verb, *option)).c_str());
  }
}

void print_refused(const CLI::App& verb) {
  const auto refused = options_of(verb, true);
  if (refused.empty()) return;
  std::map<std::string, std::string> by_reason;
  for (const CLI::Option* option : refused) {
    std::string& names = by_reason[option->get_description()];
    names += (names.empty() ? "" : ", ") + names_of(*option);
  }
  std::printf("\nFlags of KTransformers that are refused:\n\n| flags | reason |\n|---|---|\n");
  for (const auto& [reason, names] : by_reason) {
    std::printf("| %s | %s |\n", cell(names).c_str(), cell(reason).c_str());
  }
}

void check_notes(const CLI::App& app) {
  for (const Note& note : kNotes) {
    const auto options = app.get_subcommand(note.verb)->get_options();
    const bool known = std::any_of(options.begin(), options.end(), [&](const CLI::Option* option) {
      return option->check_lname(note.flag);
    });
    TANDEM_CHECK(known, "a note on --{} of '{}', which has no such flag", note.flag, note.verb);
  }
}

void print_markdown(const CLI::App& app) {
  check_notes(app);
  std::printf(
      "# Options\n\n"
      "Written by `tandem help --markdown` from the program itself; `make docs` renews it and a "
      "test\n"
      "compares. Flags of several words may be spelled with dashes too (`--max-new-tokens`).\n");
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (verb->get_group().empty()) continue;
    std::string what = verb->get_description();
    if (!what.empty() && what[0] >= 'a' && what[0] <= 'z') what[0] -= 'a' - 'A';
    std::printf("\n## tandem %s\n\n%s.\n\n", verb->get_name().c_str(), what.c_str());
    print_table(*verb);
    print_refused(*verb);
  }
}

}  // namespace

void add_help(CLI::App& app, int* exit_code) {
  auto markdown = std::make_shared<bool>(false);
  CLI::App* verb = app.add_subcommand("help", "the list of verbs, or of all flags");
  verb->add_flag("--markdown", *markdown, "every flag of every verb, as docs/options.md has it");
  verb->callback([&app, markdown, exit_code] {
    if (*markdown) {
      print_markdown(app);
    } else {
      std::printf("%s", app.help().c_str());
    }
    *exit_code = 0;
  });
}

}  // namespace tandem::cli
