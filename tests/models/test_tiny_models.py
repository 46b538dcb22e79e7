"""Every supported architecture in float32 against what llama.cpp computed on the same file."""
import subprocess

import pytest
from harness import BINARY, evaluate, golden, golden_names, kl_divergence, tiny_model

# Float32 sums in another order; the models have few layers, so little adds up. Deep in the tail a
# difference of logits says nothing about the distribution.
LOGPROB_TOLERANCE = 1e-3
LOWEST_LOGPROB = -12.0


def assert_same_continuation(ours, recorded):
    """Equal ids, up to a step where the best two are too close to call."""
    for step, (mine, theirs) in enumerate(zip(ours["tokens"], recorded, strict=False)):
        if mine != theirs:
            (_, best), (_, second) = ours["logprobs"][step][:2]
            assert best - second < LOGPROB_TOLERANCE, f"step {step}: {mine} instead of {theirs}"
            return


@pytest.mark.parametrize("preset", golden_names("*.f32.json"))
def test_matches_recorded_outputs(preset, tmp_path):
    cases = golden(f"{preset}.f32.json")["cases"]
    results = evaluate(tiny_model(preset), [case["prompt"] for case in cases], tmp_path,
                       generate=16, top=320)
    for case, ours in zip(cases, results, strict=True):
        logprobs = dict(map(tuple, ours["logprobs"][0]))
        for token, recorded in case["logprobs"]:
            if recorded > LOWEST_LOGPROB:
                assert logprobs[token] == pytest.approx(recorded, abs=LOGPROB_TOLERANCE)
        assert len(ours["tokens"]) >= len(case["greedy"])
        assert_same_continuation(ours, case["greedy"])


# Latent attention is served from a cache of integers. Rounding may move a router's choice between
# experts that are all but equal, as a cache of halves does in one case of deepseek2-v3; without
# that it shows only here.
INTEGER_CACHE_KL = 1e-5


@pytest.mark.parametrize("preset", golden_names("deepseek2-*.f32.json"))
def test_integer_cache(preset, tmp_path):
    cases = golden(f"{preset}.f32.json")["cases"]
    results = evaluate(tiny_model(preset), [case["prompt"] for case in cases], tmp_path,
                       generate=16, top=320, kv_type="f16")
    divergences = sorted(kl_divergence(case["logprobs"], ours["logprobs"][0])
                         for case, ours in zip(cases, results, strict=True))
    print(preset, divergences)
    assert divergences[-2] < INTEGER_CACHE_KL
    assert divergences[-1] < 0.1


@pytest.mark.parametrize("flag, reason", (
    ("--defer_experts", "1: experts are deferred beside a GPU only"),
    ("--stream_experts", "1: experts are copied to a GPU"),
))
def test_the_cpu_alone_refuses_what_needs_a_gpu(flag, reason, tmp_path):
    prompts = tmp_path / "one.json"
    prompts.write_text('{"cases": [{"ids": [1]}]}')
    done = subprocess.run([BINARY, "eval", "--gguf_path", tiny_model("qwen3moe"), "--device", "cpu",
                           flag, "1", "--prompts", prompts], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode != 0
    assert f"{flag} {reason}" in done.stderr


def test_counts_of_hot_experts_on_the_cpu_alone_are_warned_of(tmp_path):
    prompts, counts = tmp_path / "one.json", tmp_path / "hot.json"
    prompts.write_text('{"cases": [{"ids": [1]}]}')
    done = subprocess.run([BINARY, "eval", "--gguf_path", tiny_model("qwen3moe"), "--device", "cpu",
                           "--hot_experts", counts, "--prompts", prompts], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0
    assert f"--hot_experts {counts}: there are no hot experts" in done.stderr
    assert not counts.exists()
