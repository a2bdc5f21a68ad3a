"""The ladder's picture."""

from io import BytesIO

import numpy as np
import pytest

from lorakit_helpers.evaluation import Metric, mean_metric
from lorakit_helpers.export.ladder import Rung
from lorakit_helpers.plots.export import describe_ladder, plot_ladder


def rung(name, value, size=100.0):
    kl = Metric("KL", value, 0.8 * value, 1.3 * value, 8, "made", "nats")
    share = mean_metric("share", np.array([1.0, 0.0]))
    return Rung(name, size, kl, share, share, share, 10.0, ("a", "b"), np.array([1.0, 0.0]))


def test_every_rung_but_the_reference_is_drawn_with_its_interval():
    rungs = [rung("reference", 0.0), rung("near", 0.002), rung("far", 1.5, 50.0)]
    ax = plot_ladder(rungs)
    dots = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert dots == pytest.approx([0.002, 1.5])
    ends = sorted(float(x) for c in ax.collections for segment in c.get_segments() for x in segment[:, 0])
    assert ends == pytest.approx([0.0016, 0.0026, 1.2, 1.95])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["near (100 MiB)", "far (50 MiB)"]
    assert ax.get_xscale() == "log" and "nats" in ax.get_xlabel()
    text = describe_ladder(rungs)
    assert text.index("near 0.0020 nats at 100 MiB") < text.index("far 1.5000 nats at 50 MiB") and "reference" in text


def test_a_rung_equal_to_the_reference_can_be_drawn_on_the_log_axis():
    plot_ladder([rung("reference", 0.0), rung("same", 0.0), rung("far", 0.1)]).figure.savefig(BytesIO())
    plot_ladder([rung("reference", 0.0), rung("same", 0.0)]).figure.savefig(BytesIO())
