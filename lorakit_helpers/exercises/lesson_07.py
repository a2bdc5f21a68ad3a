"""Exercises of notebook 07."""

import math

from .exercise import Exercise

__all__ = ["EXERCISES"]


def _mask(ids, n):
    return [-100] * n + ids[n:]


EXERCISES = {
    "7.1": Exercise(
        lambda alpha, r: alpha / r, ((32, 32), (32, 16), (16, 64)),
        (
            ("It is upside down: alpha is divided by r.", lambda alpha, r: r / alpha),
            ("`//` drops the fraction: use `/`.", lambda alpha, r: alpha // r),
            ("alpha multiplies, r divides.", lambda alpha, r: alpha * r),
        ),
        ("LoRA adds (alpha / r) · B A x.", "return alpha / r"),
    ),
    "7.2": Exercise(
        lambda d_in, d_out, r: r * (d_in + d_out), ((576, 576, 32), (576, 192, 32), (1536, 576, 8)),
        (
            ("That is the size of the full matrix B A; LoRA stores A and B, not their product.",
             lambda d_in, d_out, r: d_in * d_out),
            ("That multiplies the two sides; A has r·d_in values and B has d_out·r: add them.",
             lambda d_in, d_out, r: r * d_in * d_out),
            ("Only one of the two matrices is counted.", lambda d_in, d_out, r: r * d_in),
            ("Only one of the two matrices is counted.", lambda d_in, d_out, r: r * d_out),
        ),
        ("A is r × d_in, B is d_out × r.", "return r * d_in + d_out * r"),
    ),
    "7.3": Exercise(
        lambda n, batch, accumulation, epochs: math.ceil(math.ceil(n / batch) / accumulation) * epochs,
        ((1000, 8, 1, 1), (1001, 8, 1, 2), (100, 4, 2, 3), (101, 4, 4, 1)),
        (
            ("A last, smaller batch is a batch too: round up, not down.",
             lambda n, batch, accumulation, epochs: n // batch // accumulation * epochs),
            ("Accumulation is missing: that many batches share one optimizer step.",
             lambda n, batch, accumulation, epochs: math.ceil(n / batch) * epochs),
            ("Epochs are missing.", lambda n, batch, accumulation, epochs: math.ceil(math.ceil(n / batch) / accumulation)),
            ("Round up for each epoch, then multiply: an epoch ends with its own last, smaller step.",
             lambda n, batch, accumulation, epochs: math.ceil(n * epochs / (batch * accumulation))),
            ("The last step of an epoch may have fewer batches: round up there, too.",
             lambda n, batch, accumulation, epochs: math.ceil(n / batch) // accumulation * epochs),
        ),
        ("First batches per epoch, then steps per epoch, then times epochs.", "math.ceil rounds up; use it twice."),
    ),
    "7.4": Exercise(
        _mask, (([5, 6, 7, 8], 2), ([1, 2, 3], 1), ([9, 9], 0)),
        (
            ("That hides the answer and trains the prompt: mask the first n, keep the rest.",
             lambda ids, n: ids[:n] + [-100] * (len(ids) - n)),
            ("The prompt was cut away; labels must be as long as the input.", lambda ids, n: ids[n:]),
            ("-100 is what the loss ignores; 0 is a real token.", lambda ids, n: [0] * n + ids[n:]),
        ),
        ("Labels are a copy of the ids in which the first n say -100.", "return [-100] * n + ids[n:]"),
    ),
}  # fmt: skip
