"""Exercises of notebook 03."""

import math

import numpy as np

from .exercise import Exercise

__all__ = ["EXERCISES"]


def _add_in_place(w, b, a, scaling):
    w += scaling * (b @ a)
    return w


def _budget(mb, shapes, width):
    return int(mb * 1e6 // (width * sum(d_in + d_out for d_in, d_out in shapes)))


_W = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]])
_B, _A = np.array([[1.0], [0.0], [-2.0]]), np.array([[0.5, 1.0, 0.0]])
_B2, _A2 = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]]), np.array([[1.0, 0.0, 2.0], [0.0, -1.0, 1.0]])
_LLAMA = ((4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096), (4096, 14336), (4096, 14336), (14336, 4096))


EXERCISES = {
    "3.1": Exercise(
        lambda w, b, a, scaling: w + scaling * (b @ a), ((_W, _B, _A, 2.0), (_W, _B2, _A2, 0.5)),
        (
            ("That changes W itself, and the base would be lost: return a new matrix, `W + …`.", _add_in_place),
            ("The scale alpha / r is missing.", lambda w, b, a, scaling: w + b @ a),
            ("That returns the update alone; merging adds it to W.", lambda w, b, a, scaling: scaling * (b @ a)),
            ("A @ B is r × r; the update is B @ A, as large as W.", lambda w, b, a, scaling: w + scaling * (a @ b)),
        ),
        ("B is d_out × r, A is r × d_in: which product is as large as W?", "return W + scaling * (B @ A)"),
    ),
    "3.2": Exercise(
        lambda s, r: math.sqrt(sum(x * x for x in s[r:])), (([5.0, 3.0, 2.0, 1.0], 2), ([4.0, 4.0, 0.5], 1), ([2.0, 1.0], 2)),
        (
            ("That measures what is kept; the error is made of what is thrown away, s[r:].",
             lambda s, r: math.sqrt(sum(x * x for x in s[:r]))),
            ("Squares add up, not the values: take the root of the sum of squares.", lambda s, r: float(sum(s[r:]))),
            ("That is the squared error: take the root.", lambda s, r: sum(x * x for x in s[r:])),
            ("Off by one: rank r keeps s[0] … s[r-1].", lambda s, r: math.sqrt(sum(x * x for x in s[r + 1 :]))),
        ),
        ("Rank r keeps the first r singular values. What is left over?", "The root of the sum of the squares of s[r:]."),
    ),
    "3.3": Exercise(
        lambda d_in, d_out: (d_in * d_out - 1) // (d_in + d_out), ((576, 1536), (64, 64), (4096, 4096), (100, 7)),
        (
            ("That is the largest rank a matrix can have; its factors then hold more values than the matrix.", min),
            ("At that rank the factors may hold exactly as many values: fewer is asked for.",
             lambda d_in, d_out: d_in * d_out // (d_in + d_out)),
            ("Half the smaller side holds for square matrices only: compare r·(d_in + d_out) with d_in·d_out.",
             lambda d_in, d_out: min(d_in, d_out) // 2),
        ),
        ("Both factors together hold r·(d_in + d_out) values.", "The largest whole r with r·(d_in + d_out) < d_in·d_out."),
    ),
    "3.4": Exercise(
        _budget, ((3, ((576, 576), (576, 192)), 4), (50, _LLAMA * 32, 2), (50, _LLAMA * 32, 4), (20, ((2, 2),), 1)),
        (
            ("A MB is 1e6 bytes; 2**20 bytes are a MiB.",
             lambda mb, shapes, width: int(mb * 2**20 // (width * sum(i + o for i, o in shapes)))),
            ("Each value takes `width` bytes: divide by it too.",
             lambda mb, shapes, width: int(mb * 1e6 // sum(i + o for i, o in shapes))),
            ("A full matrix has in·out values; the adapter has r·(in + out).",
             lambda mb, shapes, width: int(mb * 1e6 // (width * sum(i * o for i, o in shapes)))),
            ("`mb` counts megabytes: multiply by 1e6.",
             lambda mb, shapes, width: int(mb // (width * sum(i + o for i, o in shapes)))),
            ("Round down: a larger rank's file no longer fits.",
             lambda mb, shapes, width: round(mb * 1e6 / (width * sum(i + o for i, o in shapes)))),
        ),
        ("How many bytes does rank 1 take, over all layers?", "mb * 1e6 // (width * the sum of (d_in + d_out))"),
    ),
}  # fmt: skip
