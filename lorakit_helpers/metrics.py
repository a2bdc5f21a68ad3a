"""Metrics for any text task, by the libraries that define them, each with a 95 % interval; and what a test set can resolve.

BLEU is sacrebleu's, ROUGE rouge-score's, accuracy and F1 scikit-learn's, schema validity jsonschema's.
"""

import json
import math

import numpy as np

from .errors import LorakitError, did_you_mean
from .evaluation import CONFIDENCE, RESAMPLES, Metric, _macro_f1, check_one_each, mean_metric
from .rows import no_key_twice

__all__ = [
    "ROW_METRICS", "accuracy", "bleu", "exact_match", "f1", "resolvable_difference", "rouge", "row_scores",
    "schema_validity", "text_metrics",
]  # fmt: skip

#: What :func:`row_scores` can measure on one row at a time.
ROW_METRICS = ("exact match", "ROUGE-1", "ROUGE-2", "ROUGE-L")


def row_scores(name: str, outputs: list[str], references: list[str]) -> np.ndarray:
    """One figure from 0 to 1 per row, for :func:`~lorakit_helpers.evaluation.paired_difference`.

    Exact match compares the texts without white space at their ends. ROUGE is the F-measure; rouge-score lowers case and
    counts only runs of the letters a to z and digits as words, so other scripts and all punctuation are invisible to it.

    Args:
        name: one of :data:`ROW_METRICS`.
        outputs, references: what the model wrote and what was wanted, in the same order.

    Raises:
        LorakitError: for an unknown name, or lists that are empty or of different length.

    Example:
        >>> row_scores("ROUGE-L", ["the cat sat"], ["the cat sat down"]).round(2)
        array([0.86])
    """
    check_one_each(outputs, references, "reference")
    if name == "exact match":
        return np.array([o.strip() == r.strip() for o, r in zip(outputs, references, strict=True)], dtype=float)
    if name not in ROW_METRICS:
        raise LorakitError(
            "metric", got=repr(name), expected="one of " + ", ".join(ROW_METRICS),
            do=did_you_mean(name, ROW_METRICS, "Choose one of these.", show=repr),
        )  # fmt: skip
    from rouge_score.rouge_scorer import RougeScorer

    kind = name.replace("-", "").lower().replace("rougel", "rougeL")
    scorer = RougeScorer([kind])
    return np.array([scorer.score(r, o)[kind].fmeasure for o, r in zip(outputs, references, strict=True)])


def exact_match(outputs: list[str], references: list[str]) -> Metric:
    """Share of outputs equal to their reference, white space at the ends aside.

    Example:
        >>> exact_match(["a ", "b"], ["a", "c"]).value
        0.5
    """
    return mean_metric("exact match", row_scores("exact match", outputs, references))


def rouge(outputs: list[str], references: list[str], kind: str = "L") -> Metric:
    """Mean ROUGE F-measure (Lin 2004): shared words (``kind="1"``), word pairs (``"2"``), or longest common subsequence.

    See :func:`row_scores` for what counts as a word.
    """
    name = f"ROUGE-{kind}"
    return mean_metric(name, row_scores(name, outputs, references))


def bleu(outputs: list[str], references: list[str]) -> Metric:
    """Corpus BLEU from 0 to 100 (Papineni et al. 2002) with sacrebleu's defaults.

    BLEU is no mean over rows: n-gram counts and lengths are summed over the corpus first. So the interval resamples rows
    and sums their counts again (Koehn 2004, "Statistical significance tests for machine translation evaluation").

    Example:
        >>> print(bleu(["the cat sat on the mat"], ["the cat sat on the mat"]))
        BLEU 100.0 of 100 [100.0, 100.0]
    """
    from sacrebleu.metrics import BLEU

    check_one_each(outputs, references, "reference")
    scorer = BLEU()
    value = scorer.corpus_score(outputs, [references]).score
    scored = [BLEU(effective_order=True).sentence_score(o, [r]) for o, r in zip(outputs, references, strict=True)]
    counts = np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in scored])
    rng, n = np.random.default_rng(0), len(counts)
    sums = np.stack([counts[rng.integers(0, n, n)].sum(0) for _ in range(RESAMPLES)])
    scores = [BLEU.compute_bleu([*s[:4]], [*s[4:8]], *s[8:], smooth_method="exp").score for s in sums.tolist()]
    low, high = np.quantile(scores, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Metric("BLEU", value, min(float(low), value), max(float(high), value), n, "bootstrap, percentile", "of 100")


def accuracy(outputs: list, labels: list) -> Metric:
    """Share of right labels: scikit-learn's ``accuracy_score``, with an interval.

    Example:
        >>> accuracy(["refund", "cancel"], ["refund", "refund"]).value
        0.5
    """
    check_one_each(outputs, labels, "label")
    return mean_metric("accuracy", np.array([o == x for o, x in zip(outputs, labels, strict=True)], dtype=float))


def f1(outputs: list[str], labels: list[str]) -> Metric:
    """Macro F1: the F1 of every label that occurs in ``labels``, all with the same weight.

    An output that is no label counts as wrong for the row's label.
    """
    check_one_each(outputs, labels, "label")
    return _macro_f1("macro F1", np.array(labels, dtype=object), np.array(outputs, dtype=object))


def schema_validity(outputs: list[str], schema: dict) -> Metric:
    """Share of outputs that are one JSON value valid under a JSON Schema (draft 2020-12); a key named twice is not valid.

    Example:
        >>> schema_validity(['{"a": 1}', "{a: 1}"], {"type": "object"}).value
        0.5
    """
    from jsonschema import Draft202012Validator

    check_one_each(outputs, outputs, "output")
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)

    def valid(text):
        try:
            value = json.loads(text, object_pairs_hook=no_key_twice, parse_constant=_refuse)
        except (ValueError, RecursionError):
            return False
        return validator.is_valid(value)

    return mean_metric("valid under the schema", np.array([valid(text) for text in outputs], dtype=float))


def _refuse(word):
    raise ValueError(f"{word} is not JSON")


def text_metrics(outputs: list[str], references: list[str]) -> dict[str, Metric]:
    """Exact match, BLEU and the three ROUGEs of one set of outputs, by name."""
    found = {"exact match": exact_match(outputs, references), "BLEU": bleu(outputs, references)}
    return found | {f"ROUGE-{kind}": rouge(outputs, references, kind) for kind in "12L"}


def resolvable_difference(n: int, rate: float, *, discordance: float | None = None, power: float = 0.8) -> float:
    """The smallest difference between two shares that a paired test of ``n`` rows finds 8 times in 10.

    Normal approximation of McNemar's test (Connor 1987, "Sample size for testing differences in proportions for the
    paired-sample design"): with a share ``psi`` of rows on which the two models differ, a difference ``d`` needs
    ``n = (z_a * sqrt(psi) + z_b * sqrt(psi - d**2))**2 / d**2`` rows, where z_a = 1.96 (two-sided, 5 %) and z_b = 0.84.

    The exact test of :func:`~lorakit_helpers.evaluation.verdict` is more careful and finds such a difference a
    little less often (75 to 79 times in 100 in simulations of 50 to 600 rows).

    Args:
        n: rows of the test set.
        rate: the first model's share of right answers, 0 to 1. The other is looked for on the side with more room.
        discordance: ``psi``, if known; at least ``d`` by nature. None takes two models that err independently,
            ``psi = p * (1 - q) + q * (1 - p)``: careful, since models of one family err on the same rows more often.
        power: how often the difference should be found.

    Returns:
        The difference as a share (0.1 is ten points); ``inf`` where ``n`` rows cannot show even the largest possible.

    Raises:
        LorakitError: for a value out of range.

    Example:
        >>> [round(resolvable_difference(n, 0.6), 2) for n in (20, 150, 1000)]
        [0.45, 0.16, 0.06]
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    _check("n", n, n >= 1 and n == int(n), "a whole number of at least 1", "the number of test rows")
    _check("rate", rate, 0 <= rate <= 1, "a share from 0 to 1", "0.6")
    _check("discordance", discordance, discordance is None or 0 < discordance <= 1, "None or a share above 0", "0.2")
    _check("power", power, 0.05 < power < 1, "a share above 0.05 and below 1", "0.8")
    z_a, z_b = norm.ppf((1 + CONFIDENCE) / 2), norm.ppf(power)
    room = max(rate, 1 - rate)

    def differ(d):
        if discordance is not None:
            return discordance
        q = rate + d if rate <= 0.5 else rate - d
        return rate * (1 - q) + q * (1 - rate)

    def lacking(d):
        psi = differ(d)
        return d * math.sqrt(n) - z_a * math.sqrt(psi) - z_b * math.sqrt(max(psi - d * d, 0.0))

    most = room if discordance is None else min(room, discordance)
    # at a rate of 0 or 1 nothing lacks at a difference of exactly 0, where it is no answer
    return math.inf if lacking(most) < 0 else float(brentq(lacking, 1e-9, most))


def _check(name, value, right, expected, example):
    if not right:
        raise LorakitError(name, got=repr(value), expected=expected, do=f"For example {name}={example}.")
