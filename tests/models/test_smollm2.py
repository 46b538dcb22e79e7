"""The default model: template, token ids and distributions against recorded ones."""
import json
import math
from datetime import datetime

import gguf
import pytest
from harness import (SMOLLM2, evaluate, golden, kl_divergence, run_tandem, smollm2_as_experts)

# Activations of 15 bits give 6e-7 (docs/decisions/0005-activation-precision.md).
MEAN_KL_LIMIT = 2e-6
SAME_BEST_SHARE = 0.95
POSITIONS = 16  # of each case
RECORDED_TOKENS = 20  # at each position
OUR_TOKENS = 512  # enough that the recorded ones are among them
SEPARATOR = "__next_case__"


@pytest.fixture(scope="module")
def cases():
    return golden("smollm2/chat.json")["cases"]


def test_renders_the_prompts(cases, tmp_path):
    fields = gguf.GGUFReader(SMOLLM2).fields
    tokens = fields["tokenizer.ggml.tokens"].contents()

    def special(name):
        return tokens[fields[f"tokenizer.ggml.{name}_token_id"].contents()]

    request = {
        "template": fields["tokenizer.chat_template"].contents(),
        "cases": [{"context": {"messages": case["messages"], "add_generation_prompt": True,
                               "bos_token": special("bos"), "eos_token": special("eos")}}
                  for case in cases]}
    path = tmp_path / "cases.json"
    path.write_text(json.dumps(request))
    lines = run_tandem("render", "--cases", path, "--now", "2026-01-02T03:04:05").splitlines()
    rendered = [json.loads(line) for line in lines]
    assert [line.get("text") for line in rendered] == [case["prompt"] for case in cases]


def test_encodes_the_prompts(cases):
    text = f"\n{SEPARATOR}\n".join(case["prompt"] for case in cases)
    lines = run_tandem("tokenize", "--gguf_path", SMOLLM2, "--separator", SEPARATOR,
                       stdin=text.encode()).splitlines()
    assert [json.loads(line) for line in lines] == [case["ids"] for case in cases]


def along_recorded_path(model, cases, folder, **flags):
    """Our distribution at each position, with the recorded tokens before it; flags: of harness.evaluate.

    Positions follow each other in one run as long as our best token is the recorded one; after a
    different token the next run starts behind the recorded one.
    """
    found = [[] for _ in cases]
    lengths = [min(POSITIONS, len(case["greedy"])) for case in cases]
    while True:
        open_cases = [i for i, length in enumerate(lengths) if len(found[i]) < length]
        if not open_cases:
            return found
        prompts = [cases[i]["ids"] + cases[i]["greedy"][:len(found[i])] for i in open_cases]
        results = evaluate(model, prompts, folder, generate=POSITIONS, top=OUR_TOKENS, batch=4, **flags)
        for i, ours in zip(open_cases, results, strict=True):
            for token, logprobs in zip(ours["tokens"], ours["logprobs"], strict=True):
                if len(found[i]) == lengths[i]:
                    break
                recorded = cases[i]["greedy"][len(found[i])]
                found[i].append(logprobs)
                if token != recorded:
                    break


def truncated_kl(recorded, ours):
    """What was recorded of llama.cpp: without the other tokens the sum is no divergence, and may be negative."""
    ours = dict(map(tuple, ours))
    return sum(math.exp(p) * (p - ours[token]) for token, p in recorded)


@pytest.mark.parametrize("experts", [False, True], ids=["dense", "8 experts"])
def test_is_as_close_to_float32_as_llama_cpp(cases, experts, tmp_path):
    model = smollm2_as_experts() if experts else SMOLLM2
    llama = golden("smollm2/chat.json")["llama_cpp_vs_f32"]["Q4_1 split into 8 experts" if experts else "Q4_1"]
    divergences, truncated, same_best = [], [], []
    for case, positions in zip(cases, along_recorded_path(model, cases, tmp_path), strict=True):
        for recorded, ours in zip(case["logprobs"], positions, strict=False):
            divergences.append(kl_divergence(recorded[:RECORDED_TOKENS], ours))
            truncated.append(truncated_kl(recorded[:RECORDED_TOKENS], ours))
            same_best.append(recorded[0][0] == ours[0][0])
    assert len(divergences) == llama["positions"]
    assert min(divergences) >= 0
    mean_kl = sum(divergences) / len(divergences)
    share = sum(same_best) / len(same_best)
    mean_truncated = sum(truncated) / len(truncated)
    print(f"mean KL {mean_kl:.2e}, truncated {mean_truncated:.6f}, same best token {share:.4f}")
    assert mean_kl <= MEAN_KL_LIMIT
    assert mean_truncated <= llama["mean_truncated_kl"]
    assert share >= SAME_BEST_SHARE
