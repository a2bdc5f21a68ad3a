"""Exercises of notebook 12."""

from .exercise import Exercise

__all__ = ["EXERCISES"]


def _accumulation(global_batch, gpus, each):
    steps, rest = divmod(global_batch, gpus * each)
    return None if rest or not steps else steps


EXERCISES = {
    "12.1": Exercise(
        lambda operations, tflops, share, gpus: operations / (tflops * 1e12 * share * gpus) / 3600,
        ((1e18, 100.0, 0.5, 1), (8e17, 165.2, 0.4, 2), (3.6e15, 1.0, 1.0, 1)),
        (
            ("Those are seconds: an hour has 3,600.",
             lambda operations, tflops, share, gpus: operations / (tflops * 1e12 * share * gpus)),
            ("A card that reaches half its peak takes twice as long: divide by the share.",
             lambda operations, tflops, share, gpus: operations * share / (tflops * 1e12 * gpus) / 3600),
            ("More cards take less time: divide by their number.",
             lambda operations, tflops, share, gpus: operations * gpus / (tflops * 1e12 * share) / 3600),
        ),
        ("Operations a second of all cards: tflops · 1e12 · share · gpus.",
         "operations / (tflops * 1e12 * share * gpus) / 3600"),
    ),
    "12.2": Exercise(
        lambda shared, whole, gpus: shared / gpus + whole,
        ((36.0, 6.0, 2), (36.0, 6.0, 1), (40.0, 4.5, 8), (0.0, 3.0, 4), (10.0, 1.0, 4)),
        (
            ("What a GPU needs of its own is not shared out.", lambda shared, whole, gpus: (shared + whole) / gpus),
            ("The shared part is split between the GPUs.", lambda shared, whole, gpus: shared + whole),
            ("That is all GPUs together: one of them was asked for.", lambda shared, whole, gpus: shared + whole * gpus),
            ("`//` drops the fraction: use `/`.", lambda shared, whole, gpus: shared // gpus + whole),
        ),
        ("Two parts: one shrinks with the number of GPUs, the other does not.", "shared / gpus + whole"),
    ),
    "12.3": Exercise(
        _accumulation, ((8, 2, 2), (8, 1, 2), (8, 3, 2), (16, 4, 4), (4, 4, 2), (64, 8, 1)),
        (
            ("The GPUs share an update: divide by their number, too.",
             lambda global_batch, gpus, each: None if global_batch % each else global_batch // each),
            ("It must come out even: None where rows would be left over or missing.",
             lambda global_batch, gpus, each: max(1, round(global_batch / (gpus * each)))),
            ("Too large a step is not even, either: 4 rows do not fill 4 GPUs with 2 rows each.",
             lambda global_batch, gpus, each: None if global_batch % gpus else max(1, global_batch // (gpus * each))),
            ("It must come out even: None where rows would be left over or missing.",
             lambda global_batch, gpus, each: global_batch // (gpus * each)),
        ),
        ("One round of all GPUs takes gpus · each rows.",
         "steps, rest = divmod(global_batch, gpus * each); None if rest or not steps else steps"),
    ),
}  # fmt: skip
