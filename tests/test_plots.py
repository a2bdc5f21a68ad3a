"""Plots draw what the numbers say, label their axes with units, and have a sentence that says the same."""

import json
import math
from base64 import b64decode
from functools import cache
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from lorakit_helpers.evaluation import score_tickets
from lorakit_helpers.plots import (
    describe_before_after,
    describe_training,
    figure_html,
    new_axes,
    plot_before_after,
    plot_training,
    show_figure,
)
from lorakit_helpers.tickets import INTENTS, URGENCIES, Ticket
from lorakit_helpers.training import TrainingLog

LOG = TrainingLog(40, 30, [10, 20, 30], [4.0, 1.5, 0.125], 900, 60.0, 2.25)


@cache
def scores(right: int, n: int = 20):
    rows = [Ticket(str(i), "text", {"order_id": None, "customer": None, "product": "lamp", "intent": INTENTS[i % 5],
                                    "urgency": URGENCIES[i % 3]}) for i in range(n)]  # fmt: skip
    return score_tickets([json.dumps(row.answer) if i < right else "no" for i, row in enumerate(rows)], rows)


def test_training_curve_has_the_logs_points_on_labelled_axes():
    ax = plot_training(LOG)
    assert ax.lines[0].get_xydata().tolist() == [list(point) for point in zip(LOG.steps, LOG.losses, strict=True)]
    assert "step" in ax.get_xlabel() and "nats per token" in ax.get_ylabel()
    assert ax.get_yscale() == "log" and ax.get_xlim() == (0, LOG.max_steps)


def test_plots_draw_on_the_axes_they_are_given_and_touch_no_global_state():
    import matplotlib.pyplot as plt

    before, ax = plt.get_fignums(), Figure().add_subplot()
    assert plot_training(LOG, ax=ax) is ax
    ax = Figure().add_subplot()
    assert plot_before_after(scores(3), scores(17), ax=ax) is ax
    plot_training(LOG)
    assert plt.get_fignums() == before


def test_training_sentence_has_first_and_last_loss_speed_and_memory():
    text = describe_training(LOG)
    for part in ("Step 30 of 40", "4.000 at step 10", "0.125 at step 30", f"{900 / 60:.0f} tokens/s", "2.25 GiB"):
        assert part in text


def test_log_without_losses_is_described():
    assert describe_training(TrainingLog(40, 1)) == "Step 1 of 40: no loss logged yet."


@pytest.mark.parametrize(
    "losses",
    [
        pytest.param([], id="none yet"),
        pytest.param([math.nan, math.nan], id="not a number"),
        pytest.param([0.0], id="zero"),
        pytest.param([2.0, math.nan], id="diverged"),
    ],
)
def test_log_without_a_positive_loss_can_still_be_drawn(losses):
    plot_training(TrainingLog(40, 20, [10, 20][: len(losses)], losses)).figure.savefig(BytesIO())


def test_bars_are_the_metrics_in_percent_with_their_intervals():
    before, after = scores(3), scores(17)
    ax = plot_before_after(before, after)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert "extra keys" not in names and set(names) == set(before.metrics) - {"extra keys"}
    groups = [group for group in ax.containers if isinstance(group, BarContainer)]
    for bars, side in zip(groups, (before, after), strict=True):
        assert [bar.get_width() for bar in bars] == pytest.approx([100 * side.metrics[name].value for name in names])
    lines = [segments for collection in ax.collections for segments in collection.get_segments()]
    ends = sorted((float(s[0][0]), float(s[1][0])) for s in lines)
    wanted = sorted((100 * side.metrics[n].low, 100 * side.metrics[n].high) for side in (before, after) for n in names)
    assert np.allclose(ends, wanted)
    assert "%" in ax.get_xlabel() and "20 tickets" in ax.get_xlabel() and "95 %" in ax.get_xlabel()


def test_before_and_after_differ_by_more_than_colour():
    ax = plot_before_after(scores(3), scores(17))
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["before", "after"]
    assert len({patch.get_hatch() for patch in ax.patches}) == 2


def test_chosen_names_are_drawn_in_their_order():
    ax = plot_before_after(scores(3), scores(17), names=["exact match", "intent F1"])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["exact match", "intent F1"]


@pytest.mark.parametrize(("right", "n"), [(0, 8), (8, 8), (1, 2), (1, 1)])
def test_extreme_scores_can_be_drawn(right, n):
    assert plot_before_after(scores(right, n), scores(n - right, n)).patches


def test_before_after_sentence_has_the_figures_of_the_plot():
    text = describe_before_after(scores(5), scores(16))
    assert "20 tickets" in text and "exact match from 25% to 80%" in text and "valid JSON from 25% to 80%" in text


def test_axes_have_the_size_asked_for_in_inches():
    assert new_axes(5.0, 2.0).figure.get_size_inches().tolist() == [5.0, 2.0]


def test_picture_carries_its_text_alternative_escaped():
    class Reader(HTMLParser):
        images = ()

        def handle_starttag(self, tag, attrs):
            self.images += ((tag, dict(attrs)),)

    reader = Reader()
    reader.feed(figure_html(plot_training(LOG).figure, 'loss < 1 & "falling"><script>'))
    ((tag, attributes),) = reader.images
    assert tag == "img" and attributes["alt"] == 'loss < 1 & "falling"><script>'
    head, data = attributes["src"].split(",", 1)
    assert head == "data:image/png;base64" and b64decode(data).startswith(b"\x89PNG\r\n\x1a\n")


def test_shown_figure_is_html_with_the_alternative(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    show_figure(plot_training(LOG), describe_training(LOG))
    assert "Step 30 of 40" in shown[0].data and shown[0].data.startswith("<img ")


def test_log_scale_spreads_equal_factors_equally():
    ax = plot_training(TrainingLog(3, 3, [1, 2, 3], [8.0, 4.0, 2.0]))
    heights = [ax.transData.transform((0, loss))[1] for loss in (8.0, 4.0, 2.0)]
    assert math.isclose(heights[0] - heights[1], heights[1] - heights[2], rel_tol=1e-6)
