#!/usr/bin/env python3
"""Rewrite a GGUF file without touching its meaning. Needs the `gguf` and `numpy` packages.

  gguf_rewrite.py f32 IN OUT          every tensor decoded to float32
  gguf_rewrite.py experts N IN OUT    a dense `llama` model as a mixture of N experts, all N used,
                                      computing the same function

In the second, expert e owns the e-th slice of the hidden units, the router is zero (a weight of 1/N
each), and ffn_down is multiplied by N. For N a power of two every quantised value stays exact (only
block scales are multiplied), so dense and split agree up to the order of summation.
"""
import argparse

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type

# Bytes of a block, and how many float16 numbers that scale it stand at its start.
BLOCK_SCALES = {Type.Q4_0: (18, 1), Type.Q4_1: (20, 2), Type.Q8_0: (34, 1)}
SPLIT_PARTS = ("ffn_gate", "ffn_up", "ffn_down")


def copy_fields(source, target, skip):
    for name, field in source.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture" or name in skip:
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        target.add_key_value(name, field.contents(), kind, element)


def scale_tensor(data, tensor_type, factor):
    """A tensor [rows, bytes] times a power of two, through its block scales."""
    if tensor_type in (Type.F32, Type.F16):
        return (data * factor).astype(data.dtype)
    block_bytes, num_scales = BLOCK_SCALES[tensor_type]
    data = data.copy()
    blocks = data.reshape(-1, block_bytes)
    scales = blocks[:, :2 * num_scales].copy().view(np.float16)
    blocks[:, :2 * num_scales] = (scales * np.float16(factor)).view(np.uint8)
    return data


def decode_tensor(tensor):
    if tensor.tensor_type == Type.F32:
        return np.ascontiguousarray(tensor.data, dtype=np.float32)
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    return np.ascontiguousarray(values, dtype=np.float32)


def split_tensor(part, tensor, count):
    """Rows of gate and up, columns of down, dealt out to the experts: [experts, rows, bytes]."""
    data = tensor.data
    if part == "ffn_down":
        data = scale_tensor(data, tensor.tensor_type, count)
        return np.ascontiguousarray(data.reshape(data.shape[0], count, -1).transpose(1, 0, 2))
    return data.reshape(count, data.shape[0] // count, data.shape[1])


def write_decoded(source, target):
    copy_fields(source, target, skip=("general.file_type",))
    for tensor in source.tensors:
        target.add_tensor(tensor.name, decode_tensor(tensor))


def write_split(source, target, architecture, count):
    if architecture != "llama" or count & (count - 1):
        raise SystemExit("experts: needs a dense llama model and a power of two")
    hidden = architecture + ".feed_forward_length"
    copy_fields(source, target, skip=(hidden,))
    # This architecture keeps the size of one expert under the dense model's key.
    target.add_feed_forward_length(source.fields[hidden].contents() // count)
    target.add_expert_count(count)
    target.add_expert_used_count(count)
    for tensor in source.tensors:
        part = tensor.name.split(".")[-2] if tensor.name.startswith("blk.") else ""
        if part not in SPLIT_PARTS:
            target.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            continue
        target.add_tensor(tensor.name.replace(part, part + "_exps"),
                          split_tensor(part, tensor, count), raw_dtype=tensor.tensor_type)
        if part == "ffn_gate":
            router = np.zeros((count, int(tensor.shape[0])), np.float32)
            target.add_tensor(tensor.name.replace(part, "ffn_gate_inp"), router)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    modes.add_parser("f32")
    modes.add_parser("experts").add_argument("count", type=int, metavar="N")
    for mode in modes.choices.values():
        mode.add_argument("source", metavar="IN")
        mode.add_argument("target", metavar="OUT")
    arguments = parser.parse_args()

    source = gguf.GGUFReader(arguments.source)
    architecture = source.fields["general.architecture"].contents()
    target = gguf.GGUFWriter(arguments.target, architecture)
    if arguments.mode == "f32":
        write_decoded(source, target)
    else:
        write_split(source, target, architecture, arguments.count)
    target.write_header_to_file()
    target.write_kv_data_to_file()
    target.write_tensors_to_file()
    target.close()


if __name__ == "__main__":
    main()
