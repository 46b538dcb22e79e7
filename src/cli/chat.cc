// `tandem chat`: a conversation in the terminal, on the same engine and scheduler as the server.
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <deque>
#include <iostream>
#include <mutex>

#include <CLI/CLI.hpp>
#include <boost/json.hpp>

#include "base/error.h"
#include "base/log.h"
#include "chat/output_parser.h"
#include "chat/shield.h"
#include "cli/flags.h"
#include "cli/model_files.h"
#include "cli/support.h"
#include "cli/verbs.h"
#include "engine/load.h"
#include "scheduler/scheduler.h"
#include "tokenizer/detokenizer.h"

namespace tandem::cli {
namespace {

namespace json = boost::json;
using Clock = std::chrono::steady_clock;

struct ChatOptions {
  std::string gguf_path, model_path, system;
  std::string kv_type = "f16";
  float temperature = 0.7F;
  int max_new_tokens = 1024;
  bool force_think = false;
  engine::Options engine;
};

volatile std::sig_atomic_t interrupted = 0;

// Events from the scheduler's thread to the terminal's.
class EventQueue {
 public:
  void push(scheduler::TokenEvent event) {
    {
      const std::lock_guard lock(mutex_);
      events_.push_back(std::move(event));
    }
    arrived_.notify_one();
  }
  // Waits a little; nothing when none came.
  std::optional<scheduler::TokenEvent> pop() {
    std::unique_lock lock(mutex_);
    arrived_.wait_for(lock, std::chrono::milliseconds(50), [&] { return !events_.empty(); });
    if (events_.empty()) return std::nullopt;
    scheduler::TokenEvent event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<scheduler::TokenEvent> events_;
};

class Conversation {
 public:
  Conversation(const ChatOptions& options, const ModelFiles& files, scheduler::Scheduler& scheduler)
      : options_(options), files_(files), scheduler_(scheduler) {
    if (!options.system.empty())
      messages_.push_back({{"role", "system"}, {"content", options.system}});
  }

  void turn(const std::string& text) {
    json::value message = json::object{{"role", "user"}, {"content", text}};
    chat::shield_strings(message, files_.tokenizer->special_texts(), tokenizer::kShield);
    message.as_object()["role"] = "user";
    messages_.push_back(std::move(message));
    const Result<std::string> prompt = render();
    if (!prompt) {
      std::fprintf(stderr, "the chat template failed: %s\n", prompt.failure().message.c_str());
      messages_.pop_back();
      return;
    }
    const std::string answer = generate(*prompt);
    messages_.push_back({{"role", "assistant"}, {"content", answer}});
  }

 private:
  Result<std::string> render() const {
    const auto text_of = [&](tokenizer::TokenId id) {
      return json::string(files_.tokenizer->bytes(id));
    };
    const json::object context = {{"messages", messages_},
                                  {"add_generation_prompt", true},
                                  {"bos_token", text_of(files_.tokenizer->bos())},
                                  {"eos_token", text_of(files_.tokenizer->eos())}};
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    Result<std::string> prompt = files_.chat_template->render(context, local);
    if (prompt && options_.force_think) *prompt += "<think>\n";
    return prompt;
  }

  // Streams the answer to the terminal and returns it. Ctrl-C stops it.
  std::string generate(const std::string& prompt) {
    EventQueue events;
    const auto ends = files_.tokenizer->end_tokens();
    scheduler::Request request{
        .prompt = files_.tokenizer->encode(prompt, {.add_bos = true, .parse_special = true}),
        .sampling = {},
        .max_tokens = options_.max_new_tokens,
        .min_tokens = 0,
        .ignore_eos = false,
        .end_tokens = {ends.begin(), ends.end()},
        .on_event = [&](scheduler::TokenEvent event) { events.push(std::move(event)); }};
    request.sampling.temperature = options_.temperature;
    request.sampling.seed = static_cast<uint64_t>(Clock::now().time_since_epoch().count());
    const auto start = Clock::now();
    const Result<scheduler::RequestId> id = scheduler_.submit(std::move(request));
    if (!id) {
      std::fprintf(stderr, "%s\n", id.failure().message.c_str());
      return {};
    }
    tokenizer::Detokenizer detokenizer(*files_.tokenizer, true);
    std::string answer;
    auto first = start;
    interrupted = 0;
    for (bool cancelled = false;;) {
      if (interrupted != 0 && !cancelled) {
        scheduler_.cancel(*id);
        cancelled = true;
      }
      const std::optional<scheduler::TokenEvent> event = events.pop();
      if (!event) continue;
      if (event->output_tokens == 1) first = Clock::now();
      std::string piece;
      const bool last = event->finish != scheduler::FinishReason::kNone;
      if (event->token >= 0 && event->finish != scheduler::FinishReason::kStop)
        piece = detokenizer.push(event->token);
      if (last) piece += detokenizer.flush();
      std::fputs(piece.c_str(), stdout);
      std::fflush(stdout);
      answer += piece;
      if (last) {
        report(*event, start, first);
        return answer;
      }
    }
  }

  static void report(const scheduler::TokenEvent& event, Clock::time_point start,
                     Clock::time_point first) {
    const double prefill = std::chrono::duration<double>(first - start).count();
    const double decode = std::chrono::duration<double>(Clock::now() - first).count();
    std::printf("\n[prompt %d tokens, %.1f tokens/s; answer %d tokens, %.1f tokens/s]\n",
                event.prompt_tokens, event.prompt_tokens / std::max(prefill, 1e-9),
                event.output_tokens, (event.output_tokens - 1) / std::max(decode, 1e-9));
  }

  const ChatOptions& options_;
  const ModelFiles& files_;
  scheduler::Scheduler& scheduler_;
  json::array messages_;
};

void chat(ChatOptions options) {
  const ModelFiles files = open_model(options.gguf_path, options.model_path);
  if (files.chat_template == nullptr) {
    throw Error("{}: has no chat template that works {}", files.weights->path(),
                files.chat_template_error);
  }
  options.engine.kv_type = parse_kv_type(options.kv_type);
  options.engine.max_step_sequences = 1;
  const auto engine = engine::load(*files.weights, options.engine);
  const auto scheduler = scheduler::Scheduler::start(
      *engine, {.max_batch_size = 1, .max_new_tokens = options.max_new_tokens});
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  sigaction(SIGINT, &action, nullptr);  // without SA_RESTART: Ctrl-C at the prompt ends the program
  std::printf("%s: type a message; Ctrl-C stops an answer, Ctrl-D ends\n", files.name.c_str());
  Conversation conversation(options, files, *scheduler);
  std::string line;
  while (std::printf("> "), std::fflush(stdout), std::getline(std::cin, line)) {
    if (!line.empty()) conversation.turn(line);
  }
  std::printf("\n");
}

}  // namespace

void add_chat(CLI::App& app, int* exit_code) {
  auto options = std::make_shared<ChatOptions>();
  CLI::App* verb = app.add_subcommand("chat", "talk to a model in the terminal");
  verb->add_option(flag("gguf_path"), options->gguf_path, "weights; without it the default model");
  verb->add_option(flag("model_path"), options->model_path,
                   "directory with tokenizer.json and config.json");
  verb->add_option("--system", options->system, "system message");
  verb->add_option("--temperature", options->temperature, "0: always the most likely token")
      ->check(CLI::Range(0.0, 2.0));
  verb->add_option(flag("max_new_tokens"), options->max_new_tokens, "tokens of an answer at most")
      ->check(CLI::PositiveNumber);
  verb->add_flag("--force_think,--force-think", options->force_think,
                 "open the thinking block in the prompt");
  verb->add_option(flag("cache_lens"), options->engine.cache_tokens, "tokens of the conversation")
      ->check(CLI::PositiveNumber);
  verb->add_option(flag("cpu_infer") + ",--threads", options->engine.threads, "worker threads")
      ->check(CLI::Range(0, 4096));
  verb->add_option(flag("cpu_isa"), options->engine.cpu_isa, "generic, avx2, avx512 or amx");
  add_numa_option(*verb, options->engine.numa);
  add_device_options(*verb, options->engine);
  verb->add_option(flag("kv_type"), options->kv_type, "f16, bf16 or f32");
  verb->callback([options, exit_code] {
    chat(*options);
    *exit_code = 0;
  });
}

}  // namespace tandem::cli
