"""Model files that are sound but cannot be served: one line that names the reason."""
import sys

import numpy as np
import pytest
from tandem_server import ROOT, refusal

sys.path.insert(0, str(ROOT / "tools"))
import tiny_gguf  # noqa: E402
from gguf_format import STRING, U32, align, header, key_value, pad, tensor_info  # noqa: E402

F32_TENSOR = 0
ALIGNMENT = 32


def write(path, metadata, tensors):
    """Tensors of zeros: nobody comes to compute with them."""
    table, offset = b"", 0
    for name, dims, *_ in tensors:
        table += tensor_info(name, dims, F32_TENSOR, offset)
        offset += align(4 * int(np.prod(dims)), ALIGNMENT)
    with open(path, "wb") as file:
        file.write(header(len(tensors), metadata) + table)
        pad(file, ALIGNMENT)
        file.truncate(file.tell() + offset)


def one_expert_a_tensor(tensors):
    for name, dims, *rest in tensors:
        if name.endswith("_exps.weight"):
            for expert in range(dims[-1]):
                yield (name.replace("_exps", f".{expert}"), dims[:-1], *rest)
        else:
            yield (name, dims, *rest)


def old_mixtral(model):
    return tiny_gguf.metadata("", model), list(one_expert_a_tensor(tiny_gguf.tensors(model)))


def longrope_by_name(model):
    scaling = key_value("llama.rope.scaling.type", STRING, "longrope")
    return [*tiny_gguf.metadata("", model), scaling], tiny_gguf.tensors(model)


def longrope_by_tensor(model):
    factors = [(f"rope_factors_{kind}.weight", (16,)) for kind in ("long", "short")]
    return tiny_gguf.metadata("", model), [*tiny_gguf.tensors(model), *factors]


def architecture(name):
    def change(model):
        return tiny_gguf.metadata("", dict(model, arch=name)), tiny_gguf.tensors(model)
    return change


def without(key):
    def change(model):
        start = len(key).to_bytes(8, "little") + key.encode()
        metadata = [entry for entry in tiny_gguf.metadata("", model)
                    if not entry.startswith(start)]
        return metadata, tiny_gguf.tensors(model)
    return change


def with_value(key, value):
    def change(model):
        metadata, tensors = without(key)(model)
        return [*metadata, key_value(key, U32, value)], tensors
    return change


@pytest.mark.parametrize("change, words", [
    (old_mixtral, ["each expert in a tensor of its own", "convert"]),
    (longrope_by_name, ["longrope", "not supported"]),
    (longrope_by_tensor, ["longrope", "rope_factors_long.weight"]),
    (architecture("mamba"), ["'mamba'", "deepseek2", "qwen3moe"]),
    (architecture("a\x1b[31m\nb"), ["'a?[31m?b'"]),
    (without("llama.block_count"), ["llama.block_count", "missing"]),
    (without("tokenizer.ggml.tokens"), ["tokenizer.ggml.tokens", "missing"]),
    (with_value("llama.block_count", 3), ["blk.2.", "missing"]),
    (with_value("llama.attention.head_count_kv", 3), ["head_count_kv"]),
    (with_value("llama.expert_used_count", 9), ["expert_used_count", "9"]),
    (with_value("llama.embedding_length", 2**31), ["embedding_length"]),
    (with_value("tokenizer.ggml.eos_token_id", 320), ["eos_token_id", "320"])])
def test_is_refused_in_one_line(tmp_path, change, words):
    path = tmp_path / "model.gguf"
    write(path, *change(tiny_gguf.PRESETS["mixtral"]))
    lines = [line for line in refusal("--gguf_path", path).splitlines()
             if line.startswith("tandem: ")]
    assert len(lines) == 1 and str(path) in lines[0]
    for word in words:
        assert word in lines[0]
