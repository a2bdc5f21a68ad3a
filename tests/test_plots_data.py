"""The picture of the harm shows each difference where it is, and its sentence says the same."""

import numpy as np
import pytest

from lorakit_helpers.evaluation import paired_difference
from lorakit_helpers.plots.data import describe_harm, plot_harm

CLEAN = np.linspace(0.1, 0.9, 40)
SHIFTS = {"noisy": 0.2, "same": 0.0, "lucky": -0.3}


@pytest.fixture(scope="module")
def harm():
    wobble = np.tile([0.02, -0.02], 20)
    return [
        paired_difference(name, CLEAN, CLEAN + shift + wobble, unit="nats per token", lower_is_better=True)
        for name, shift in SHIFTS.items()
    ]


def test_each_mark_stands_at_its_difference_with_its_interval(harm):
    ax = plot_harm(harm)
    for place, (difference, container) in enumerate(zip(harm, ax.containers, strict=True)):
        mark, _, (bar,) = container
        assert mark.get_xydata()[0] == pytest.approx([difference.difference, place])
        assert bar.get_segments()[0][:, 0] == pytest.approx([difference.low, difference.high])
    assert [label.get_text() for label in ax.get_yticklabels()] == list(SHIFTS)
    assert "nats per token" in ax.get_xlabel() and "40 held-out tickets" in ax.get_xlabel()


def test_evidence_is_told_by_word_and_filling_not_by_colour_alone(harm):
    ax = plot_harm(harm)
    assert [text.get_text() for text in ax.texts] == ["worse", "no evidence", "better"]
    hollow = [container[0].get_markerfacecolor() == "white" for container in ax.containers]
    assert hollow == [False, True, False]


def test_sentence_names_every_difference_and_what_it_is_worth(harm):
    said = describe_harm(harm)
    assert "noisy +0.200" in said and "lucky -0.300" in said
    assert [said.count(word) for word in ("worse", "no evidence", "better")] == [1, 1, 1]
