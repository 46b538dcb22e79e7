// The disk cache's files: whatever happened to them, a store gives a page as it was or not at all,
// and removes what it cannot use; and a scheduler on it gives the text of a request without any.
//
// An input is a byte whose lowest bit picks store or scheduler, then damages of a file each:
//   | file | what | offset, 2 bytes | length | that many bytes |
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include <unistd.h>
#include <xxhash.h>

#include "base/log.h"
#include "platform/record_store.h"
#include "scheduler/scheduler.h"
#include "tests/fuzz/targets.h"
#include "tests/scheduler/fake_engine.h"

namespace tandem::fuzz {
namespace {

namespace fs = std::filesystem;
using platform::RecordStore;
using scheduler::TokenId;

constexpr engine::EngineInfo kEngine = {.vocab_size = 100,
                                        .context_length = 64,
                                        .page_size = 4,
                                        .num_pages = 16,
                                        .max_step_tokens = 16,
                                        .max_step_sequences = 1};
constexpr Hash128 kOwner = {.high = 1, .low = 2};
constexpr size_t kPageBytes = sizeof(scheduler::FakeEngine::Cell) * kEngine.page_size;
constexpr size_t kMaxFileBytes = 16384;
constexpr int kMaxDamages = 16;

class Disk : public scheduler::PageDisk {
 public:
  explicit Disk(const RecordStore::Options& options) : store_(options) {}
  bool has(const Hash128& name) const override { return store_.has(name); }
  void touch(std::span<const Hash128> names) override { store_.touch(names); }
  bool read(const Hash128& name, std::span<std::byte> out) override {
    return store_.read(name, out);
  }
  bool write(const Hash128& name, std::span<const std::byte> in) override {
    return store_.write(name, in);
  }
  scheduler::Tier pages() const override {
    return {.pages_total = 100, .pages_used = store_.records()};
  }

 private:
  RecordStore store_;
};

// The rest of an input, as damages.
class Reader {
 public:
  explicit Reader(Bytes bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  size_t byte() { return take(1).empty() ? 0 : last_[0]; }
  size_t two_bytes() {
    const size_t low = byte();
    return low | byte() << 8;
  }
  std::string text(size_t length) {
    take(length);
    return {reinterpret_cast<const char*>(last_.data()), last_.size()};
  }

 private:
  Bytes take(size_t length) {
    last_ = bytes_.first(std::min(length, bytes_.size()));
    bytes_ = bytes_.subspan(last_.size());
    return last_;
  }
  Bytes bytes_, last_;
};

Hash128 parse_name(const std::string& hex) {
  Hash128 name;
  std::from_chars(hex.data(), hex.data() + 16, name.high, 16);
  std::from_chars(hex.data() + 16, hex.data() + 32, name.low, 16);
  return name;
}

// A directory of a few records as a scheduler leaves them, their contents, and the text that it
// gave.
class Folder {
 public:
  Folder() : path_("/dev/shm/tandem-fuzz-" + std::to_string(getpid()) + "-records") {
    log::set_level(log::Level::kError);
    ::testing::GTEST_FLAG(break_on_failure) = true;  // of the engine
    fs::remove_all(path_);
    text_ = run_scheduler();
    for (const auto& entry : fs::recursive_directory_iterator(root())) {
      if (entry.path().extension() != ".rec") continue;
      std::ifstream file(entry.path(), std::ios::binary);
      files_[fs::relative(entry.path(), root()).string()] = {std::istreambuf_iterator<char>(file),
                                                             {}};
    }
    TANDEM_CHECK(files_.size() >= 4, "{} pages were saved", files_.size());
  }
  ~Folder() { fs::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  RecordStore::Options options() const {
    return {.directory = path_, .max_bytes = 1 << 20, .owner = kOwner, .side_by_side = false};
  }
  std::string root() const { return path_ + "/tandem-records"; }
  const std::vector<TokenId>& text() const { return text_; }
  const std::map<std::string, std::string>& files() const { return files_; }

  std::vector<TokenId> run_scheduler() const {
    scheduler::FakeEngine engine(kEngine);
    std::vector<TokenId> text;
    std::promise<void> ended;
    const auto scheduler = scheduler::Scheduler::start(
        engine, {.max_batch_size = 1, .chunk_size = 16}, std::make_unique<Disk>(options()));
    scheduler::Request request;
    for (TokenId id = 0; id < 17; ++id) request.prompt.push_back(id);
    request.max_tokens = 8;
    request.on_event = [&](const scheduler::TokenEvent& event) {
      text.push_back(event.token);
      if (event.finish != scheduler::FinishReason::kNone) ended.set_value();
    };
    TANDEM_CHECK(scheduler->submit(std::move(request)).ok(), "the request was refused");
    ended.get_future().wait();
    return text;
  }

  // Everything as it was, but for the damages.
  void write_damaged(Reader& damages) const {
    std::map<std::string, std::string> files = files_;
    for (int i = 0; i < kMaxDamages && !damages.empty(); ++i) damage(files, damages);
    for (const auto& entry : fs::directory_iterator(root())) {
      if (entry.is_directory()) fs::remove_all(entry.path());
    }
    for (const auto& [name, bytes] : files) {
      const fs::path path = fs::path(root()) / name;
      fs::create_directories(path.parent_path());
      std::ofstream(path, std::ios::binary).write(bytes.data(), std::ssize(bytes));
    }
  }

 private:
  static void damage(std::map<std::string, std::string>& files, Reader& in) {
    const size_t which = in.byte(), what = in.byte(), offset = in.two_bytes();
    const std::string bytes = in.text(in.byte());
    if (files.empty()) return;
    const auto file = std::next(files.begin(), static_cast<std::ptrdiff_t>(which % files.size()));
    std::string& contents = file->second;
    const size_t at = std::min(offset, contents.size());
    switch (what % 8) {
      case 0:
        contents.replace(at, std::min(bytes.size(), contents.size() - at), bytes);
        break;
      case 1:
        contents.resize(at);
        break;
      case 2:
        if (contents.size() < kMaxFileBytes) contents += bytes;
        break;
      case 3:
        contents = bytes;
        break;
      case 4:
        std::swap(
            contents,
            std::next(files.begin(), static_cast<std::ptrdiff_t>(offset % files.size()))->second);
        break;
      case 5:
        files.erase(file);
        break;
      case 6:
        if (const std::string name = file_name(bytes); !files.contains(name)) {
          auto moved = files.extract(file);
          moved.key() = name;
          files.insert(std::move(moved));
        }
        break;
      default:
        seal(contents);
    }
  }

  // In a folder of two digits, or in one of another name.
  static std::string file_name(const std::string& bytes) {
    std::string name = bytes.substr(0, 60);
    for (char& c : name) c = c == '/' || c == '\0' || c == '.' ? '_' : c;
    const std::string folder = name.size() < 3 ? "00" : name.substr(0, 2);
    return folder + "/" + (name.size() < 3 ? "x" : name.substr(2)) +
           (bytes.size() % 2 == 0 ? ".rec" : ".part");
  }

  // Makes the header's own hash fit.
  static void seal(std::string& contents) {
    constexpr size_t kHashed = 64;
    if (contents.size() < kHashed + 8) return;
    const uint64_t hash = XXH3_64bits(contents.data(), kHashed);
    std::memcpy(contents.data() + kHashed, &hash, sizeof hash);
  }

  const std::string path_;
  std::vector<TokenId> text_;
  std::map<std::string, std::string> files_;  // by their paths below root()
};

int64_t files_in_folders_of_records(const std::string& root) {
  int64_t count = 0;
  for (const auto& folder : fs::directory_iterator(root)) {
    const std::string name = folder.path().filename().string();
    const bool ours =
        name.size() == 2 && name.find_first_not_of("0123456789abcdef") == std::string::npos;
    if (!ours || !folder.is_directory()) continue;
    count += std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator());
  }
  return count;
}

void read_all(const Folder& folder) {
  RecordStore store(folder.options());
  TANDEM_CHECK(files_in_folders_of_records(folder.root()) == store.records(),
               "the store knows {} records", store.records());
  for (const auto& [path, bytes] : folder.files()) {
    const Hash128 name = parse_name(fs::path(path).stem().string());
    const std::string contents = bytes.substr(bytes.size() - kPageBytes);
    std::string out(kPageBytes, '\0');
    const auto read = [&] { return store.read(name, std::as_writable_bytes(std::span(out))); };
    if (read()) {
      TANDEM_CHECK(out == contents, "{} is not what was written", path);
      continue;
    }
    TANDEM_CHECK(!store.has(name) && !fs::exists(folder.root() + "/" + path), "{} is still there",
                 path);
    TANDEM_CHECK(store.write(name, std::as_bytes(std::span(contents))) && read() && out == contents,
                 "{} cannot be written again", path);
  }
}

}  // namespace

void records(Bytes bytes) {
  static const Folder folder;
  Reader reader(bytes);
  const bool whole_scheduler = reader.byte() % 2 == 1;
  folder.write_damaged(reader);
  if (!whole_scheduler) return read_all(folder);
  TANDEM_CHECK(folder.run_scheduler() == folder.text(), "a damaged file changed the text");
}

}  // namespace tandem::fuzz
