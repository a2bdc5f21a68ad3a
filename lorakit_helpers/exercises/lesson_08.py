"""Exercises of notebook 08."""

import math

from .exercise import Exercise

__all__ = ["EXERCISES"]


def _split(wanted, fits):
    batch = max(b for b in range(1, min(wanted, fits) + 1) if wanted % b == 0)
    return batch, wanted // batch


def _rate(step, warmup, total, peak, *, rising=True, after=True, half=0.5):
    if rising and step < warmup:
        return peak * step / warmup
    done = (step - warmup) / (total - warmup) if after else step / total
    return peak * half * (1 + math.cos(math.pi * done))


def _quarter(step, warmup, total, peak):
    return peak * step / warmup if step < warmup else peak * math.cos(math.pi / 2 * (step - warmup) / (total - warmup))


def _mean_loss(batches):
    return sum(loss * tokens for loss, tokens in batches) / sum(tokens for _, tokens in batches)


def _largest_rank(budget, layers):
    return budget // sum(wide + high for wide, high in layers)


def _half_width(differences, *, factor=None, free=1, root=True, share=0.975, degrees=None):
    from scipy.stats import t

    n = len(differences)
    mean = sum(differences) / n
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - free))
    return (factor or float(t.ppf(share, degrees or n - 1))) * spread / (math.sqrt(n) if root else 1)


EXERCISES = {
    "8.1": Exercise(
        _split, ((8, 3), (16, 16), (12, 5), (32, 100), (7, 4)),
        (
            ("batch × accumulation must be `wanted` exactly: take a batch that divides it.",
             lambda wanted, fits: (fits, math.ceil(wanted / fits))),
            ("Rounded down, the update has fewer rows than `wanted`: take a batch that divides it.",
             lambda wanted, fits: (min(wanted, fits), max(1, wanted // fits))),
            ("One row at a time always fits, and takes longest: find the largest batch.", lambda wanted, fits: (1, wanted)),
        ),
        ("Which batches divide `wanted`? Which of them fit?",
         "batch = max(b for b in range(1, min(wanted, fits) + 1) if wanted % b == 0), and accumulation = wanted // batch."),
    ),
    "8.2": Exercise(
        _rate, ((0, 10, 100, 1.0), (5, 10, 100, 2e-3), (10, 10, 100, 1.0), (55, 10, 100, 1.0), (80, 0, 120, 1e-4)),
        (
            ("The warm-up is missing: before it is over, the rate rises as step / warmup.",
             lambda *a: _rate(*a, rising=False)),
            ("The cosine begins when the warm-up is over: use (step - warmup) / (total - warmup).",
             lambda *a: _rate(*a, after=False)),
            ("At the end of the warm-up the rate must be `peak`: 1 + cos goes from 2 to 0, so halve it.",
             lambda *a: _rate(*a, half=1.0)),
            ("Half a cosine: (1 + cos(π · done)) / 2 is flat at both ends, a quarter of one is not.", _quarter),
            ("The zero comes at step == total, one after the last update.",
             lambda step, warmup, total, peak: _rate(step, warmup, total - 1, peak)),
        ),
        ("Two parts: up to `warmup` a straight line from 0 to `peak`; then half a cosine from `peak` to 0.",
         "done = (step - warmup) / (total - warmup); peak * 0.5 * (1 + math.cos(math.pi * done))"),
    ),
    "8.3": Exercise(
        _mean_loss, (([(2.0, 10), (1.0, 30)],), ([(0.5, 7)],), ([(3.0, 1), (1.0, 1), (0.0, 98)],)),
        (
            ("That is the mean of means: a token of a short answer counts more than one of a long answer.",
             lambda batches: sum(loss for loss, _ in batches) / len(batches)),
            ("That is the sum over all tokens: divide by their number.",
             lambda batches: sum(loss * tokens for loss, tokens in batches)),
            ("Divide by the number of tokens, not of batches.",
             lambda batches: sum(loss * tokens for loss, tokens in batches) / len(batches)),
        ),
        ("A mean loss times its tokens is the sum over them.", "Add the sums, add the tokens, divide."),
    ),
    "8.4": Exercise(
        _largest_rank, ((10_000, [(576, 576), (576, 192)]), (1_000_000, [(576, 1536)] * 3), (1920, [(576, 576), (576, 192)])),
        (
            ("That counts a full update, in × out: LoRA's A has r × in values, B has out × r.",
             lambda budget, layers: budget // sum(wide * high for wide, high in layers)),
            ("A and B both count: r · in and r · out.", lambda budget, layers: budget // sum(wide for wide, _ in layers)),
            ("Round down: one rank more is over the budget.",
             lambda budget, layers: math.ceil(budget / sum(wide + high for wide, high in layers))),
            ("Round down: one rank more is over the budget.",
             lambda budget, layers: round(budget / sum(wide + high for wide, high in layers))),
        ),
        ("What does one rank cost in one layer? And in all of them?", "budget // sum(wide + high for wide, high in layers)"),
    ),
    "8.5": Exercise(
        _half_width, (([0.1, 0.2, 0.3],), ([-0.05, 0.01, 0.02, -0.03],), ([1.0, 1.5],)),
        (
            ("1.96 is for large samples; a few seeds need Student's t: scipy.stats.t.ppf(0.975, n - 1).",
             lambda d: _half_width(d, factor=1.959963984540054)),
            ("Divide the squares by n - 1: the mean was estimated from the same seeds.", lambda d: _half_width(d, free=0)),
            ("That is how far single seeds spread; their mean spreads by √n less.", lambda d: _half_width(d, root=False)),
            ("1.96 is for large samples; a few seeds need Student's t: scipy.stats.t.ppf(0.975, n - 1).",
             lambda d: _half_width(d, factor=1.96)),
            ("95 % in the middle leaves 2.5 % on each side: ppf(0.975, …).", lambda d: _half_width(d, share=0.95)),
            ("That is the whole width: half of it is asked for.", lambda d: 2 * _half_width(d)),
            ("n differences have n - 1 degrees of freedom.", lambda d: _half_width(d, degrees=len(d))),
        ),
        ("t · s / √n, with s the standard deviation over n - 1.",
         "t = scipy.stats.t.ppf(0.975, len(differences) - 1); statistics.stdev(differences) is s."),
    ),
}  # fmt: skip
