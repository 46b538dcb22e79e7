#!/usr/bin/env python3
"""Write a GGUF with the true shapes and tensor types of a known model and random weights.

Speed does not depend on the weights' values, so such a file measures an engine on a model that
cannot be had here. Scales are chosen so that activations stay finite. Needs numpy only.

  synth_gguf.py MODEL OUT.gguf [--layers N] [--ftype q4_k_m|q8_0|bf16|f32|q4_0] [--vocab VOCAB.gguf]
                [--seed S]
"""
import argparse
import math
import struct

import numpy as np

from gguf_format import (ARRAY, BOOL, F32, I32, STRING, U32, align, byte_characters, header,
                         key_value, pad, tensor_info)

ALIGNMENT = 64
BLOCKS = {  # tensor type: id, elements of a block, bytes of a block
    "F32": (0, 1, 4), "F16": (1, 1, 2), "BF16": (30, 1, 2), "Q4_0": (2, 32, 18),
    "Q5_0": (6, 32, 22), "Q8_0": (8, 32, 34), "Q2_K": (10, 256, 84), "Q3_K": (11, 256, 110),
    "Q4_K": (12, 256, 144), "Q5_K": (13, 256, 176), "Q6_K": (14, 256, 210)}
FILE_TYPES = {"f32": 0, "q4_0": 2, "q8_0": 7, "q4_k_m": 15, "bf16": 32}

MODELS = {
    "ds-v2-lite": dict(
        arch="deepseek2", n_layer=27, n_embd=2048, n_head=16, q_lora=0, kv_lora=512, nope=128,
        rope=64, v=128, n_ff=10944, n_ff_exp=1408, n_expert=64, top=6, shared=2, dense=1,
        vocab=102400, scale=1.0, norm=False, gating=1, ctx=163840, base=10000.0),
    "ds-v3": dict(
        arch="deepseek2", n_layer=61, n_embd=7168, n_head=128, q_lora=1536, kv_lora=512, nope=128,
        rope=64, v=128, n_ff=18432, n_ff_exp=2048, n_expert=256, top=8, shared=1, dense=3,
        vocab=129280, scale=2.5, norm=True, gating=2, ctx=163840, base=10000.0, bias=True,
        groups=(8, 4)),
    "qwen3-30b-a3b": dict(
        arch="qwen3moe", n_layer=48, n_embd=2048, n_head=32, n_kv=4, hd=128, n_ff=6144,
        n_ff_exp=768, n_expert=128, top=8, vocab=151936, ctx=40960, base=1e6),
    "qwen3-235b-a22b": dict(
        arch="qwen3moe", n_layer=94, n_embd=4096, n_head=64, n_kv=4, hd=128, n_ff=12288,
        n_ff_exp=1536, n_expert=128, top=8, vocab=151936, ctx=40960, base=1e6),
    "qwen3-14b": dict(
        arch="qwen3", n_layer=40, n_embd=5120, n_head=40, n_kv=8, hd=128, n_ff=17408, vocab=151936,
        ctx=40960, base=1e6),
    "tiny-ds": dict(
        arch="deepseek2", n_layer=4, n_embd=512, n_head=8, q_lora=0, kv_lora=512, nope=128,
        rope=64, v=128, n_ff=1024, n_ff_exp=256, n_expert=16, top=4, shared=1, dense=1,
        vocab=102400, scale=1.0, norm=True, gating=2, ctx=4096, base=10000.0, bias=True),
    "tiny-q3": dict(
        arch="qwen3moe", n_layer=4, n_embd=512, n_head=8, n_kv=2, hd=128, n_ff=1024, n_ff_exp=256,
        n_expert=16, top=4, vocab=151936, ctx=4096, base=1e6),
}


def copied_vocabulary(path):
    """The tokenizer.* pairs of a GGUF file as they stand there, and its number of tokens."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:4] != b"GGUF":
        raise SystemExit(path + ": not a GGUF file")
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    num_pairs, = struct.unpack_from("<Q", data, 16)
    position, pairs, num_tokens = 24, [], 0

    def after_string(at):
        length, = struct.unpack_from("<Q", data, at)
        return at + 8 + length

    for _ in range(num_pairs):
        start = position
        position = after_string(start)
        key = data[start + 8:position].decode()
        value_type, = struct.unpack_from("<I", data, position)
        position += 4
        if value_type == STRING:
            position = after_string(position)
        elif value_type == ARRAY:
            element_type, count = struct.unpack_from("<IQ", data, position)
            position += 12
            if key == "tokenizer.ggml.tokens":
                num_tokens = count
            if element_type == STRING:
                for _ in range(count):
                    position = after_string(position)
            else:
                position += sizes[element_type] * count
        else:
            position += sizes[value_type]
        if key.startswith("tokenizer."):
            pairs.append(data[start:position])
    return pairs, num_tokens


def made_up_vocabulary(num_tokens):
    """A byte-level BPE: the 256 bytes, begin and end, filler."""
    tokens = list(byte_characters().values()) + ["<|bos|>", "<|eos|>"]
    types = [1] * 256 + [3, 3]
    while len(tokens) < num_tokens:
        tokens.append("<extra_%d>" % len(tokens))
        types.append(1)
    return [
        key_value("tokenizer.ggml.model", STRING, "gpt2"),
        key_value("tokenizer.ggml.pre", STRING, "gpt-2"),
        key_value("tokenizer.ggml.tokens", ARRAY, (STRING, tokens)),
        key_value("tokenizer.ggml.token_type", ARRAY, (I32, types)),
        key_value("tokenizer.ggml.merges", ARRAY, (STRING, ["a b"])),
        key_value("tokenizer.ggml.bos_token_id", U32, 256),
        key_value("tokenizer.ggml.eos_token_id", U32, 257),
        key_value("tokenizer.ggml.add_bos_token", BOOL, False),
    ]


def random_blocks(tensor_type, size, rng, std):
    """Bytes of `size` random elements with a standard deviation of about std.

    Quantised: random bytes, then constant scales over them; each divisor is the deviation of the
    type's random integers.
    """
    if tensor_type in ("F32", "F16", "BF16"):
        # A NumPy 2 float64 scalar would widen the product, and with it the file's layout.
        values = rng.standard_normal(size, dtype=np.float32) * np.float32(std)
        if tensor_type == "F32":
            return values.tobytes()
        if tensor_type == "F16":
            return values.astype("<f2").tobytes()
        return (values.view(np.uint32) >> 16).astype("<u2").tobytes()

    _, elements, block_bytes = BLOCKS[tensor_type]
    num_blocks = size // elements
    blocks = rng.integers(0, 256, (num_blocks, block_bytes), dtype=np.uint8)

    def half(value):
        return np.full(num_blocks, value, dtype="<f2").view(np.uint8).reshape(num_blocks, 2)

    if tensor_type == "Q4_0":
        blocks[:, :2] = half(std / 4.6)
    elif tensor_type == "Q5_0":
        blocks[:, :2] = half(std / 9.2)
    elif tensor_type == "Q8_0":
        blocks[:, :2] = half(std / 74)
    elif tensor_type in ("Q4_K", "Q5_K"):
        deviation, middle = (4.6, 7.5) if tensor_type == "Q4_K" else (9.2, 15.5)
        # Every 6-bit scale and minimum is 32: bytes 0-7 hold the first four of each and the upper
        # two bits of the rest, bytes 8-11 the lower four bits of the rest.
        blocks[:, 4:12] = 32 | 0x80
        blocks[:, 12:16] = 0
        blocks[:, :2] = half(std / deviation / 32)
        blocks[:, 2:4] = half(std / deviation / 32 * middle)
    elif tensor_type == "Q6_K":
        blocks[:, 192:208] = 32
        blocks[:, 208:] = half(std / 18.5 / 32)
    elif tensor_type == "Q2_K":
        blocks[:, 80:82] = half(std / 8)
        blocks[:, 82:84] = half(std / 8)
    elif tensor_type == "Q3_K":
        blocks[:, 108:] = half(std / 40)
    return blocks.tobytes()


def pick_type(row, wanted, file_type):
    """The type of a matrix with rows of `row` elements that llama-quantize would make `wanted`."""
    whole = row % 256 == 0
    if file_type == "q4_0":
        return "Q4_0" if wanted != "Q6_K" else "Q6_K" if whole else "Q8_0"
    if file_type != "q4_k_m":
        return file_type.upper()
    return wanted if whole else {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}[wanted]


def tensors(m, vocab, file_type):
    """The tensors in file order: (name, dims, type, standard deviation) each; deviation 0: ones."""
    out = []
    hidden, heads, num_layers = m["n_embd"], m["n_head"], m["n_layer"]

    def add(name, dims, wanted, std=None):
        std = 1.0 / np.sqrt(dims[0]) if std is None else std
        out.append((name, dims, pick_type(dims[0], wanted, file_type), std))

    def add_f32(name, dims, std=0.0):
        out.append((name, dims, "F32", std))

    def add_ffn(p, suffix, width, down, *experts):
        add(p + "ffn_gate%s.weight" % suffix, (hidden, width, *experts), "Q4_K")
        add(p + "ffn_up%s.weight" % suffix, (hidden, width, *experts), "Q4_K")
        add(p + "ffn_down%s.weight" % suffix, (width, hidden, *experts), down)

    def add_mla(p, better):
        query = heads * (m["nope"] + m["rope"])
        if m["q_lora"]:
            add(p + "attn_q_a.weight", (hidden, m["q_lora"]), "Q4_K")
            add_f32(p + "attn_q_a_norm.weight", (m["q_lora"],))
            add(p + "attn_q_b.weight", (m["q_lora"], query), "Q4_K")
        else:
            add(p + "attn_q.weight", (hidden, query), "Q4_K")
        add(p + "attn_kv_a_mqa.weight", (hidden, m["kv_lora"] + m["rope"]),
            better if file_type == "q4_k_m" else "Q4_K")
        add_f32(p + "attn_kv_a_norm.weight", (m["kv_lora"],))
        absorbed = "Q8_0" if file_type in ("q4_k_m", "q4_0", "q8_0") else file_type.upper()
        for part, dims in (("k", (m["nope"], m["kv_lora"], heads)),
                           ("v", (m["kv_lora"], m["v"], heads))):
            out.append((p + "attn_%s_b.weight" % part, dims, absorbed, 1 / np.sqrt(dims[0])))
        add(p + "attn_output.weight", (heads * m["v"], hidden), "Q4_K")

    def add_gqa(p, better):
        width, kv_width = heads * m["hd"], m["n_kv"] * m["hd"]
        add(p + "attn_q.weight", (hidden, width), "Q4_K")
        add(p + "attn_k.weight", (hidden, kv_width), "Q4_K")
        add(p + "attn_v.weight", (hidden, kv_width), better)
        add(p + "attn_output.weight", (width, hidden), "Q4_K")
        add_f32(p + "attn_q_norm.weight", (m["hd"],))
        add_f32(p + "attn_k_norm.weight", (m["hd"],))

    def gets_better_type(layer):
        """The layers whose down and value matrices get Q6_K in a Q4_K_M file."""
        eighth = num_layers // 8
        return layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2

    add("token_embd.weight", (hidden, vocab), "Q4_K", std=1.0)
    add_f32("output_norm.weight", (hidden,))
    add("output.weight", (hidden, vocab), "Q6_K")
    for layer in range(num_layers):
        p = "blk.%d." % layer
        better = "Q6_K" if gets_better_type(layer) else "Q4_K"
        add_f32(p + "attn_norm.weight", (hidden,))
        add_f32(p + "ffn_norm.weight", (hidden,))
        if m["arch"] == "deepseek2":
            add_mla(p, better)
            if layer < m["dense"]:
                add_ffn(p, "", m["n_ff"], better)
                continue
            add_ffn(p, "_shexp", m["shared"] * m["n_ff_exp"], better)
            if m.get("bias"):
                add_f32(p + "exp_probs_b.bias", (m["n_expert"],), std=0.01)
        else:
            add_gqa(p, better)
        if "n_expert" not in m:
            add_ffn(p, "", m["n_ff"], better)
            continue
        add_f32(p + "ffn_gate_inp.weight", (hidden, m["n_expert"]), std=1.0 / np.sqrt(hidden))
        add_ffn(p, "_exps", m["n_ff_exp"], better, m["n_expert"])
    return out


def metadata(name, m, vocab, file_type):
    def own(key, value_type, value):
        return key_value(m["arch"] + "." + key, value_type, value)

    out = [
        key_value("general.architecture", STRING, m["arch"]),
        key_value("general.name", STRING, "synthetic " + name),
        key_value("general.file_type", U32, FILE_TYPES[file_type]),
        key_value("general.quantization_version", U32, 2),
        key_value("general.alignment", U32, ALIGNMENT),
        own("block_count", U32, m["n_layer"]),
        own("context_length", U32, m["ctx"]),
        own("embedding_length", U32, m["n_embd"]),
        own("feed_forward_length", U32, m["n_ff"]),
        own("attention.head_count", U32, m["n_head"]),
        own("rope.freq_base", F32, m["base"]),
        own("attention.layer_norm_rms_epsilon", F32, 1e-6),
    ]
    if "n_expert" in m:
        out += [
            own("expert_count", U32, m["n_expert"]),
            own("expert_used_count", U32, m["top"]),
            own("expert_feed_forward_length", U32, m["n_ff_exp"]),
        ]
    out.append(own("vocab_size", U32, vocab))
    if m["arch"] == "deepseek2":
        out += [
            own("attention.head_count_kv", U32, 1),
            own("leading_dense_block_count", U32, m["dense"]),
            own("attention.kv_lora_rank", U32, m["kv_lora"]),
            own("attention.key_length", U32, m["kv_lora"] + m["rope"]),
            own("attention.value_length", U32, m["kv_lora"]),
            own("attention.key_length_mla", U32, m["nope"] + m["rope"]),
            own("attention.value_length_mla", U32, m["v"]),
            own("expert_shared_count", U32, m["shared"]),
            own("expert_weights_scale", F32, m["scale"]),
            own("expert_weights_norm", BOOL, m["norm"]),
            own("expert_gating_func", U32, m["gating"]),
            own("rope.dimension_count", U32, m["rope"]),
            own("attention.q_lora_rank", U32, m["q_lora"]),
        ]
        if m.get("groups"):
            out += [own("expert_group_count", U32, m["groups"][0]),
                    own("expert_group_used_count", U32, m["groups"][1])]
    else:
        out += [
            own("attention.head_count_kv", U32, m["n_kv"]),
            own("attention.key_length", U32, m["hd"]),
            own("attention.value_length", U32, m["hd"]),
        ]
    return out


def sizes(dims, tensor_type):
    """Elements and bytes of a tensor."""
    _, elements, block_bytes = BLOCKS[tensor_type]
    count = math.prod(dims)
    return count, count // elements * block_bytes


class WeightSource:
    """Random weights; a large tensor repeats one stretch of about four million elements."""

    def __init__(self, seed):
        self.rng_ = np.random.default_rng(seed)
        self.stretches_ = {}

    def write(self, file, dims, tensor_type, std):
        count, num_bytes = sizes(dims, tensor_type)
        if std == 0.0:
            file.write(np.ones(count, dtype="<f4").tobytes())
            return
        row = dims[0]
        stretch = 4 * max(row, (1 << 20) // row * row)
        if count <= stretch:
            file.write(random_blocks(tensor_type, count, self.rng_, std))
            return
        key = (tensor_type, row, round(float(std), 6))
        if key not in self.stretches_:
            self.stretches_[key] = random_blocks(tensor_type, stretch, self.rng_, std)
        data = self.stretches_[key]
        for done in range(0, num_bytes, len(data)):
            file.write(data[:num_bytes - done])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("out")
    parser.add_argument("--layers", type=int, help="keep only the first layers")
    parser.add_argument("--ftype", default="q4_k_m", choices=FILE_TYPES)
    parser.add_argument("--vocab", help="copy the vocabulary of this GGUF file")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    m = dict(MODELS[arguments.model])
    all_layers = m["n_layer"]
    m["n_layer"] = arguments.layers or all_layers
    if m.get("dense", 0) >= m["n_layer"]:
        m["dense"] = 1
    if arguments.vocab:
        vocabulary, vocab = copied_vocabulary(arguments.vocab)
    else:
        vocabulary, vocab = made_up_vocabulary(m["vocab"]), m["vocab"]

    model_tensors = tensors(m, vocab, arguments.ftype)
    table, offset = b"", 0
    for name, dims, tensor_type, _ in model_tensors:
        if dims[0] % BLOCKS[tensor_type][1]:
            raise SystemExit(
                "%s: rows of %d are not whole blocks of %s" % (name, dims[0], tensor_type))
        table += tensor_info(name, dims, BLOCKS[tensor_type][0], offset)
        offset += align(sizes(dims, tensor_type)[1], ALIGNMENT)

    pairs = metadata(arguments.model, m, vocab, arguments.ftype) + vocabulary
    source = WeightSource(arguments.seed)
    with open(arguments.out, "wb") as file:
        file.write(header(len(model_tensors), pairs) + table)
        pad(file, ALIGNMENT)
        for _, dims, tensor_type, std in model_tensors:
            source.write(file, dims, tensor_type, std)
            pad(file, ALIGNMENT)
    print("%s: %d tensors, %.2f GiB, %d of %d layers" % (
        arguments.out, len(model_tensors), offset / 2**30, m["n_layer"], all_layers))


if __name__ == "__main__":
    main()
