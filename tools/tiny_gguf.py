#!/usr/bin/env python3
"""Write a tiny GGUF model with deterministic random float32 weights, one preset an architecture.

The same preset and seed give the same bytes on every machine, so that recorded outputs of another
engine on the same file serve as an oracle (tests/golden/README.md). Needs numpy only.

  tiny_gguf.py PRESET OUT.gguf [--seed S]      tiny_gguf.py --list
"""
import argparse

import numpy as np

from gguf_format import (ARRAY, BOOL, F32, I32, STRING, U32, align, byte_characters, header,
                         key_value, pad, tensor_info)

# L layers, E hidden, H query heads, KV key/value heads, hd head dimension, ff dense hidden,
# ffe expert hidden, ffs shared expert hidden, X experts, K experts per token.
PRESETS = {
    # MLA without a query bottleneck, softmax routing, no renormalisation: the DeepSeek-V2-Lite kind
    "deepseek2-lite": dict(
        arch="deepseek2", L=3, E=256, H=4, q_lora=0, kv_lora=256, nope=64, rope=32, v=64, ff=512,
        ffe=256, X=16, K=4, shared=2, dense=1, gating=1, norm=False, scale=1.0),
    # query bottleneck, sigmoid routing with bias, expert groups, renormalised and scaled weights,
    # YaRN: the DeepSeek-V3 kind
    "deepseek2-v3": dict(
        arch="deepseek2", L=4, E=256, H=4, q_lora=256, kv_lora=256, nope=64, rope=32, v=64, ff=512,
        ffe=256, X=32, K=4, shared=1, dense=2, gating=2, norm=True, scale=2.5, bias=True,
        groups=(8, 4), yarn=True),
    "qwen2moe": dict(
        arch="qwen2moe", L=3, E=256, H=4, KV=4, hd=64, ff=512, ffe=256, ffs=512, X=16, K=4,
        base=1e6, qkv_bias=True),
    "qwen3moe": dict(
        arch="qwen3moe", L=3, E=256, H=8, KV=2, hd=64, ff=512, ffe=256, X=16, K=4, base=1e6,
        qk_norm=True),
    "mixtral": dict(arch="llama", L=2, E=256, H=8, KV=2, hd=32, ff=512, X=8, K=2, base=1e6),
    "llama": dict(arch="llama", L=3, E=256, H=8, KV=2, hd=32, ff=512, X=0, base=5e5, tied=True),
    "qwen2": dict(
        arch="qwen2", L=3, E=256, H=8, KV=2, hd=32, ff=512, X=0, base=1e6, qkv_bias=True),
    # small enough to keep a copy in every quantisation
    "quant-probe": dict(
        arch="qwen3moe", L=1, E=256, H=4, KV=1, hd=64, ff=512, ffe=256, X=4, K=2, base=1e6,
        qk_norm=True, tied=True),
    # the head sizes that GPU attention kernels are built for: MLA 512 + 64, GQA 128
    "deepseek2-gpu": dict(
        arch="deepseek2", L=2, E=256, H=16, q_lora=256, kv_lora=512, nope=128, rope=64, v=128,
        ff=512, ffe=256, X=32, K=4, shared=1, dense=1, gating=2, norm=True, scale=2.5, bias=True,
        groups=(8, 4), yarn=True),
    "qwen3moe-gpu": dict(
        arch="qwen3moe", L=2, E=256, H=16, KV=2, hd=128, ff=512, ffe=256, X=16, K=4, base=1e6,
        qk_norm=True),
    "qwen3": dict(
        arch="qwen3", L=3, E=256, H=8, KV=2, hd=64, ff=512, X=0, base=1e6, qk_norm=True, tied=True),
}

VOCAB = 320
ALIGNMENT = 32
F32_TENSOR = 0  # the type id of float32 tensors
NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5  # token types
MERGES = "th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le"
SPECIAL = ("<|bos|>", "<|eos|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def tokenizer():
    """Byte-level BPE: the 256 bytes, 30 merges of common pairs, special tokens, filler."""
    characters = byte_characters()
    tokens = [characters[byte] for byte in range(256)]
    types = [NORMAL] * 256
    merges = []
    for pair in MERGES.split():
        first, second = (characters[ord(letter)] for letter in pair)
        tokens.append(first + second)
        types.append(NORMAL)
        merges.append(first + " " + second)
    for token in SPECIAL:
        tokens.append(token)
        types.append(CONTROL if token[1] == "|" else USER_DEFINED)
    while len(tokens) < VOCAB:
        tokens.append("<unused_%d>" % len(tokens))
        types.append(UNUSED)
    return [
        key_value("tokenizer.ggml.model", STRING, "gpt2"),
        key_value("tokenizer.ggml.pre", STRING, "gpt-2"),
        key_value("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
        key_value("tokenizer.ggml.token_type", ARRAY, (I32, types)),
        key_value("tokenizer.ggml.merges", ARRAY, (STRING, merges)),
        key_value("tokenizer.ggml.bos_token_id", U32, tokens.index("<|bos|>")),
        key_value("tokenizer.ggml.eos_token_id", U32, tokens.index("<|im_end|>")),
        key_value("tokenizer.ggml.add_bos_token", BOOL, False),
        key_value("tokenizer.chat_template", STRING, CHATML),
    ]


def tensors(m):
    """The model's tensors in file order: (name, dims, standard deviation, mean) each."""
    out = []
    hidden, heads = m["E"], m["H"]

    def add(name, *dims, std=None, mean=0.0):
        out.append((name, dims, 1.0 / np.sqrt(dims[0]) if std is None else std, mean))

    def add_norm(name, size):
        add(name, size, std=0.1, mean=1.0)

    def add_mla(p):
        query = heads * (m["nope"] + m["rope"])
        if m["q_lora"]:
            add(p + "attn_q_a.weight", hidden, m["q_lora"])
            add_norm(p + "attn_q_a_norm.weight", m["q_lora"])
            add(p + "attn_q_b.weight", m["q_lora"], query)
        else:
            add(p + "attn_q.weight", hidden, query)
        add(p + "attn_kv_a_mqa.weight", hidden, m["kv_lora"] + m["rope"])
        add_norm(p + "attn_kv_a_norm.weight", m["kv_lora"])
        add(p + "attn_k_b.weight", m["nope"], m["kv_lora"], heads, std=1.0 / np.sqrt(m["kv_lora"]))
        add(p + "attn_v_b.weight", m["kv_lora"], m["v"], heads)
        add(p + "attn_output.weight", heads * m["v"], hidden)

    def add_gqa(p):
        head_dim, kv_heads = m["hd"], m["KV"]
        for part, heads_of_part in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            width = heads_of_part * head_dim
            add(p + "attn_%s.weight" % part, hidden, width)
            if m.get("qkv_bias"):
                add(p + "attn_%s.bias" % part, width, std=0.1)
        add(p + "attn_output.weight", heads * head_dim, hidden)
        if m.get("qk_norm"):
            add_norm(p + "attn_q_norm.weight", head_dim)
            add_norm(p + "attn_k_norm.weight", head_dim)

    def add_ffn(p, suffix, width, *experts):
        add(p + "ffn_gate%s.weight" % suffix, hidden, width, *experts)
        add(p + "ffn_up%s.weight" % suffix, hidden, width, *experts)
        add(p + "ffn_down%s.weight" % suffix, width, hidden, *experts)

    def add_moe(p):
        expert_hidden = m.get("ffe", m["ff"])
        add(p + "ffn_gate_inp.weight", hidden, m["X"], std=2.0 / np.sqrt(hidden))
        if m.get("bias"):
            add(p + "exp_probs_b.bias", m["X"], std=0.05)
        add_ffn(p, "_exps", expert_hidden, m["X"])
        shared_hidden = m.get("ffs") or m.get("shared", 0) * expert_hidden
        if shared_hidden:
            add_ffn(p, "_shexp", shared_hidden)
        if m.get("ffs"):
            add(p + "ffn_gate_inp_shexp.weight", hidden)

    add("token_embd.weight", hidden, VOCAB, std=2.0 / np.sqrt(hidden))
    add_norm("output_norm.weight", hidden)
    if not m.get("tied"):
        add("output.weight", hidden, VOCAB, std=2.0 / np.sqrt(hidden))
    for layer in range(m["L"]):
        p = "blk.%d." % layer
        add_norm(p + "attn_norm.weight", hidden)
        add_norm(p + "ffn_norm.weight", hidden)
        add_mla(p) if m["arch"] == "deepseek2" else add_gqa(p)
        if m["X"] and layer >= m.get("dense", 0):
            add_moe(p)
        else:
            add_ffn(p, "", m["ff"])
    return out


def metadata(preset, m):
    def own(key, value_type, value):
        return key_value(m["arch"] + "." + key, value_type, value)

    out = [
        key_value("general.architecture", STRING, m["arch"]),
        key_value("general.name", STRING, "tiny " + preset),
        key_value("general.file_type", U32, 0),
        own("block_count", U32, m["L"]),
        own("context_length", U32, 4096),
        own("embedding_length", U32, m["E"]),
        own("feed_forward_length", U32, m["ff"]),
        own("attention.head_count", U32, m["H"]),
        own("rope.freq_base", F32, m.get("base", 10000.0)),
        own("attention.layer_norm_rms_epsilon", F32, 1e-6),
        own("vocab_size", U32, VOCAB),
    ]
    if m["X"]:
        out += [own("expert_count", U32, m["X"]), own("expert_used_count", U32, m["K"])]
    if "ffe" in m:
        out += [own("expert_feed_forward_length", U32, m["ffe"])]
    if "ffs" in m:
        out += [own("expert_shared_feed_forward_length", U32, m["ffs"])]
    if m["arch"] == "deepseek2":
        out += [
            own("attention.head_count_kv", U32, 1),
            own("leading_dense_block_count", U32, m["dense"]),
            own("attention.q_lora_rank", U32, m["q_lora"]),
            own("attention.kv_lora_rank", U32, m["kv_lora"]),
            own("attention.key_length", U32, m["kv_lora"] + m["rope"]),
            own("attention.value_length", U32, m["kv_lora"]),
            own("attention.key_length_mla", U32, m["nope"] + m["rope"]),
            own("attention.value_length_mla", U32, m["v"]),
            own("rope.dimension_count", U32, m["rope"]),
            own("expert_shared_count", U32, m["shared"]),
            own("expert_weights_scale", F32, m["scale"]),
            own("expert_weights_norm", BOOL, m["norm"]),
            own("expert_gating_func", U32, m["gating"]),
        ]
        if m.get("groups"):
            out += [own("expert_group_count", U32, m["groups"][0]),
                    own("expert_group_used_count", U32, m["groups"][1])]
        if m.get("yarn"):
            out += [own("rope.scaling.type", STRING, "yarn"),
                    own("rope.scaling.factor", F32, 4.0),
                    own("rope.scaling.original_context_length", U32, 1024),
                    own("rope.scaling.yarn_log_multiplier", F32, 0.1)]
    else:
        out += [
            own("attention.head_count_kv", U32, m["KV"]),
            own("rope.dimension_count", U32, m["hd"]),
            own("attention.key_length", U32, m["hd"]),
            own("attention.value_length", U32, m["hd"]),
        ]
    return out + tokenizer()


def weights(seed, index, size, std, mean):
    """Uniform values of the given deviation. Each tensor has a stream of its own."""
    generator = np.random.Generator(np.random.PCG64([seed, index]))
    raw = generator.integers(0, 1 << 24, size, dtype=np.int64)
    unit = raw.astype(np.float64) / (1 << 24) - 0.5
    return (unit * (np.sqrt(12.0) * std) + mean).astype("<f4")


def build(preset, seed, path):
    m = PRESETS[preset]
    model_tensors = tensors(m)
    table, offset = b"", 0
    for name, dims, _, _ in model_tensors:
        table += tensor_info(name, dims, F32_TENSOR, offset)
        offset += align(int(np.prod(dims)) * 4, ALIGNMENT)
    with open(path, "wb") as file:
        file.write(header(len(model_tensors), metadata(preset, m)) + table)
        pad(file, ALIGNMENT)
        for index, (_, dims, std, mean) in enumerate(model_tensors):
            file.write(weights(seed, index, int(np.prod(dims)), std, mean).tobytes())
            pad(file, ALIGNMENT)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", nargs="?", choices=PRESETS, metavar="PRESET")
    parser.add_argument("out", nargs="?", metavar="OUT.gguf")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="name the presets")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(PRESETS))
    elif arguments.out:
        build(arguments.preset, arguments.seed, arguments.out)
    else:
        parser.error("PRESET and OUT.gguf are needed")


if __name__ == "__main__":
    main()
