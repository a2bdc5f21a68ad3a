"""Pictures of memory draw the numbers they are given, tell parts apart without colour, and say the same in words."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from lorakit_helpers.memory import MemoryEstimate, TrainSetup, estimate, find_model
from lorakit_helpers.memory.result import PARTS
from lorakit_helpers.plots.figures import png_bytes
from lorakit_helpers.plots.memory import (
    describe_memory,
    describe_predictions,
    describe_timeline,
    move_memory,
    plot_memory,
    plot_predictions,
    plot_timeline,
)

BARS = {m: estimate(find_model("Llama-2-7B").shape, TrainSetup(method=m)) for m in ("full", "lora", "qlora")}
#: before the step, up to a peak of 5, down again, and a last fall when the step is over
LINE = (("before", 1.0), ("forward", 2.0), ("forward", 4.0), ("loss", 5.0), ("backward", 3.0), ("optimizer step", 2.0),
        ("optimizer step", 0.5))  # fmt: skip
SIMULATED = MemoryEstimate(2, 0, 0, 0, 3, 0, "loss", {"forward": 4.0, "loss": 5.0}, how="simulation", timeline=LINE)
POINTS = {"lora": [(10.0, 11.0), (20.0, 20.0)], "qlora": [(5.0, 3.0)]}


def widths(ax):
    return {c.get_label(): [bar.get_width() for bar in c] for c in ax.containers}


def test_each_bar_is_made_of_its_parts_end_to_end():
    ax = plot_memory(BARS)
    drawn = widths(ax)
    assert list(drawn) == list(PARTS)
    for i, e in enumerate(BARS.values()):
        assert [drawn[part][i] for part in PARTS] == pytest.approx(list(e.parts.values()))
        last = ax.containers[-1][i]
        assert last.get_x() + last.get_width() == pytest.approx(e.total_gib)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(BARS) and "GiB" in ax.get_xlabel()


def test_parts_differ_in_hatch_as_well_as_colour():
    ax = plot_memory(BARS["full"])
    assert len({c[0].get_hatch() for c in ax.containers}) == len({c[0].get_facecolor() for c in ax.containers}) == len(PARTS)


def test_with_a_card_the_allowance_is_drawn_and_the_card_marked():
    e = BARS["qlora"]
    ax = plot_memory(e, gpu_gib=12, most_gib=24)
    box = ax.containers[-1][0]
    assert box.get_x() + box.get_width() == pytest.approx(e.needed_gib)
    assert list(ax.lines[0].get_xdata()) == [12, 12] and ax.get_xlim() == (0, 24)
    assert ax.texts[0].get_text() == f"{e.needed_gib:.2f}"


def test_a_bar_longer_than_the_axis_says_how_long_it_is_inside_the_axis():
    ax = plot_memory(BARS["full"], gpu_gib=12, most_gib=24)
    assert ax.texts[0].get_text() == f"{BARS['full'].needed_gib:,.1f} →" and ax.texts[0].get_position()[0] < 24


def test_moving_the_bars_equals_drawing_them_anew():
    anew, moved = (Figure(figsize=(6, 2)).add_subplot() for _ in range(2))
    plot_memory(BARS["qlora"], ax=anew, gpu_gib=12, most_gib=24)
    plot_memory(BARS["full"], ax=moved, gpu_gib=80, most_gib=160)
    changed = move_memory(moved, BARS["qlora"], gpu_gib=12, most_gib=24)
    assert widths(moved) == widths(anew) and png_bytes(moved.figure) == png_bytes(anew.figure)
    assert set(changed) >= {bar for container in moved.containers for bar in container}


def test_sentence_names_total_place_and_large_parts_largest_first():
    text = describe_memory({"a": BARS["qlora"]})
    e = BARS["qlora"]
    assert text.startswith(f"a: {e.total_gib:.2f} GiB (peak: {e.peak_at})")
    assert f"weights {e.weights_gib:.2f}" in text and text.index("weights") < text.index("activations")
    assert "adapters" not in text and "a: " not in describe_memory(e)


def test_timeline_draws_the_step_without_what_is_before_and_after():
    ax = plot_timeline(SIMULATED)
    assert ax.lines[0].get_ydata().tolist() == [2, 4, 5, 3, 2]
    assert ax.lines[1].get_ydata() == [5.0] and "GiB" in ax.get_ylabel()
    labels = [text.get_text() for text in ax.texts]
    assert labels[0] == "peak 5.00 GiB" and labels[1:] == ["forward", "loss", "backward", "optimizer step"]


def test_timeline_sentence_has_start_phases_and_peak():
    text = describe_timeline(SIMULATED)
    assert "starts at 2.00 GiB" in text and "forward 4.00, loss 5.00" in text and "5.00 GiB falls in the loss" in text


def test_predictions_lie_at_measured_and_predicted_with_a_marker_for_each_group():
    ax = plot_predictions(POINTS)
    groups = {line.get_label(): line for line in ax.lines[1:]}
    assert {name: [tuple(p) for p in line.get_xydata()] for name, line in groups.items()} == POINTS
    assert len({line.get_marker() for line in groups.values()}) == len(groups)
    assert ax.get_xlim() == ax.get_ylim() and "GB" in ax.get_xlabel() and "GB" in ax.get_ylabel()


def test_predictions_sentence_has_median_and_worst_error():
    text = describe_predictions(POINTS)
    assert "lora: 2 rows, median error 5.0%, worst +10.0%" in text and "qlora: 1 row, median error 40.0%, worst -40.0%" in text


def test_every_plot_draws_on_the_axes_it_is_given():
    for draw, given in ((plot_memory, BARS), (plot_timeline, SIMULATED), (plot_predictions, POINTS)):
        ax = Figure().add_subplot()
        assert draw(given, ax=ax) is ax


def test_a_step_of_one_phase_can_be_drawn():
    plot_timeline(replace(SIMULATED, timeline=(("forward", 1.0),))).figure.canvas.draw()
