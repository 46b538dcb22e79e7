"""The GGUF container's primitives, for the tools that write such files byte by byte.

A file is: header, key/value pairs, tensor table, then the tensors' data, each at an aligned offset.
"""
import struct

import numpy as np

# Value types of the container.
U32, I32, F32, BOOL, STRING, ARRAY, U64 = 4, 5, 6, 7, 8, 9, 10

_SCALAR_FORMAT = {U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q"}
_ARRAY_DTYPE = {U32: "<u4", I32: "<i4", F32: "<f4"}


def string(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def array(element_type, values):
    head = struct.pack("<IQ", element_type, len(values))
    if element_type == STRING:
        return head + b"".join(string(value) for value in values)
    return head + np.asarray(values, dtype=_ARRAY_DTYPE[element_type]).tobytes()


def key_value(key, value_type, value):
    """One metadata pair; an array's value is (element type, values)."""
    head = string(key) + struct.pack("<I", value_type)
    if value_type == STRING:
        return head + string(value)
    if value_type == ARRAY:
        return head + array(*value)
    return head + struct.pack(_SCALAR_FORMAT[value_type], value)


def tensor_info(name, dims, type_id, offset):
    """One row of the tensor table; dims start with the contiguous one."""
    packed_dims = b"".join(struct.pack("<Q", dim) for dim in dims)
    return (string(name) + struct.pack("<I", len(dims)) + packed_dims
            + struct.pack("<IQ", type_id, offset))


def header(num_tensors, key_values):
    return b"GGUF" + struct.pack("<IQQ", 3, num_tensors, len(key_values)) + b"".join(key_values)


def align(size, alignment):
    return (size + alignment - 1) // alignment * alignment


def pad(file, alignment):
    """Fill the open file with zeros up to the next multiple of alignment."""
    file.write(b"\0" * (-file.tell() % alignment))


def byte_characters():
    """The printable character that stands for each byte in a byte-level BPE vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = {byte: chr(byte) for byte in printable}
    others = (byte for byte in range(256) if byte not in characters)
    characters.update({byte: chr(256 + i) for i, byte in enumerate(others)})
    return characters
