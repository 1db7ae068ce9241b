"""Checksums of blocks of quantised elements as the package gguf widens them, for checkpoint/blocks.rs.  usage: gguf_blocks.py

Each block is bytes of a linear congruential generator, with the numbers in f16 replaced by plausible ones."""
import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as T
from gguf.quants import dequantize

HALVES = {T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
          T.Q8_0: [0], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q4_0: [0], T.Q4_1: [0, 2]}

for kind, halves in HALVES.items():
    state, block = 7, bytearray()
    for _ in range(GGML_QUANT_SIZES[kind][1]):
        state = (state * 1664525 + 1013904223) % 2**32
        block.append(state >> 24)
    for i, at in enumerate(halves):
        block[at:at + 2] = np.float16(0.0123 * (i + 1)).tobytes()
    elements = dequantize(np.frombuffer(bytes(block) * 2, np.uint8).reshape(1, -1), kind)
    checksum = 0xCBF29CE484222325
    for byte in elements.astype("<f4").tobytes():
        checksum = (checksum ^ byte) * 0x100000001B3 % 2**64
    print(kind.name, f"{checksum:#018x}")
