"""Exercises of notebook 04."""

import numpy as np

from .exercise import Exercise

__all__ = ["EXERCISES"]


def _bits(block_size):
    return 4 + 32 / block_size


def _double(block_size, nested):
    return 4 + 8 / block_size + 32 / (block_size * nested)


def _nearest(x, levels):
    return min(range(len(levels)), key=lambda i: abs(levels[i] - x))


EXERCISES = {
    "4.1": Exercise(
        _bits, ((64,), (32,), (4096,)),
        (
            ("The 32-bit constant is shared by the block: divide it by block_size.", lambda block_size: 4 + 32),
            ("That is the constant's share alone; the code's 4 bits are missing.", lambda block_size: 32 / block_size),
            ("The constant is a float32: 32 bits, not 16.", lambda block_size: 4 + 16 / block_size),
        ),
        ("Every block stores block_size codes of 4 bits and one float32.", "return 4 + 32 / block_size"),
    ),
    "4.2": Exercise(
        _double, ((64, 256), (32, 256), (128, 64)),
        (
            ("A float32 per block is still there: double quantization replaces it by 8 bits.",
             lambda block_size, nested: 4 + 32 / block_size + 8 / (block_size * nested)),
            ("The second-level float32 is shared by nested blocks of block_size weights: divide by both.",
             lambda block_size, nested: 4 + 8 / block_size + 32 / nested),
            ("The second-level float32 is missing.", lambda block_size, nested: 4 + 8 / block_size),
        ),
        ("Three stores: codes, 8-bit constants, and a float32 per group of constants.",
         "return 4 + 8 / block_size + 32 / (block_size * nested)"),
    ),
    "4.3": Exercise(
        _nearest, ((0.3, [-1.0, 0.0, 0.5, 1.0]), (-0.9, [-1.0, 0.0, 0.5, 1.0]), (0.1, [-1.0, 0.0, 0.5, 1.0])),
        (
            ("That is the level; the code is its index.", lambda x, levels: min(levels, key=lambda v: abs(v - x))),
            ("Compare distances without their sign: abs(level - x).",
             lambda x, levels: min(range(len(levels)), key=lambda i: levels[i] - x)),
            ("That is the farthest level: take the smallest distance.",
             lambda x, levels: max(range(len(levels)), key=lambda i: abs(levels[i] - x))),
            ("That is the distance; the code is the index of the nearest level.",
             lambda x, levels: min(abs(v - x) for v in levels)),
            ("That is the next level above; the one below may be nearer.",
             lambda x, levels: int(np.searchsorted(levels, x))),
        ),
        ("For every index, how far is levels[i] from x?", "min(range(len(levels)), key=lambda i: abs(levels[i] - x))"),
    ),
    "4.4": Exercise(
        lambda quantized, other, bits: (quantized * bits / 8 + other * 2) / 1e9,
        ((6_476_005_376, 262_410_240, 4.127), (1_000_000_000, 0, 4.5), (0, 500_000_000, 4.5)),
        (
            ("Everything is counted at 4 bits; embeddings and the output layer stay at 2 bytes.",
             lambda quantized, other, bits: (quantized + other) * bits / 8 / 1e9),
            ("Those are gigabits: 8 bits make a byte.", lambda quantized, other, bits: (quantized * bits + other * 16) / 1e9),
            ("That is GiB (2**30); GB is 1e9 bytes.",
             lambda quantized, other, bits: (quantized * bits / 8 + other * 2) / 2**30),
            ("16 bits are 2 bytes: divide both parts by 8.",
             lambda quantized, other, bits: (quantized * bits / 8 + 16 * other) / 1e9),
        ),
        ("Two parts: quantized weights at `bits`, the others at 16.", "(quantized * bits / 8 + other * 2) / 1e9"),
    ),
}  # fmt: skip
