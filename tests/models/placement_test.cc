// What rules say of a model, in all their spellings; what cannot be done is refused by name.
#include "models/placement.h"

#include <cstdio>
#include <fstream>

#include <gtest/gtest.h>

#include "base/error.h"
#include "gguf/synthetic.h"
#include "models/rule_file.h"

namespace tandem::models {
namespace {

// Layer 0 is dense, layers 1 to 3 have experts.
class PlacementRules : public testing::Test {
 protected:
  void TearDown() override { std::remove(path_.c_str()); }

  FixedPlaces places(const PlacementWishes& wishes) {
    return fixed_places(*file_, config_, wishes);
  }
  FixedPlaces by_rules(const std::string& text) {
    return places({.rules = parse_rules(text, "--override-tensor"), .rule_file = {}});
  }
  FixedPlaces by_file(const std::string& text) {
    std::ofstream(path_) << text;
    return places({.rules = {}, .rule_file = path_});
  }
  template <typename F>
  std::string refusal(const F& f) {
    try {
      f();
    } catch (const Error& error) {
      return error.what();
    }
    return "not refused";
  }
  static std::string text_of(const std::vector<std::optional<Device>>& experts) {
    std::string text;
    for (const std::optional<Device>& e : experts)
      text += !e ? '-' : *e == Device::kCpu ? 'c' : 'g';
    return text;
  }

  std::unique_ptr<gguf::File> file_ = gguf::open_synthetic("ds-v2-lite", 4);
  ModelConfig config_ = read_config(*file_);
  std::string path_ = testing::TempDir() + "placement_rules.yaml";
};

TEST_F(PlacementRules, WithoutWishesEverythingIsOpen) {
  const FixedPlaces fixed = places({});
  EXPECT_EQ(text_of(fixed.experts), "----");
  EXPECT_FALSE(fixed.cpu_only);
  EXPECT_FALSE(fixed.needs_gpu);
}

TEST_F(PlacementRules, TheFirstRuleThatMatchesDecides) {
  EXPECT_EQ(text_of(by_rules("exps=CPU").experts), "-ccc");
  EXPECT_EQ(text_of(by_rules("blk\\.2\\..*exps=CUDA0,exps=CPU").experts), "-cgc");
  EXPECT_EQ(text_of(by_rules("exps=CPU,blk\\.2\\..*exps=CUDA0").experts), "-ccc");
}

TEST_F(PlacementRules, RulesWinOverTheFirstLayers) {
  PlacementWishes wishes;
  wishes.cpu_expert_layers = 2;
  EXPECT_EQ(text_of(places(wishes).experts), "-c--");
  wishes.rules = parse_rules("blk\\.1\\..*exps=cuda:0", "-ot");
  EXPECT_EQ(text_of(places(wishes).experts), "-g--");
  wishes.rules.clear();
  wishes.cpu_expert_layers = PlacementWishes::kAllLayers;
  EXPECT_EQ(text_of(places(wishes).experts), "-ccc");
}

TEST_F(PlacementRules, LayersAreCountedAsLlamaCppDoes) {
  PlacementWishes wishes;
  wishes.gpu_layers = 0;
  EXPECT_TRUE(places(wishes).cpu_only);
  EXPECT_FALSE(places(wishes).needs_gpu);
  for (const int all : {5, 99}) {  // four and the output
    wishes.gpu_layers = all;
    wishes.cpu_expert_layers = 2;
    EXPECT_EQ(text_of(places(wishes).experts), "-cgg");
    EXPECT_TRUE(places(wishes).needs_gpu);
    EXPECT_EQ(places(wishes).cpu_layers, 0);
    EXPECT_EQ(places(wishes).gpu_from, 0);
  }
  wishes.gpu_layers = 0;
  wishes.rules = parse_rules("exps=CUDA0", "-ot");
  EXPECT_NE(refusal([&] { places(wishes); }).find("--n-gpu-layers 0"), std::string::npos);
}

TEST_F(PlacementRules, TheLastLayersGoToTheGpu) {
  const char* experts[] = {"-ccc", "-ccc", "-ccg", "-cgg", "-ggg"};
  for (int last = 1; last <= 4; ++last) {
    SCOPED_TRACE(last);
    PlacementWishes wishes;
    wishes.gpu_layers = last;
    const FixedPlaces fixed = places(wishes);
    EXPECT_EQ(fixed.cpu_layers, 5 - last);
    EXPECT_EQ(fixed.gpu_from, 5 - last);
    EXPECT_TRUE(fixed.needs_gpu);
    EXPECT_FALSE(fixed.cpu_only);
    EXPECT_EQ(text_of(fixed.experts), experts[last]);
    EXPECT_TRUE(fixed.notes.empty());
  }
  PlacementWishes wishes;
  wishes.gpu_layers = 3;
  wishes.cpu_expert_layers = 3;
  EXPECT_EQ(text_of(places(wishes).experts), "-ccg");
  // A rule that puts more layers on the CPU wins; one that takes some of a layer away is refused.
  wishes.rules = parse_rules("blk\\.[0-2]\\.=CPU", "-ot");
  EXPECT_EQ(places(wishes).cpu_layers, 3);
  wishes.rules = parse_rules("blk\\.1\\..*exps=CUDA0", "-ot");
  const std::string refused = refusal([&] { places(wishes); });
  for (const char* part :
       {"blk.1.ffn_gate_exps.weight", "-ot 'blk", "--n-gpu-layers 3", "blk.1."}) {
    EXPECT_NE(refused.find(part), std::string::npos) << refused;
  }
}

TEST_F(PlacementRules, WholeLeadingLayersGoToTheCpu) {
  const FixedPlaces two = by_rules("blk\\.[01]\\.=CPU");
  EXPECT_EQ(two.cpu_layers, 2);
  EXPECT_EQ(two.gpu_from, PlacementWishes::kAllLayers);  // the others are open
  EXPECT_FALSE(two.needs_gpu);
  EXPECT_EQ(text_of(two.experts), "-c--");
  EXPECT_TRUE(two.notes.empty());
  EXPECT_EQ(by_rules("token_embd=CPU,blk\\.0\\.=CPU").cpu_layers, 1);
  EXPECT_EQ(by_rules("blk=CPU").cpu_layers, 4);  // the output is open
  // The experts of a layer on the CPU go with it, of one on the GPU they may be anywhere.
  EXPECT_EQ(
      text_of(
          by_rules("blk\\.0\\.|blk\\.1\\..*(attn|norm|inp|shexp)=CPU,blk\\.2.*exps=CPU").experts),
      "-cc-");
  const FixedPlaces fixed = by_rules("blk\\.[01]\\.=CPU,blk\\.3\\..*exps=CUDA0");
  EXPECT_EQ(fixed.gpu_from, 3);
  EXPECT_TRUE(fixed.needs_gpu);
  EXPECT_EQ(by_file("'token_embd|blk\\.[0-2]\\.': cpu\n'.*': cuda\n").cpu_layers, 3);
}

TEST_F(PlacementRules, AllOnTheCpuIsTheCpuAlone) {
  EXPECT_TRUE(by_rules(".*=CPU").cpu_only);
  EXPECT_FALSE(by_rules("exps=CPU").cpu_only);
}

TEST_F(PlacementRules, WhatCannotBeDoneIsRefused) {
  const auto says = [&](const std::string& rules, const char* part) {
    EXPECT_NE(refusal([&] { by_rules(rules); }).find(part), std::string::npos)
        << rules << ": " << refusal([&] { by_rules(rules); });
  };
  says("blk\\.3\\.ffn_up_exps=CPU", "blk.3.ffn_up_exps.weight");
  says("ffn_up_exps=CPU,exps=CUDA0", "go together");
  says("blk\\.1\\.attn=CPU", "blk.1.attn");
  says("blk\\.0\\.attn_q=CPU", "blk.0.attn_q.weight");
  says("blk\\.0\\.attn_q=CPU", "takes whole layers");
  says("blk\\.0\\.ffn=CPU,=CUDA0", "REGEX=CPU");
  says("blk\\.0\\.ffn=CPU,.*=CUDA0", "but not blk.0.");
  says("blk\\.[02]\\.=CPU", "blk.2.");
  says("blk\\.[02]\\.=CPU", "layers on the CPU come before");
  says("output=CPU", "output");
  says("token_embd=CPU", "token_embd.weight");
  says("token_embd=CUDA0,blk\\.0\\.=CPU", "token_embd.weight is wanted on the GPU");
  says("exps=CUDA1", "one GPU");
  says("exps=TPU", "known are CPU and CUDA0");
  says("exps", "REGEX=CPU");
  says("exps=CPU,", "REGEX=CPU");
  says("(=CPU", "regular expression");
}

TEST_F(PlacementRules, ARuleWithoutTensorsIsNoted) {
  const FixedPlaces fixed = by_rules("blk\\.77\\.=CPU");
  ASSERT_EQ(fixed.notes.size(), 1U);
  EXPECT_NE(fixed.notes[0].find("blk\\.77\\."), std::string::npos);
}

TEST_F(PlacementRules, AShortFileIsRulesInItsOrder) {
  const FixedPlaces fixed = by_file("'blk\\.[12]\\..*exps': cpu\n'exps': cuda\n");
  EXPECT_EQ(text_of(fixed.experts), "-ccg");
}

// The structure of the original's file for DeepSeek-V3 on one GPU.
constexpr const char* kOriginal = R"(
- match:
    class: ktransformers.models.modeling_deepseek_v3.DeepseekV3RotaryEmbedding
  replace:
    class: ktransformers.operators.RoPE.RotaryEmbeddingV3
    kwargs: {generate_device: "cuda", prefill_device: "cuda"}
- match:
    name: "^lm_head$"
    class: torch.nn.Linear
  replace:
    class: ktransformers.operators.linear.KTransformersLinear
    kwargs: {generate_device: "cuda", prefill_device: "cuda", generate_op: "KLinearMarlin", prefill_op: "KLinearTorch"}
- match:
    name: "^model\\.layers\\.(?!.*self_attn\\.kv_b_proj).*$"
    class: torch.nn.Linear
  replace:
    class: ktransformers.operators.linear.KTransformersLinear
    kwargs: {generate_device: "cuda", prefill_device: "cuda", generate_op: "KLinearMarlin", prefill_op: "KLinearTorch"}
- match:
    name: "^model\\.layers\\..*\\.mlp$"
    class: ktransformers.models.modeling_deepseek_v3.DeepseekV3MoE
  replace:
    class: ktransformers.operators.experts.KDeepseekV3MoE
    kwargs: {generate_device: "cuda", prefill_device: "cuda"}
- match:
    name: "^model\\.layers\\.3\\.mlp\\.experts$"
  replace:
    class: ktransformers.operators.experts.KTransformersExperts
    kwargs: {generate_device: "cuda", generate_op: "KExpertsMarlin", prefill_device: "cuda"}
  recursive: False
- match:
    name: "^model\\.layers\\..*\\.mlp\\.experts$"
  replace:
    class: ktransformers.operators.experts.KTransformersExperts
    kwargs: {prefill_device: "cuda", prefill_op: "KExpertsTorch", generate_device: "cpu", generate_op: "KExpertsCPU", out_device: "cuda"}
  recursive: False
- match:
    name: "^model.embed_tokens"
  replace:
    class: default
    kwargs: {generate_device: "cpu", prefill_device: "cpu"}
)";

TEST_F(PlacementRules, TheOriginalsFilesAreUnderstood) {
  const FixedPlaces fixed = by_file(kOriginal);
  EXPECT_TRUE(fixed.needs_gpu);
  EXPECT_FALSE(fixed.cpu_only);
  EXPECT_EQ(text_of(fixed.experts), "-ccg");
  EXPECT_EQ(fixed.cpu_prefill, std::vector<bool>(4));
  // Marlin's two kernels once each, and the embedding table.
  ASSERT_EQ(fixed.notes.size(), 3U);
  EXPECT_NE(fixed.notes[0].find("KLinearMarlin"), std::string::npos);
  EXPECT_NE(fixed.notes[1].find("KExpertsMarlin"), std::string::npos);
  EXPECT_NE(fixed.notes[2].find("rule 7 wants the embedding table"), std::string::npos);
}

// As the original's file for a model on several GPUs, with the CPU for the first layers.
constexpr const char* kDivided = R"(
- match:
    name: "^model\\.layers\\.[01]\\."
  replace:
    class: default
    kwargs: {generate_device: "cpu", prefill_device: "cpu"}
- match:
    name: "^model\\.layers\\..*\\.mlp\\.experts$"
  replace:
    class: ktransformers.operators.experts.KTransformersExperts
    kwargs: {prefill_device: "cuda", generate_device: "cpu"}
  recursive: False
- match:
    name: "^model.embed_tokens"
  replace:
    class: default
    kwargs: {generate_device: "cpu", prefill_device: "cpu"}
)";

TEST_F(PlacementRules, TheOriginalsFilesDivideLayersToo) {
  const FixedPlaces fixed = by_file(kDivided);
  EXPECT_EQ(fixed.cpu_layers, 2);
  EXPECT_EQ(fixed.gpu_from, 2);
  EXPECT_EQ(text_of(fixed.experts), "-ccc");
  EXPECT_TRUE(fixed.notes.empty());
  // The table is on the GPU where nothing says otherwise: a line in the log.
  const std::string without(kDivided, std::string_view(kDivided).rfind("- match"));
  EXPECT_EQ(by_file(without).cpu_layers, 2);
  ASSERT_EQ(by_file(without).notes.size(), 1U);
  EXPECT_NE(by_file(without).notes[0].find("goes with the first layer"), std::string::npos);
  PlacementWishes wishes = {.rules = {}, .rule_file = path_};
  wishes.gpu_layers = 1;
  EXPECT_EQ(places(wishes).cpu_layers, 2);
  EXPECT_NE(places(wishes).notes.front().find("--n-gpu-layers 1"), std::string::npos);
  wishes.gpu_layers = 0;
  EXPECT_NE(refusal([&] { places(wishes); }).find("--n-gpu-layers 0"), std::string::npos);
}

TEST_F(PlacementRules, PromptsStayOnTheCpuWhereARuleSaysSo) {
  const auto file = [](const std::string& devices) {
    return "- match: {name: \"layers\\\\.[12]\\\\.mlp\\\\.experts$\"}\n  replace: {kwargs: {" +
           devices + "}}\n  recursive: False\n";
  };
  EXPECT_EQ(by_file(file("generate_device: cpu, prefill_device: cpu")).cpu_prefill,
            (std::vector<bool>{false, true, true, false}));
  EXPECT_EQ(by_file(file("generate_device: cpu, prefill_device: cuda")).cpu_prefill,
            std::vector<bool>(4));
  EXPECT_EQ(by_file(file("generate_device: cpu")).cpu_prefill, std::vector<bool>(4));
  const std::string refused =
      refusal([&] { by_file(file("generate_device: cuda, prefill_device: cpu")); });
  EXPECT_NE(refused.find("weights on the GPU stay there"), std::string::npos) << refused;
}

TEST_F(PlacementRules, OverridesWinOverTheFile) {
  std::ofstream(path_) << kOriginal;
  const FixedPlaces fixed =
      places({.rules = parse_rules("blk\\.1\\..*exps=CUDA0", "-ot"), .rule_file = path_});
  EXPECT_EQ(text_of(fixed.experts), "-gcg");
}

TEST_F(PlacementRules, WhatNoRuleReplacesIsOnTheFirstGpu) {
  EXPECT_EQ(
      text_of(by_file("- match: {name: \"^lm_head\"}\n  replace: {class: default}\n").experts),
      "-ggg");
  // A rule for linears reaches experts that no rule takes as a whole.
  const char* linears =
      "- match: {name: mlp.experts, class: torch.nn.Linear}\n"
      "  replace: {class: x.KTransformersLinear, kwargs: {generate_device: cpu}}\n";
  EXPECT_EQ(text_of(by_file(linears).experts), "-ccc");
  // The parent is replaced and its parts are not looked at.
  const char* closed =
      "- match: {name: \"mlp$\"}\n  replace: {class: x.Y, kwargs: {generate_device: cuda}}\n"
      "  recursive: false\n"
      "- match: {name: experts}\n  replace: {class: x.Y, kwargs: {generate_device: cpu}}\n";
  EXPECT_EQ(text_of(by_file(closed).experts), "-ggg");
}

TEST_F(PlacementRules, FilesThatAskForWhatIsNotThereAreRefused) {
  const auto rule = [](const std::string& match, const std::string& kwargs) {
    return "- match: {" + match + "}\n  replace: {class: default, kwargs: {" + kwargs + "}}\n";
  };
  const auto says = [&](const std::string& text, const char* part) {
    EXPECT_NE(refusal([&] { by_file(text); }).find(part), std::string::npos)
        << text << ": " << refusal([&] { by_file(text); });
  };
  says(rule("name: a", "generate_device: 'cuda:1'"), "rule 1: device cuda:1: one GPU");
  says(rule("name: a", "transfer_map: {30: 'cuda:1'}"), "transfer_map");
  says(rule("name: a", "generate_device: cuda, prefill_device: cpu"), "stay there");
  says(rule("class: torch.nn.Conv2d", "generate_device: cuda"), "torch.nn.Conv2d");
  says(rule("name: '('", "generate_device: cuda"), "regular expression");
  says("- match: {}\n  replace: {class: default}\n", "neither name nor class");
  says("- match: {name: a}\n", "no replace");
  says(rule("name: self_attn.o_proj", "generate_device: cpu"), "attn_output.weight");
  says("just words", "neither lines");
  says("{", path_.c_str());
  says("'exps': gpu\n", "device 'gpu'");
  std::remove(path_.c_str());
  EXPECT_NE(refusal([&] { places({.rules = {}, .rule_file = path_}); }).find(path_),
            std::string::npos);
}

TEST_F(PlacementRules, EveryTensorIsPartOfAModuleThatOwnsIt) {
  for (const gguf::TensorInfo& info : file_->tensors()) {
    const std::vector<Module> modules = modules_of(info.name, config_);
    ASSERT_FALSE(modules.empty()) << info.name;
    EXPECT_NE(modules.back().kind, "DecoderLayer") << info.name;
    EXPECT_NE(modules.back().kind, "Model") << info.name;
  }
}

TEST_F(PlacementRules, PlacementGoesByLayers) {
  Placement placement;
  EXPECT_EQ(placement.of("blk.1.ffn_up_exps.weight"), Device::kCpu);
  placement.gpu = reinterpret_cast<ops::Gpu*>(this);  // never called
  placement.experts = {Device::kCpu, Device::kCuda};
  EXPECT_EQ(placement.of("blk.0.ffn_up_exps.weight"), Device::kCpu);
  EXPECT_EQ(placement.of("blk.1.ffn_up_exps.weight"), Device::kCuda);
  EXPECT_EQ(placement.of("blk.2.ffn_up_exps.weight"), Device::kCpu);
  EXPECT_EQ(placement.of("blk.0.attn_q.weight"), Device::kCuda);
  EXPECT_EQ(placement.of("token_embd.weight"), Device::kCuda);
  placement.cpu_layers = 1;
  placement.experts[0] = Device::kCuda;
  EXPECT_EQ(placement.of("token_embd.weight"), Device::kCpu);
  EXPECT_EQ(placement.of("blk.0.attn_q.weight"), Device::kCpu);
  EXPECT_EQ(placement.of("blk.0.ffn_up_exps.weight"), Device::kCpu);
  EXPECT_EQ(placement.of("blk.1.attn_q.weight"), Device::kCuda);
  EXPECT_EQ(placement.of("output.weight"), Device::kCuda);
  EXPECT_EQ(placement.of_layer(0), Device::kCpu);
  EXPECT_EQ(placement.of_layer(1), Device::kCuda);
  EXPECT_EQ(layer_of("blk.12.attn_q.weight"), 12);
  EXPECT_EQ(layer_of("blk.x"), -1);
  EXPECT_EQ(layer_of("output.weight"), -1);
}

}  // namespace
}  // namespace tandem::models
