"""Exercises of notebook 09."""

import math

from .exercise import Exercise

__all__ = ["EXERCISES"]


def _general(task_rows, share):
    return round(task_rows * share / (1 - share))


def _perplexity(nlls):
    every = [x for row in nlls for x in row]
    return math.exp(sum(every) / len(every))


def _macro_f1(truth, guess, labels=None):
    labels = sorted(set(truth)) if labels is None else labels
    found = []
    for label in labels:
        pairs = [(t == label, g == label) for t, g in zip(truth, guess, strict=True)]
        right, missed, false = (pairs.count(pair) for pair in ((True, True), (True, False), (False, True)))
        found.append(2 * right / (2 * right + missed + false))
    return sum(found) / len(found)


def _recall(truth, guess):
    labels = sorted(set(truth))
    hits = [sum(t == g == label for t, g in zip(truth, guess, strict=True)) / truth.count(label) for label in labels]
    return sum(hits) / len(hits)


def _precision(truth, guess):
    labels = sorted(set(truth))
    hits = [sum(t == g == label for t, g in zip(truth, guess, strict=True)) / max(1, guess.count(label)) for label in labels]
    return sum(hits) / len(hits)


def _sign_test(wins, losses, sides=2, most=1.0, first=None):
    n, first = wins + losses, max(wins, losses) if first is None else first
    return min(most, sides * sum(math.comb(n, k) for k in range(first, n + 1)) / 2**n)


def _longest_run(output, source):
    best = 0
    for i in range(len(output)):
        for j in range(len(source)):
            n = 0
            while i + n < len(output) and j + n < len(source) and output[i + n] == source[j + n]:
                n += 1
            best = max(best, n)
    return best


def _subsequence(a, b):
    if not a or not b:
        return 0
    return _subsequence(a[1:], b[1:]) + 1 if a[0] == b[0] else max(_subsequence(a[1:], b), _subsequence(a, b[1:]))


def _common_start(a, b):
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


_LABELS = (["refund", "refund", "cancel", "shipping"], ["refund", "cancel", "cancel", "exchange"])

EXERCISES = {
    "9.1": Exercise(
        _general, ((160, 0.25), (1000, 0.1), (90, 0.5), (64, 0.0), (7, 0.3), (100, 0.3)),
        (
            ("That is a share of the task rows; `share` is of the whole mixture, general rows included.",
             lambda task, share: round(task * share)),
            ("That is the size of the whole mixture: subtract the task rows.", lambda task, share: round(task / (1 - share))),
            ("Divide by 1 - share, what the task rows are of the whole.",
             lambda task, share: round(task * share / (1 + share))),
            ("Round to the nearest whole number, not down.", lambda task, share: int(task * share / (1 - share))),
        ),
        ("With g general rows, share = g / (g + task_rows). Solve for g.", "round(task_rows * share / (1 - share))"),
    ),
    "9.2": Exercise(
        _perplexity, (([[0.0, 2.0], [1.0, 1.0, 4.0]],), ([[0.5]],), ([[3.0], [0.1] * 9],)),
        (
            ("That is the loss, in nats: perplexity is `exp` of it.", lambda nlls: math.log(_perplexity(nlls))),
            ("That averages rows: a token of a short answer counts more. Put all tokens together first.",
             lambda nlls: math.exp(sum(sum(row) / len(row) for row in nlls) / len(nlls))),
            ("Average first, then `exp`: the mean of exp(x) is more than exp of the mean.",
             lambda nlls: sum(math.exp(x) for row in nlls for x in row) / sum(map(len, nlls))),
        ),
        ("One mean over all tokens of all rows, then one `exp`.",
         "every = [x for row in nlls for x in row]; math.exp(sum(every) / len(every))"),
    ),
    "9.3": Exercise(
        _macro_f1, (_LABELS, (["a", "a", "a", "b"], ["a", "a", "b", "b"]), (["a"], ["(invalid)"]), (["a", "b"], ["a", "b"]),
                    (["a", "a", "a", "b", "c"], ["a", "b", "b", "b", "a"])),
        (
            ("That is accuracy, in which frequent labels count more: take one F1 per label, then their mean.",
             lambda truth, guess: sum(t == g for t, g in zip(truth, guess, strict=True)) / len(truth)),
            ("Only labels that occur in `truth` count; a guess that is none of them is a miss already.",
             lambda truth, guess: _macro_f1(truth, guess, sorted({*truth, *guess}))),
            ("That is recall: false guesses of a label (FP) cost it, too.", _recall),
            ("That is precision: rows of a label that were missed (FN) cost it, too.", _precision),
            ("Every label counts once, however often it occurs: average over set(truth).",
             lambda truth, guess: _macro_f1(truth, guess, sorted(truth))),
        ),
        ("For each label in set(truth): count TP, FP and FN over the pairs.",
         "tp = sum(t == g == label for t, g in zip(truth, guess)); f1 = 2 * tp / (truth.count(label) + guess.count(label))"),
    ),
    "9.4": Exercise(
        _sign_test, ((9, 1), (3, 3), (0, 6), (14, 6), (0, 0)),
        (
            ("That looks in one direction only: a split as uneven the other way would have surprised you as much.",
             lambda wins, losses: _sign_test(wins, losses, sides=1)),
            ("A p-value is at most 1: an even split is counted from both sides.",
             lambda wins, losses: _sign_test(wins, losses, most=2.0)),
            ("That is this very split alone: add those that are more uneven.",
             lambda wins, losses: min(1.0, 2 * math.comb(wins + losses, wins) / 2 ** (wins + losses))),
            ("Start from the larger of `wins` and `losses`.", lambda wins, losses: _sign_test(wins, losses, first=wins)),
            ("At least as uneven includes this very split.",
             lambda wins, losses: _sign_test(wins, losses, first=max(wins, losses) + 1)),
        ),
        ("Of the 2ⁿ ways n coins can fall, math.comb(n, k) show k heads. Which k are at least as uneven?",
         "n = wins + losses; min(1, 2 * sum(math.comb(n, k) for k in range(max(wins, losses), n + 1)) / 2**n)"),
    ),
    "9.5": Exercise(
        _longest_run,
        (([1, 2, 3, 9], [7, 1, 2, 3, 4]), ([1, 5, 2, 6, 3], [1, 2, 3]), ([4, 4, 4], [4, 4]), ([], [1]), ([8, 1], [1, 8]),
         ([1, 1, 2], [1, 1, 1, 2])),
        (
            ("Tokens in between break a run: that is the longest common subsequence, as ROUGE-L counts it.",
             lambda a, b: _subsequence(tuple(a), tuple(b))),
            ("A run may begin anywhere in both: that compares the beginnings only.", _common_start),
            ("That counts shared tokens, in any order and place: the run must be unbroken.",
             lambda a, b: len(set(a) & set(b))),
        ),
        ("For every place in `output` and every place in `source`: how far do they agree from there?",
         "Two loops over i and j, and `while output[i + n] == source[j + n]` within both lists; keep the largest n."),
    ),
}  # fmt: skip
