"""What the base of the panels does for each of them: one redraw a change, Reset in one go, problems as sentences."""

import ipywidgets as w
import numpy as np
import pytest

from lorakit_helpers.widgets import RankPanel
from lorakit_helpers.widgets._panel import Panel, labelled

RNG = np.random.default_rng(0)


class Sums(Panel):
    """Two numbers and their sum; a negative one is a problem."""

    def __init__(self):
        self.drawn = []
        number = {"min": -9, "max": 9, **labelled(300)}
        controls = {"a": w.IntSlider(value=1, **number), "b": w.IntSlider(value=2, **number), "reset": w.Button()}
        self._wire(controls, below=[w.HTML("below")])

    def _show(self, values):
        if min(values.values()) < 0:
            raise ValueError("<b> is negative")
        self.drawn.append(values)
        self.result = values["a"] + values["b"]
        return f"the sum is {self.result}", b"picture %d" % self.result


def test_every_change_is_drawn_once_and_reset_is_one_redraw_too():
    panel = Sums()
    panel.controls["a"].value = 5
    panel.controls["b"].value = 7
    panel.controls["reset"].click()
    assert panel.drawn == [{"a": 1, "b": 2}, {"a": 5, "b": 2}, {"a": 5, "b": 7}, {"a": 1, "b": 2}]
    assert panel.result == panel.run() == 3 and "the sum is 3" in panel.sentence.value


def test_problem_is_an_escaped_sentence_without_a_picture_and_the_next_change_shows_again():
    panel = Sums()
    panel.controls["a"].value = -1
    assert panel.result is None and panel.image.layout.visibility == "hidden"
    assert "&lt;b&gt; is negative" in panel.sentence.value and "<b>" not in panel.sentence.value
    panel.controls["a"].value = 4
    assert panel.result == 6 and panel.image.layout.visibility == "visible" and panel.image.value == b"picture 6"


def test_controls_stand_above_sentence_and_picture_and_further_widgets_below():
    panel = Sums()
    assert panel.widget.children[:-1] == (*panel.controls.values(), panel.sentence, panel.image)
    assert panel.widget.children[-1].value == "below"


@pytest.mark.parametrize("rank", [3, 64])
def test_rank_follows_the_matrix_down_and_reset_brings_its_start_back(rank):
    panel = RankPanel({"large": RNG.normal(size=(64, 64)), "small": RNG.normal(size=(4, 9))}, rank=rank)
    panel.controls["matrix"].value = "small"
    assert (panel.controls["rank"].max, panel.controls["rank"].value, panel.result.rank) == (4, min(rank, 4), min(rank, 4))
    panel.controls["reset"].click()
    assert panel.controls["matrix"].value == "large" and panel.controls["rank"].max == 64
    assert panel.controls["rank"].value == panel.result.rank == rank
