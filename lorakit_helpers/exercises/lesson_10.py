"""Exercises of notebook 10."""

import math

import numpy as np

from .exercise import Exercise

__all__ = ["EXERCISES"]


def _kl(p, q):
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True) if x > 0)


_W = np.array([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
_A, _B = np.array([[1.0, 0.0, 2.0]]), np.array([[0.5], [-1.0]])
_A2, _B2 = np.array([[1.0, 2.0], [0.0, 1.0]]), np.array([[1.0, 0.0], [3.0, -2.0]])

EXERCISES = {
    "10.1": Exercise(
        lambda w, a, b, alpha, r: w + alpha / r * b @ a,
        ((_W, np.vstack([_A, [[0.0, 1.0, 0.0]]]), np.hstack([_B, [[1.0], [2.0]]]), 4, 2), (_W[:, :2], _A2, _B2, 2.0, 2),
         (np.eye(2), _A2, _B2, 8, 2), (_W, _A, _B, 4, 1)),
        (
            ("The scale is missing: the update is (alpha / r) B A.", lambda w, a, b, alpha, r: w + b @ a),
            ("alpha over r, not r over alpha.", lambda w, a, b, alpha, r: w + r / alpha * b @ a),
            ("The base's weight is missing: merging adds the update to W.", lambda w, a, b, alpha, r: alpha / r * b @ a),
            ("alpha is divided by r: the update is (alpha / r) B A.", lambda w, a, b, alpha, r: w + alpha * b @ a),
        ),
        ("B A has the shape of W: (out × r) times (r × in).", "w + alpha / r * b @ a"),
    ),
    "10.2": Exercise(
        _kl, (([0.5, 0.5], [0.25, 0.75]), ([1.0, 0.0], [0.5, 0.5]), ([0.2, 0.8], [0.2, 0.8]), ([0.9, 0.1], [0.6, 0.4])),
        (
            ("That is KL(q || p): the weights in the sum are p's.", lambda p, q: _kl(q, p) if all(p) else math.inf),
            ("In nats, so the natural logarithm: math.log, not log2.", lambda p, q: _kl(p, q) / math.log(2)),
            ("That is the cross-entropy: subtract p's own entropy, or divide inside the logarithm.",
             lambda p, q: -sum(x * math.log(y) for x, y in zip(p, q, strict=True))),
            ("The sign is turned: KL is never negative; divide p by q inside the logarithm.", lambda p, q: -_kl(p, q)),
            ("Where p is 0 the term is 0: leave it out, its logarithm does not exist.",
             lambda p, q: sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))),
        ),
        ("sum over p(v) · log(p(v) / q(v))", "sum(x * math.log(x / y) for x, y in zip(p, q) if x > 0)"),
    ),
    "10.3": Exercise(
        lambda params, bits: params * bits / 8 / 1e6,
        ((135_000_000, 16), (8_030_261_248, 4.9), (1_000_000, 8)),
        (
            ("Those are megabits: 8 bits are a byte.", lambda params, bits: params * bits / 1e6),
            ("Those are MiB: MB is 1e6 bytes here.", lambda params, bits: params * bits / 8 / 2**20),
            ("That is GB: MB is 1e6 bytes.", lambda params, bits: params * bits / 8 / 1e9),
            ("Those are bytes: a MB is 1e6 of them.", lambda params, bits: params * bits / 8),
        ),
        ("Bits to bytes, bytes to MB.", "params * bits / 8 / 1e6"),
    ),
    "10.4": Exercise(
        lambda ids, eos, limit: bool(ids) and ids[-1] == eos and len(ids) <= limit,
        (([5, 6, 2], 2, 3), ([5, 6, 7], 2, 3), ([], 2, 3), ([5, 2, 6], 2, 9), ([1, 1, 1, 2], 2, 3), ([2], 2, 5)),
        (
            ("`eos` must be the last token; an answer that goes on after it did not stop.",
             lambda ids, eos, limit: eos in ids and len(ids) <= limit),
            ("An answer that is shorter than the limit may still lack `eos`: look at its last token.",
             lambda ids, eos, limit: 0 < len(ids) < limit),
            ("Mind the limit: an answer longer than it was not ended by the model in time.",
             lambda ids, eos, limit: bool(ids) and ids[-1] == eos),
            ("An answer of exactly `limit` tokens that ends with `eos` still stopped by itself.",
             lambda ids, eos, limit: bool(ids) and ids[-1] == eos and len(ids) < limit),
        ),
        ("Three things: not empty, ends with eos, not too long.", "bool(ids) and ids[-1] == eos and len(ids) <= limit"),
    ),
}  # fmt: skip
