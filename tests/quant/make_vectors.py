"""Records data/dequantize.bin: random blocks of every quantised type and what the `gguf` package decodes them to.

Little-endian, for each type:  u32 type id | u32 blocks | u32 bytes of a block | the blocks
                               | f32 values of the first block | u64 FNV-1a of each block's f32 bytes
Run it with no arguments where `gguf` and `numpy` are installed (tests/requirements.txt).
"""
import struct
from pathlib import Path

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

OUT = Path(__file__).parent / "data" / "dequantize.bin"

# Enough blocks that each type's random indices reach nearly all of its points.
BLOCKS = {
    Type.F16: 8, Type.BF16: 8,
    Type.Q4_0: 16, Type.Q4_1: 16, Type.Q5_0: 16, Type.Q5_1: 16, Type.Q8_0: 16,
    Type.IQ4_NL: 16, Type.MXFP4: 64,
    Type.Q2_K: 12, Type.Q3_K: 12, Type.Q4_K: 12, Type.Q5_K: 12, Type.Q6_K: 12, Type.IQ4_XS: 12,
    Type.IQ2_XXS: 64, Type.IQ2_XS: 96, Type.IQ2_S: 192, Type.IQ3_XXS: 32, Type.IQ3_S: 64,
    Type.IQ1_S: 384, Type.IQ1_M: 96,
}

# Offsets of the half-precision factors, which are made finite.
HALVES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.IQ4_NL: [0], Type.MXFP4: [], Type.IQ1_M: [],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
    Type.F16: [0], Type.BF16: [],
}


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def random_blocks(rng, quant_type, count, size):
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    for offset in HALVES.get(quant_type, [0]):
        # Clearing the exponent's top bit keeps all magnitudes below 2; small ones are denormal.
        blocks[:, offset + 1] &= 0xBF
    if quant_type == Type.BF16:
        blocks[:, 1] &= 0xBF
    if quant_type == Type.MXFP4:
        blocks[:, 0] = 4 * np.arange(count)  # all but the exponents that overflow
        blocks[1, 0] = 1
    if quant_type == Type.IQ1_M:
        blocks[:, 55] &= 0xBF  # the top bits of d
    return blocks


def main():
    rng = np.random.default_rng(20)
    with OUT.open("wb") as out:
        for quant_type, count in BLOCKS.items():
            size = GGML_QUANT_SIZES[quant_type][1]
            blocks = random_blocks(rng, quant_type, count, size)
            values = dequantize(blocks, quant_type).astype("<f4").reshape(count, -1)
            assert np.isfinite(values).all(), quant_type
            out.write(struct.pack("<III", quant_type, count, size) + blocks.tobytes() + values[0].tobytes())
            for row in values:
                out.write(struct.pack("<Q", fnv1a(row.tobytes())))
    print(f"{OUT.name}: {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
