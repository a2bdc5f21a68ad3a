"""A max_length is weighed as plain counting says; its picture, sentence and panel show just that."""

import time

import numpy as np
import pytest

from lorakit_helpers.data import length_choice
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.memory import TrainSetup, estimate, find_model
from lorakit_helpers.plots.lengths import describe_lengths, plot_lengths, plot_padding
from lorakit_helpers.widgets import LengthPanel
from lorakit_helpers.widgets.memory_panel import METHODS

RNG = np.random.default_rng(5)
ANSWERS = RNG.integers(20, 60, 200).tolist()
LENGTHS = [a + int(p) for a, p in zip(ANSWERS, RNG.integers(30, 150, 200), strict=True)]
DATA = {"tickets": (LENGTHS, ANSWERS), "short": ([40, 50, 60], [5, 10, 20])}


def test_answers_are_counted_as_whole_cut_in_part_or_lost():
    for limit in (40, 90, 128, 500):
        kept = [min(a, max(0, limit - (n - a))) for n, a in zip(LENGTHS, ANSWERS, strict=True)]
        choice = length_choice(LENGTHS, ANSWERS, limit)
        assert choice.answers_whole == sum(k == a for k, a in zip(kept, ANSWERS, strict=True))
        assert choice.cost.answers_lost == sum(k == 0 for k in kept)
        assert choice.answers_cut_in_part == sum(0 < k < a for k, a in zip(kept, ANSWERS, strict=True))


def test_time_is_the_rectangles_over_the_speed_and_memory_is_of_the_widest_batch():
    setup = TrainSetup(method="lora", r=4)
    choice = length_choice(LENGTHS, ANSWERS, 128, batch_size=8, model="Qwen3-4B", setup=setup, tokens_per_s=50.0)
    cut = np.minimum(LENGTHS, 128).reshape(25, 8)
    assert choice.epoch_s == pytest.approx(8 * cut.max(1).sum() / 50)
    assert choice.epoch_sorted_s == pytest.approx(8 * np.sort(cut.ravel()).reshape(25, 8).max(1).sum() / 50)
    assert choice.memory == estimate(find_model("Qwen3-4B").shape, setup.but(micro_batch=8, seq_len=128))
    assert length_choice(LENGTHS, ANSWERS, 9000).memory == length_choice(LENGTHS, ANSWERS, max(LENGTHS)).memory
    assert length_choice(LENGTHS, ANSWERS, 128).epoch_s is None


@pytest.mark.parametrize(
    ("arguments", "options", "word"),
    [
        (([5, 6], [1], 4), {}, "answer_lengths"),
        (([5], [6], 4), {}, "answer_lengths"),
        (([5], [0], 4), {}, "answer_lengths"),
        (([5], [1], 0), {}, "max_length"),
        (([5], [1], 4), {"tokens_per_s": 0.0}, "tokens_per_s"),
        (([5], [1], 4), {"model": "Llama-9"}, "Llama-9"),
        (([], [], 4), {}, "lengths"),
    ],
)
def test_what_cannot_be_is_refused_by_name(arguments, options, word):
    with pytest.raises(LorakitError, match=word):
        length_choice(*arguments, **options)


@pytest.mark.parametrize("limit", [60, 128, 203])
def test_histogram_holds_every_row_on_its_side_of_the_line(limit):
    ax = plot_lengths(LENGTHS, limit)
    whole, cut = (patch.get_data() for patch in ax.patches)
    assert whole.values.sum() == pytest.approx(100 * np.mean(np.array(LENGTHS) <= limit))
    assert cut.values.sum() == pytest.approx(100 * np.mean(np.array(LENGTHS) > limit))
    assert list(ax.lines[0].get_xdata()) == [limit, limit]
    assert "tokens" in ax.get_xlabel() and "%" in ax.get_ylabel()


def test_bars_of_padding_are_what_is_computed_for_a_hundred_tokens_of_text():
    choice = length_choice(LENGTHS, ANSWERS, 128, batch_size=8)
    ax = plot_padding(choice)
    cut = np.minimum(LENGTHS, 128)
    batches = [8 * rows.reshape(25, 8).max(1).sum() for rows in (cut, np.sort(cut))]
    wanted = [100 * n / cut.sum() for n in (*batches, 128 * choice.cost.sequences_packed)]
    assert [100 + bar.get_width() for bar in ax.containers[1]] == pytest.approx(wanted)
    assert [float(text.get_text()) for text in ax.texts] == pytest.approx([w - 100 for w in wanted], abs=0.051)


def test_sentence_carries_the_figures():
    choice = length_choice(LENGTHS, ANSWERS, 128, batch_size=8, tokens_per_s=50.0)
    said = describe_lengths(choice, "tickets")
    assert said.startswith("tickets, max_length 128: ") and f"{choice.cost.rows_cut} of 200 rows" in said
    assert f"{choice.memory.needed_gib:.2f} GiB" in said and f"{choice.epoch_s:.0f} s" in said
    assert "tokens/s" not in describe_lengths(length_choice(LENGTHS, ANSWERS, 128))


@pytest.fixture
def panel():
    return LengthPanel(DATA, max_length=128, tokens_per_s=50.0)


CHANGES = [
    ("rows", "short"), ("max_length", 32), ("max_length", "most"), ("batch_size", 1), ("batch_size", 64),
    ("model", "SmolLM2-135M"), ("method", "full fine-tuning, fp32"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_each_control_changes_result_and_sentence_and_reset_brings_them_back(panel, name, value):
    before = (bytes(panel.image.value), panel.sentence.value)
    panel.controls[name].value = panel.controls[name].max if value == "most" else value
    get = {n: c.value for n, c in panel.controls.items() if n != "reset"}
    wanted = length_choice(
        *DATA[get["rows"]], get["max_length"], batch_size=get["batch_size"], model=get["model"],
        setup=TrainSetup(**METHODS[get["method"]]), tokens_per_s=50.0,
    )  # fmt: skip
    assert panel.result == wanted and panel.sentence.value != before[1]
    assert (bytes(panel.image.value) != before[0]) == (name not in ("model", "method"))
    panel.controls["reset"].click()
    assert (bytes(panel.image.value), panel.sentence.value) == before


def test_slider_reaches_the_longest_row_of_any_data_set(panel):
    assert panel.controls["max_length"].max >= max(LENGTHS) > panel.controls["max_length"].max - 8


def test_problem_is_shown_as_a_sentence_without_a_picture():
    panel = LengthPanel({"fine": ([5, 90], [1, 2]), "empty answers": ([5], [9])})
    panel.controls["rows"].value = "empty answers"
    assert panel.result is None and "answer_lengths" in panel.sentence.value and panel.image.layout.visibility == "hidden"


def test_redraw_is_quick():
    panel, times = LengthPanel({"many": (LENGTHS * 8, ANSWERS * 8)}), []
    for limit in (64, 128) * 4:
        start = time.process_time()
        panel.controls["max_length"].value = limit
        times.append(time.process_time() - start)
    assert sorted(times)[len(times) // 2] < 0.06  # 0.016 on a quiet machine
