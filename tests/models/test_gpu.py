"""The GPU's and the hybrid path against recorded outputs, and against the CPU's path."""
import json
import math
import subprocess

import pytest
from harness import (BINARY, SMOLLM2, evaluate, golden, kl_divergence, run_tandem,
                     smollm2_as_experts, tiny_model)
from test_smollm2 import RECORDED_TOKENS, SAME_BEST_SHARE, along_recorded_path

# Presets with the heads that GPU attention is built for, and whose other sizes its kernels take.
PRESETS = ("deepseek2-gpu", "qwen3moe-gpu")
# Activations are bf16 and the cache float16: 8 bits a product, over few layers.
LOGPROB_TOLERANCE = 2e-2
# Of the default model from float32: 9.5e-5 with everything on the GPU, 4.5e-5 with its experts on the CPU, whose
# own activations of 15 bits give 1e-6.
MEAN_KL_LIMIT = 2e-4
# Weights of all kinds that fit are on the GPU; routed experts are, unless this is given. In the mixed
# placement the first two layers' experts are on the CPU and the others' on the GPU.
# Hot: copies of a part of the experts in host memory are on the GPU, where their type has kernels there.
# Output: all layers are on the CPU. Last: so is the first, or in the default model all but the last; the experts of
# those on the GPU are left to the planner, or on the CPU.
PLACEMENTS = {"gpu": {}, "hybrid": {"cpu_moe": None, "hot_experts": "off", "stream_experts": "off"},
              "mixed": {"n-cpu-moe": 2, "hot_experts": "off", "stream_experts": "off"},
              "streamed": {"cpu_moe": None, "hot_experts": "off", "stream_experts": 2},
              "hot": {"cpu_moe": None, "hot_gpu_gb": 0.02, "stream_experts": "off"},
              "output": {"n-gpu-layers": 1}, "last": {"override-tensor": r"blk\.0\.=CPU"},
              "last hybrid": {"n-gpu-layers": 2, "cpu_moe": None, "hot_experts": "off", "stream_experts": "off"},
              "last streamed": {"n-gpu-layers": 2, "cpu_moe": None, "hot_experts": "off", "stream_experts": 2},
              "last hot": {"n-gpu-layers": 2, "cpu_moe": None, "hot_gpu_gb": 0.02, "stream_experts": "off"}}


@pytest.fixture(scope="session", autouse=True)
def gpu(tmp_path_factory):
    """Skips where there is no GPU, with the program's own reason."""
    prompts = tmp_path_factory.mktemp("gpu") / "one.json"
    prompts.write_text('{"cases": [{"ids": [1]}]}')
    done = subprocess.run([BINARY, "eval", "--gguf_path", SMOLLM2, "--device", "cuda", "--kv_type",
                           "f16", "--prompts", prompts], capture_output=True, text=True, timeout=60)
    reason = next((line for line in done.stderr.splitlines() if "no GPU" in line), None)
    if reason:
        pytest.skip(reason)


def evaluate_on(placement, model, prompts, folder, **flags):
    return evaluate(model, prompts, folder, device="cuda", kv_type="f16", **PLACEMENTS[placement],
                    **flags)


def differs_only_in_a_tie(ours, expected, best_two_apart):
    """Greedy texts may part only where the best two tokens were closer than the tolerance."""
    for i, (a, b) in enumerate(zip(ours, expected)):
        if a != b:
            return best_two_apart(i) <= LOGPROB_TOLERANCE
    return True


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("preset", PRESETS)
def test_float_model_matches_recorded_outputs(preset, placement, tmp_path):
    cases = golden(f"{preset}.f32.json")["cases"]
    results = evaluate_on(placement, tiny_model(preset), [case["prompt"] for case in cases],
                          tmp_path, generate=16, top=320)
    for case, ours in zip(cases, results, strict=True):
        logprobs = dict(map(tuple, ours["logprobs"][0]))
        for token, recorded in case["logprobs"]:
            if recorded > math.log(1e-4):
                assert logprobs[token] == pytest.approx(recorded, abs=LOGPROB_TOLERANCE)

        def apart(i, ours=ours):
            best = sorted((p for _, p in ours["logprobs"][i]), reverse=True)
            return best[0] - best[1]

        assert differs_only_in_a_tie(ours["tokens"], case["greedy"], apart)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("model", ("dense", "experts"))
def test_default_model_is_close_to_float32(model, placement, tmp_path):
    path = SMOLLM2 if model == "dense" else smollm2_as_experts()
    cases = golden("smollm2/chat.json")["cases"]
    found = along_recorded_path(path, cases, tmp_path, device="cuda", kv_type="f16", **PLACEMENTS[placement])
    pairs = [(recorded[:RECORDED_TOKENS], ours) for case, positions in zip(cases, found, strict=True)
             for recorded, ours in zip(case["logprobs"], positions, strict=False)]
    divergences = [kl_divergence(recorded, ours) for recorded, ours in pairs]
    same_best = sum(recorded[0][0] == ours[0][0] for recorded, ours in pairs) / len(pairs)
    mean = sum(divergences) / len(divergences)
    print(f"{model} {placement}: mean KL {mean:.2e}, most {max(divergences):.2e}, same best token {same_best:.4f}")
    assert len(pairs) == 147
    assert mean <= MEAN_KL_LIMIT
    assert same_best >= SAME_BEST_SHARE


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_batches_and_chunks_agree(placement, tmp_path):
    prompts = [case["prompt"] for case in golden("deepseek2-gpu.f32.json")["cases"]]
    model = tiny_model("deepseek2-gpu")
    alone = evaluate_on(placement, model, prompts, tmp_path, top=320, batch=1)
    together = evaluate_on(placement, model, prompts, tmp_path, top=320, batch=8, chunk_size=24)
    for a, b in zip(alone, together, strict=True):
        others = dict(map(tuple, b["logprobs"][0]))
        for token, logprob in a["logprobs"][0]:
            if logprob > math.log(1e-4):
                assert others[token] == pytest.approx(logprob, abs=LOGPROB_TOLERANCE)


def divided(model, layers, prompts, folder, **flags):
    """With so many layers on the GPU, the output is one."""
    return evaluate(model, prompts, folder, device="cuda", kv_type="f16", **{"n-gpu-layers": layers}, **flags)


@pytest.mark.parametrize("layers", (1, 8, 16, 30))
def test_every_division_of_the_default_model_is_as_close(layers, tmp_path):
    cases = golden("smollm2/chat.json")["cases"]
    ours = divided(SMOLLM2, layers, [case["ids"] for case in cases], tmp_path, top=4096)
    mean = sum(kl_divergence(case["logprobs"][0], result["logprobs"][0])
               for case, result in zip(cases, ours, strict=True)) / len(cases)
    print(f"{layers} of 31 layers on the GPU: mean KL {mean:.2e}")
    assert mean <= 2.3e-3


def test_rules_divide_layers_too(tmp_path):
    prompts = [case["ids"] for case in golden("smollm2/chat.json")["cases"]]
    by_count = divided(SMOLLM2, 21, prompts, tmp_path, generate=4, top=20)
    by_rule = evaluate(SMOLLM2, prompts, tmp_path, device="cuda", kv_type="f16", generate=4, top=20,
                       **{"override-tensor": r"blk\.\d\.=CPU"})
    assert by_rule == by_count


def bench(*flags):
    return subprocess.run([BINARY, "bench", "--device", "cuda", "--synthetic", "ds-v2-lite", "--layers", "3", "-n", "0",
                           "-r", "1", "--cpu_moe", *map(str, flags)], capture_output=True, text=True, timeout=120)


def test_both_ways_of_prompts_are_timed_at_start():
    done = bench("-p", 64, "--chunk_size", 1024, "--hot_experts", "off")
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if "on the CPU" in line and "copied" in line]
    print(*lines, sep="\n")
    assert 1 <= len(lines) <= 2  # both layers of experts, or one of each kind
    for flags in (["--stream_experts", "off"], ["--stream_experts", 64]):
        assert "copied" not in bench("-p", 64, "--hot_experts", "off", *flags).stderr
    # By default the GPU has room for copies of all experts.
    assert "prompts copy no experts of 2 layers" in bench("-p", 64, "--chunk_size", 1024).stderr


def test_without_room_for_buffers_prompts_stay_on_the_cpu():
    # Weights without experts and working memory take 1.7 GB, two buffers 0.8.
    done = bench("-p", 64, "--chunk_size", 1024, "--gpu_memory_gb", 2)
    assert done.returncode == 0, done.stderr
    assert "no room for the" in done.stderr and "copied" not in done.stderr
    refused = bench("-p", 64, "--chunk_size", 1024, "--gpu_memory_gb", 2, "--stream_experts", 64)
    assert refused.returncode != 0 and "--stream_experts off" in refused.stderr


@pytest.mark.parametrize("flags", [["-ngl", 4], ["-ngl", 4, "--cpu_moe", "--hot_experts", "off"],
                                   ["--cpu_moe", "--hot_experts", "off"],
                                   ["--cpu_moe", "--hot_experts", "off", "--defer_experts", 2], []])
def test_a_generated_step_is_divided_among_both_sides(flags):
    generated = 16
    out = run_tandem("bench", "--device", "cuda", "--synthetic", "ds-v2-lite", "--layers", 6, "-p", 0, "-n", generated,
                     "-r", 3, "--streams", "1,4", "--ops", "-o", "json", *flags)
    for result in json.loads(out):
        sides = result["sides"]
        print(flags, sides)
        parts = {name: sides[f"{name}_ms"] for name in ("gpu", "both", "cpu", "around")}
        assert sum(parts.values()) == pytest.approx(sides["step_ms"])
        assert min(parts.values()) >= 0
        # Of the last repetition; beside the steps it chooses random tokens.
        took = result["samples_ns"][-1] / generated * 1e-6
        assert 0.9 * took <= sides["step_ms"] <= took
        assert parts["gpu"] > 0
        assert (parts["cpu"] > 0) == (parts["both"] + parts["cpu"] > 0) == bool(flags)


def test_experts_are_deferred_in_steps_that_generate(tmp_path):
    # A prompt of one token is itself a step that defers.
    prompts = [case["prompt"] for case in golden("qwen3moe-gpu.f32.json")["cases"]
               if len(case["prompt"]) > 1]
    model = tiny_model("qwen3moe-gpu")
    whole, part = [evaluate_on("hybrid", model, prompts, tmp_path, top=320, generate=4,
                               defer_experts=deferred) for deferred in (0, 1)]
    for a, b in zip(whole, part, strict=True):
        # The prompt's last token, in a step of many.
        ours = dict(map(tuple, b["logprobs"][0]))
        for token, logprob in a["logprobs"][0]:
            if logprob > math.log(1e-4):
                assert ours[token] == pytest.approx(logprob, abs=1e-5)
        assert a["logprobs"][1] != b["logprobs"][1]


@pytest.mark.parametrize("preset", PRESETS)
def test_deferring_is_the_same_in_every_batch(preset, tmp_path):
    # Of equal length, so that a batch has one token of each in every step.
    prompts = [case["prompt"][:16] for case in golden(f"{preset}.f32.json")["cases"]
               if len(case["prompt"]) >= 16]
    # Token by token: the prompt's steps run operator by operator, the answer's as graphs.
    alone, together = [evaluate_on("hybrid", tiny_model(preset), prompts, tmp_path, top=320,
                                   generate=2, defer_experts=1, batch=batch, chunk_size=batch)
                       for batch in (1, len(prompts))]
    for a, b in zip(alone, together, strict=True):
        assert a["tokens"][0] == b["tokens"][0]
        for step in range(2):
            others = dict(map(tuple, b["logprobs"][step]))
            for token, logprob in a["logprobs"][step]:
                if logprob > math.log(1e-4):
                    assert others[token] == pytest.approx(logprob, abs=LOGPROB_TOLERANCE)
