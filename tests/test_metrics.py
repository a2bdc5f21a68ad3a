"""Text metrics are their libraries' own, their intervals hold what they say, and the resolvable difference is resolved."""

import math

import numpy as np
import pytest

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.metrics import (
    accuracy,
    bleu,
    exact_match,
    f1,
    resolvable_difference,
    rouge,
    row_scores,
    schema_validity,
    text_metrics,
)

WORDS = ["please", "send", "the", "red", "lamp", "back", "to", "us", "within", "a", "week", "and", "we", "will", "refund"]


@pytest.fixture(scope="module")
def texts():
    """60 random (output, reference) pairs, some outputs empty, some equal to their reference."""
    rng = np.random.default_rng(3)
    references = [" ".join(rng.choice(WORDS, rng.integers(5, 20))) for _ in range(60)]
    outputs = []
    for i, text in enumerate(references):
        words = [w if rng.random() < 0.8 else str(rng.choice(WORDS)) for w in text.split()]
        outputs.append("" if i % 20 == 7 else text if i % 5 == 0 else " ".join(words[: rng.integers(3, 21)]))
    return outputs, references


def test_bleu_is_sacrebleus_corpus_bleu(texts):
    import sacrebleu

    assert bleu(*texts).value == sacrebleu.corpus_bleu(texts[0], [texts[1]]).score


def test_bleus_interval_agrees_with_sacrebleus_own_bootstrap(texts):
    from sacrebleu.metrics import BLEU

    theirs = BLEU().corpus_score(texts[0], [texts[1]], n_bootstrap=2000)
    ours = bleu(*texts)
    assert (ours.high - ours.low) / 2 == pytest.approx(theirs._ci, rel=0.1)
    assert (ours.high + ours.low) / 2 == pytest.approx(theirs._mean, abs=0.1 * theirs._ci)


@pytest.mark.parametrize("kind", ["1", "2", "L"])
def test_rouge_is_the_mean_of_rouge_scores_f_measure(texts, kind):
    from rouge_score.rouge_scorer import RougeScorer

    key = f"rouge{kind}"
    scorer = RougeScorer([key])
    expected = [scorer.score(target=r, prediction=o)[key].fmeasure for o, r in zip(*texts, strict=True)]
    metric = rouge(*texts, kind)
    assert metric.value == pytest.approx(np.mean(expected)) and metric.low < metric.value < metric.high


def test_accuracy_and_f1_are_scikit_learns():
    from sklearn.metrics import accuracy_score, f1_score

    rng = np.random.default_rng(0)
    labels = rng.choice(["refund", "cancel", "question"], 80, p=[0.6, 0.3, 0.1]).tolist()
    outputs = [x if rng.random() < 0.7 else str(rng.choice(["refund", "cancel", "nonsense"])) for x in labels]
    assert accuracy(outputs, labels).value == pytest.approx(accuracy_score(labels, outputs))
    names = sorted(set(labels))
    assert f1(outputs, labels).value == pytest.approx(f1_score(labels, outputs, labels=names, average="macro"))


def test_exact_match_forgives_white_space_at_the_ends_and_nothing_else():
    assert row_scores("exact match", [" a b\n", "a  b", "A b"], ["a b"] * 3).tolist() == [1, 0, 0]


def test_schema_validity_counts_what_a_strict_reader_accepts():
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
    outputs = ['{"a": 1}', '{"a": "1"}', '{"a": 1, "b": 2}', '{"a": 1} done', "", '{"a": NaN}', '{"a": 1, "a": 2}', "[" * 99999]
    assert schema_validity(outputs, schema).value == 1 / len(outputs)


def test_every_metric_refuses_lists_of_different_length_and_empty_ones():
    for metric in (exact_match, bleu, rouge, accuracy, f1, text_metrics):
        with pytest.raises(LorakitError, match="1 outputs for 2"):
            metric(["a"], ["a", "b"])
        with pytest.raises(LorakitError, match="at least one"):
            metric([], [])


def test_an_unknown_metric_is_answered_with_the_nearest():
    with pytest.raises(LorakitError, match="Did you mean 'ROUGE-L'"):
        row_scores("RUGE-L", ["a"], ["a"])


def test_a_metrics_interval_covers_the_truth_about_nineteen_times_in_twenty():
    rng = np.random.default_rng(1)
    right = rng.random((150, 80)) < 0.7
    metrics = [exact_match(["y" if x else "n" for x in row], ["y"] * 80) for row in right]
    assert 0.89 <= np.mean([m.low <= 0.7 <= m.high for m in metrics]) <= 0.99


@pytest.mark.parametrize(("n", "rate"), [(100, 0.5), (150, 0.8), (600, 0.3)])
@pytest.mark.parametrize("together", [0.0, 0.5])
def test_the_resolvable_difference_is_found_8_times_in_10_in_simulated_tests(n, rate, together):
    """Two models drawn row by row: with probability ``together`` both fail or pass by one coin, else by two of their own."""
    rng = np.random.default_rng(5)

    def draw(d, size):
        q = rate + d if rate <= 0.5 else rate - d
        coin, own = rng.random(size), np.where(rng.random(size) < together, 2.0, rng.random(size))
        return coin < rate, np.where(own == 2.0, coin, own) < q

    def differing(d):
        first, second = draw(d, 400_000)
        return float((first != second).mean())

    d = resolvable_difference(n, rate)
    for _ in range(0 if together == 0 else 6):  # the discordance depends on the difference, and the difference on it
        d = resolvable_difference(n, rate, discordance=differing(d))
    first, second = draw(d, (4000, n))
    won, lost = (~first & second).sum(1), (first & ~second).sum(1)
    significant = np.abs(won - lost) > 1.959964 * np.sqrt(won + lost)  # McNemar's test without correction
    assert significant.mean() == pytest.approx(0.8, abs=0.04)


def test_more_rows_resolve_less_and_models_that_fail_together_less_still():
    by_n = [resolvable_difference(n, 0.7) for n in (20, 50, 150, 500, 5000)]
    assert by_n == sorted(by_n, reverse=True)
    assert resolvable_difference(150, 0.7, discordance=0.1) < resolvable_difference(150, 0.7)
    assert resolvable_difference(150, 0.2) == pytest.approx(resolvable_difference(150, 0.8))


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_beside_a_model_that_is_never_or_always_right_the_smallest_difference_is_still_one_that_is_found(rate):
    from scipy.stats import binom

    for n in (24, 150, 600):
        d = resolvable_difference(n, rate)  # all that differs goes one way: won or lost, significant from 4 on
        assert 0 < d < 1 and binom.sf(3, n, d) > 0.8


def test_too_few_rows_resolve_nothing():
    assert resolvable_difference(3, 0.5) == math.inf
    assert resolvable_difference(10, 0.5, discordance=0.2) == math.inf


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"n": 2.5}, {"rate": 1.2}, {"rate": math.nan}, {"discordance": 0.0}, {"power": 1.0}]
)
def test_values_out_of_range_are_named(wrong):
    with pytest.raises(LorakitError, match=next(iter(wrong))):
        resolvable_difference(**{"n": 100, "rate": 0.5} | wrong)
