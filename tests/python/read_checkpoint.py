"""Prints a checkpoint as JSON: every tensor as Python's safetensors package reads it (numbers as the bits of a float64,
since decimal digits are not exact in every reader), and whether the checksum is right."""

import json
import struct
import sys
import zlib

from safetensors import safe_open

path = sys.argv[1]
with safe_open(path, framework="numpy") as file:
    tensors = {name: file.get_tensor(name) for name in file.keys()}
    description = json.loads(file.metadata()["metaadamw"])



def bits(tensor):
    return [struct.unpack("<Q", struct.pack("<d", value))[0] for value in tensor.ravel().tolist()]


with open(path, "rb") as file:
    checksum = zlib.crc32(file.read()[:-4])

json.dump(
    {
        "tensors": {name: {"shape": t.shape, "bits": bits(t)} for name, t in tensors.items()},
        "description": description,
        "checksum_is_right": bool(tensors["checksum"][0] == checksum),
    },
    sys.stdout,
)
