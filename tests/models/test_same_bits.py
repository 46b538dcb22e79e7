"""A sequence's logits are the same bits whatever shares its batch, and on whatever CPU."""
from pathlib import Path

import pytest
from harness import SMOLLM2, evaluate, golden, golden_path, tiny_model

TINY = ("deepseek2-v3", "mixtral", "qwen2moe", "qwen3moe")
# With the cache that is served from; the others' differs from float32 in its rounding only.
INTEGER_CACHE = ("deepseek2-lite",)
QUANTISED = ("Q4_K_M", "Q6_K", "MXFP4_MOE")
ISA_FEATURES = {"generic": "avx2", "avx2": "avx2", "avx512": "avx512_vnni",
                "amx": "amx_int8"}
VARIATIONS = [
    *({"batch": batch} for batch in (2, 4, 7)),
    *({"chunk_size": chunk} for chunk in (1, 3, 64)),
    *({"threads": threads} for threads in (1, 2)),
    {"batch": 7, "chunk_size": 16, "threads": 2},
    *({"cpu_isa": isa} for isa in ISA_FEATURES),
]


def cpu_has(feature):
    flags = (line for line in Path("/proc/cpuinfo").read_text().splitlines()
             if line.startswith("flags"))
    return feature in next(flags, "").split()


def describe(variation):
    return " ".join(f"{name} {value}" for name, value in variation.items())


def hashes(model, prompts, folder, **flags):
    return [case["xxh64"] for case in evaluate(model, prompts, folder, generate=4, **flags)]


@pytest.fixture(scope="module", params=[*TINY, *INTEGER_CACHE, *QUANTISED, "SmolLM2"])
def model(request, tmp_path_factory):
    """A model file, prompts and flags for it, and the hashes of one sequence at a time on two threads."""
    name = request.param
    flags = {"kv_type": "f16"} if name in INTEGER_CACHE else {}
    if name in TINY or name in INTEGER_CACHE:
        path, cases = tiny_model(name), golden(f"{name}.f32.json")["cases"]
    elif name in QUANTISED:
        path, cases = golden_path(f"quant/{name}.gguf"), golden(f"quant/{name}.json")["cases"]
    else:
        path, cases = SMOLLM2, golden("smollm2/chat.json")["cases"]
    # Prompts of different lengths, so that prefill and decode meet in a step; more than a batch of 7.
    full = [case.get("ids") or case["prompt"] for case in cases]
    prompts = [ids[:length] for ids, length in zip(full * 2, (1, 5, 17, 40, 70, 3, 9, 25, 2))]
    folder = tmp_path_factory.mktemp("same_bits")
    expected = hashes(path, prompts, folder, batch=1, chunk_size=256, threads=2, **flags)
    return path, prompts, flags, expected


@pytest.mark.parametrize("variation", VARIATIONS, ids=describe)
def test_same_bits(model, variation, tmp_path):
    path, prompts, flags, expected = model
    feature = ISA_FEATURES.get(variation.get("cpu_isa"))
    if feature and not cpu_has(feature):
        pytest.skip(f"this CPU has no {feature}")
    if variation.get("cpu_isa") == "generic":
        prompts, expected = prompts[:3], expected[:3]  # scalar code is slow
    assert hashes(path, prompts, tmp_path, **variation, **flags) == expected
