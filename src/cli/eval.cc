// `tandem eval`: greedy continuations with log probabilities and hashes of the logits for prompts
// of token ids, or the perplexity of a text. Drives the engine directly, so that any batch and
// chunk size can be compared.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/error.h"
#include "base/json.h"
#include "cli/flags.h"
#include "cli/support.h"
#include "cli/verbs.h"
#include "engine/load.h"
#include "gguf/file.h"
#include "tokenizer/tokenizer.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tandem::cli {
namespace {

namespace json = boost::json;

struct EvalOptions {
  std::string gguf_path;
  std::string prompts;
  std::string text;
  int top = 10;
  int generate = 16;
  int batch = 1;
  int window = 512;  // tokens of context in a perplexity run
  std::string kv_type = "f32";
  engine::Options engine;
};

struct Case {
  std::vector<int32_t> tokens;  // prompt, then output
  size_t prompt_tokens = 0;
  size_t computed = 0;  // tokens in the cache
  std::vector<int32_t> pages;
  json::array logprobs;
  json::array hashes;

  size_t output_tokens() const { return tokens.size() - prompt_tokens; }
};

std::vector<Case> read_cases(const std::string& path) {
  const Result<json::value> parsed = parse_json(read_text_file(path));
  if (!parsed) throw Error("{}: {}", path, parsed.failure().message);
  std::vector<Case> cases;
  try {
    for (const json::value& item : parsed->as_object().at("cases").as_array()) {
      const json::object& fields = item.as_object();
      const json::value& ids = fields.contains("ids") ? fields.at("ids") : fields.at("prompt");
      Case& added = cases.emplace_back();
      for (const json::value& id : ids.as_array()) added.tokens.push_back(id.to_number<int32_t>());
      added.prompt_tokens = added.tokens.size();
      if (added.tokens.empty()) throw Error("{}: case {} has no tokens", path, cases.size() - 1);
    }
  } catch (const boost::system::system_error& error) {
    throw Error("{}: not {{\"cases\": [{{\"ids\": [...]}}]}}: {}", path, error.code().message());
  }
  return cases;
}

double log_sum_exp(std::span<const float> logits) {
  const double highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - highest);
  return highest + std::log(sum);
}

// The lowest id among equals comes first.
std::vector<int32_t> best_tokens(std::span<const float> logits, size_t count) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  count = std::min(count, order.size());
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count), order.end(),
                    [&](int32_t a, int32_t b) {
                      const float x = logits[static_cast<size_t>(a)];
                      const float y = logits[static_cast<size_t>(b)];
                      return x != y ? x > y : a < b;
                    });
  order.resize(count);
  return order;
}

void record(const EvalOptions& options, std::span<const float> logits, Case& c) {
  const std::vector<int32_t> best =
      best_tokens(logits, static_cast<size_t>(std::max(options.top, 1)));
  const double total = log_sum_exp(logits);
  json::array top;
  for (int i = 0; i < options.top && static_cast<size_t>(i) < best.size(); ++i) {
    const int32_t id = best[static_cast<size_t>(i)];
    top.push_back(json::array{id, logits[static_cast<size_t>(id)] - total});
  }
  c.logprobs.push_back(std::move(top));
  c.hashes.push_back(
      json::string(fmt::format("{:016x}", XXH64(logits.data(), logits.size_bytes(), 0))));
  c.tokens.push_back(best[0]);
}

void print_case(const Case& c) {
  json::array tokens(c.tokens.begin() + static_cast<std::ptrdiff_t>(c.prompt_tokens),
                     c.tokens.end());
  const json::object line = {{"tokens", tokens}, {"logprobs", c.logprobs}, {"xxh64", c.hashes}};
  std::printf("%s\n", to_string(line).c_str());
}

// One step over some cases: each gets at most its share of chunk_size tokens.
void run_step(engine::LocalEngine& engine, const EvalOptions& options, std::span<Case*> active) {
  std::vector<int32_t> tokens;
  std::vector<engine::SequenceSlice> slices;
  const size_t share =
      std::max<size_t>(1, static_cast<size_t>(options.engine.max_step_tokens) / active.size());
  for (const Case* c : active) {
    const size_t count = std::min(share, c->tokens.size() - c->computed);
    tokens.insert(tokens.end(), c->tokens.begin() + static_cast<std::ptrdiff_t>(c->computed),
                  c->tokens.begin() + static_cast<std::ptrdiff_t>(c->computed + count));
    slices.push_back({.num_tokens = static_cast<int32_t>(count),
                      .position = static_cast<int32_t>(c->computed),
                      .pages = c->pages,
                      .sample = c->computed + count == c->tokens.size(),
                      .sampling = nullptr,
                      .history = {},
                      .prompt_tokens = 0,
                      .banned = {}});
  }
  engine.step({.tokens = tokens, .sequences = slices});
  for (size_t i = 0; i < active.size(); ++i) {
    active[i]->computed += static_cast<size_t>(slices[i].num_tokens);
    if (slices[i].sample) record(options, engine.logits(static_cast<int32_t>(i)), *active[i]);
  }
}

void evaluate_prompts(EvalOptions options, const gguf::File& file) {
  std::vector<Case> cases = read_cases(options.prompts);
  size_t longest = 0;
  for (const Case& c : cases) longest = std::max(longest, c.tokens.size());
  const auto room = static_cast<int32_t>(longest) + options.generate;
  const int32_t page_size = options.engine.page_size != 0 ? options.engine.page_size : 64;
  const int32_t pages_per_case = (room + page_size - 1) / page_size;
  options.engine.page_size = page_size;
  options.engine.cache_tokens = pages_per_case * page_size * options.batch;
  options.engine.max_step_sequences = options.batch;
  const std::unique_ptr<engine::LocalEngine> engine = engine::load(file, options.engine);
  if (room > engine->info().context_length) {
    throw Error("{}: a case needs {} tokens, the model has a context of {}", options.prompts, room,
                engine->info().context_length);
  }
  for (const Case& c : cases) {
    for (const int32_t id : c.tokens) {
      if (id < 0 || id >= engine->info().vocab_size) {
        throw Error("{}: token {} is not in the vocabulary", options.prompts, id);
      }
    }
  }

  const auto batch = static_cast<size_t>(options.batch);
  for (size_t first = 0; first < cases.size(); first += batch) {
    const std::span group = std::span(cases).subspan(first, std::min(batch, cases.size() - first));
    for (size_t slot = 0; slot < group.size(); ++slot) {
      group[slot].pages.resize(static_cast<size_t>(pages_per_case));
      std::iota(group[slot].pages.begin(), group[slot].pages.end(),
                static_cast<int32_t>(slot) * pages_per_case);
    }
    for (;;) {
      std::vector<Case*> active;
      for (Case& c : group) {
        if (c.output_tokens() < static_cast<size_t>(options.generate)) active.push_back(&c);
      }
      if (active.empty()) break;
      run_step(*engine, options, active);
    }
    for (const Case& c : group) print_case(c);
  }
}

// Non-overlapping windows; within one, each token but the first is predicted from those before it.
void evaluate_text(EvalOptions options, const gguf::File& file) {
  const auto tokenizer = tokenizer::Tokenizer::from_gguf(file);
  const std::vector<int32_t> ids =
      tokenizer->encode(read_text_file(options.text), {.add_bos = true, .parse_special = false});
  options.engine.page_size = 64;
  options.engine.cache_tokens = options.window;
  // Each token is a slice of its own, so that each has logits.
  options.engine.max_step_sequences = options.engine.max_step_tokens;
  const std::unique_ptr<engine::LocalEngine> engine = engine::load(file, options.engine);
  options.window = std::min(options.window, engine->info().context_length);
  std::vector<int32_t> pages(static_cast<size_t>(engine->info().num_pages));
  std::iota(pages.begin(), pages.end(), 0);

  double negative_log_likelihood = 0.0;
  size_t predicted = 0;
  const auto window = static_cast<size_t>(options.window);
  const auto chunk = static_cast<size_t>(options.engine.max_step_tokens);
  for (size_t begin = 0; begin + 1 < ids.size(); begin += window) {
    const size_t length = std::min(window, ids.size() - begin);
    for (size_t done = 0; done < length; done += chunk) {
      const size_t count = std::min(chunk, length - done);
      std::vector<engine::SequenceSlice> slices;
      for (size_t i = 0; i < count; ++i) {
        slices.push_back({.num_tokens = 1,
                          .position = static_cast<int32_t>(done + i),
                          .pages = pages,
                          .sample = true,
                          .sampling = nullptr,
                          .history = {},
                          .prompt_tokens = 0,
                          .banned = {}});
      }
      engine->step({.tokens = std::span(ids).subspan(begin + done, count), .sequences = slices});
      for (size_t i = 0; i < count && done + i + 1 < length; ++i) {
        const std::span<const float> logits = engine->logits(static_cast<int32_t>(i));
        const auto next = static_cast<size_t>(ids[begin + done + i + 1]);
        negative_log_likelihood += log_sum_exp(logits) - logits[next];
        ++predicted;
      }
    }
  }
  if (predicted == 0) throw Error("{}: fewer than two tokens", options.text);
  std::printf("{\"perplexity\":%.6f,\"tokens\":%zu,\"window\":%zu}\n",
              std::exp(negative_log_likelihood / static_cast<double>(predicted)), predicted,
              window);
}

void evaluate(const EvalOptions& options) {
  if (options.prompts.empty() == options.text.empty()) {
    throw Error("eval: give either --prompts FILE or --text FILE");
  }
  const std::unique_ptr<gguf::File> file = gguf::File::open(options.gguf_path);
  if (options.text.empty()) {
    evaluate_prompts(options, *file);
  } else {
    evaluate_text(options, *file);
  }
}

}  // namespace

void add_eval(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<EvalOptions>();
  CLI::App* verb = app.add_subcommand("eval", "log probabilities of prompts, perplexity of a text");
  verb->add_option(flag("gguf_path"), options->gguf_path, "model file or directory")->required();
  verb->add_option("--prompts", options->prompts, "JSON: {\"cases\": [{\"ids\": [...]}]}");
  verb->add_option("--text", options->text, "text file: print its perplexity");
  verb->add_option("--top", options->top, "best tokens to print at each position")
      ->check(CLI::Range(0, 1 << 20));
  verb->add_option("--generate", options->generate, "tokens to generate greedily")
      ->check(CLI::Range(1, 1 << 20));
  verb->add_option("--batch", options->batch, "cases computed together")->check(CLI::Range(1, 256));
  verb->add_option("--window", options->window, "tokens of context for --text")
      ->check(CLI::Range(2, 1 << 20));
  verb->add_option(flag("chunk_size"), options->engine.max_step_tokens, "tokens in a step at most")
      ->check(CLI::Range(1, 1 << 16));
  verb->add_option(flag("cpu_isa"), options->engine.cpu_isa, "generic, avx2, avx512 or amx");
  add_numa_option(*verb, options->engine.numa);
  add_device_options(*verb, options->engine);
  verb->add_option("--threads," + flag("cpu_infer"), options->engine.threads, "worker threads")
      ->check(CLI::Range(0, 4096));
  verb->add_option(flag("kv_type"), options->kv_type, "f32, f16 or bf16");
  verb->add_option(flag("page_size"), options->engine.page_size, "tokens in a KV page");
  verb->callback([options, exit_code] {
    options->engine.kv_type = parse_kv_type(options->kv_type);
    evaluate(*options);
    *exit_code = 0;
  });
}

}  // namespace tandem::cli
