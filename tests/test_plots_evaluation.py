"""Bars of any number of models, and the curve of what a test set can show."""

from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.container import BarContainer

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.evaluation import mean_metric
from lorakit_helpers.metrics import resolvable_difference
from lorakit_helpers.plots.evaluation import MOST, describe_resolvable, describe_shares, plot_resolvable, plot_shares


def some(n, models):
    """So many models with three metrics each, all different."""
    rng = np.random.default_rng(n)
    return {
        f"model {i}": {name: mean_metric(name, (rng.random(30) < 0.2 + 0.15 * i).astype(float)) for name in ("a", "b", "c")}
        for i in range(models)
    }


@pytest.mark.parametrize("models", range(1, MOST + 1))
def test_every_model_has_its_bars_with_their_ends(models):
    groups = some(models, models)
    ax = plot_shares(groups, of="probes")
    bars = [group for group in ax.containers if isinstance(group, BarContainer)]
    for drawn, metrics in zip(bars, groups.values(), strict=True):
        assert [bar.get_width() for bar in drawn] == pytest.approx([100 * m.value for m in metrics.values()])
    ends = sorted(float(point[0]) for c in ax.collections for segment in c.get_segments() for point in segment)
    wanted = [100 * end for metrics in groups.values() for m in metrics.values() for end in (m.low, m.high)]
    assert ends == pytest.approx(sorted(wanted))
    assert "probes" in ax.get_xlabel() and "95 %" in ax.get_xlabel()


def test_bars_do_not_overlap_and_models_differ_by_more_than_colour():
    ax = plot_shares(some(7, MOST))
    spans = sorted((bar.get_y(), bar.get_y() + bar.get_height()) for bar in ax.patches)
    assert all(end <= start + 1e-9 for (_, end), (start, _) in pairwise(spans))
    assert len({bar.get_hatch() for bar in ax.patches}) == MOST == len(ax.get_legend().get_texts())


@pytest.mark.parametrize("models", [0, MOST + 1])
def test_a_fifth_model_is_refused_rather_than_left_out(models):
    with pytest.raises(LorakitError, match=f"expected 1 to {MOST}, got {models}"):
        plot_shares(some(1, models))


def test_sentence_has_every_figure():
    groups = some(3, 2)
    text = describe_shares(groups, names=["c"])
    for name, metrics in groups.items():
        m = metrics["c"]
        assert f"{name}: c {m.value:.0%} [{m.low:.0%}, {m.high:.0%}]" in text
    assert " a " not in text


def test_curve_and_sentence_are_the_functions_figures():
    rows = [20, 100, 1000]
    ax = plot_resolvable(0.6, rows, marked=100)
    found = [100 * resolvable_difference(n, 0.6) for n in rows]
    assert ax.lines[0].get_ydata() == pytest.approx(found)
    assert ax.lines[1].get_xydata().ravel().tolist() == pytest.approx([100, found[1]])
    text = describe_resolvable(0.6, rows)
    assert all(f"{n} rows {value:.0f} points" in text for n, value in zip(rows, found, strict=True))
    ax.figure.savefig(BytesIO())


def test_few_rows_can_show_nothing_and_are_drawn_all_the_same():
    assert "inf" in describe_resolvable(0.5, [1])
    plot_resolvable(0.5, [1, 20], marked=1).figure.savefig(BytesIO())
