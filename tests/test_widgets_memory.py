"""The memory panel answers as ``plan`` does at every control's least, default and most, and says what is wrong."""

import html
import time

import pytest

from lorakit_helpers.lowrank.adapter import TARGETS
from lorakit_helpers.memory import CATALOGUE, GPUS, TrainSetup, find_model, plan
from lorakit_helpers.widgets import MemoryPanel
from lorakit_helpers.widgets.memory_panel import METHODS, fit_sentence, ladder_html

INPUTS = tuple(name for name in MemoryPanel().controls if name != "reset")


@pytest.fixture(scope="module")
def panel():
    return MemoryPanel()


@pytest.fixture(autouse=True)
def afresh(panel):
    yield
    panel.controls["reset"].click()


def values(control):
    """Least, middle and most of a control."""
    options = [o[1] if isinstance(o, tuple) else o for o in getattr(control, "options", (False, True))]
    return [options[0], options[len(options) // 2], options[-1]]


def wanted(panel):
    """What ``plan`` says about what the controls show."""
    get = {name: panel.controls[name].value for name in INPUTS}
    model, card, targets = get.pop("model"), get.pop("gpu"), get.pop("targets")
    setup = TrainSetup(**METHODS[get.pop("method")], target_modules=TARGETS[targets], **get)
    return plan(find_model(model).shape, GPUS[card].memory_gib, setup)


@pytest.mark.parametrize("place", range(3), ids=["least", "middle", "most"])
@pytest.mark.parametrize("name", INPUTS)
def test_each_control_gives_plans_answer_and_reset_brings_the_start_back(panel, name, place):
    before = bytes(panel.image.value), panel.sentence.value, panel.ladder.value
    panel.controls[name].value = values(panel.controls[name])[place]
    found = wanted(panel)
    assert panel.result == found and html.escape(fit_sentence(found)) in panel.sentence.value
    assert panel.ladder.value == ladder_html(found)
    panel.controls["reset"].click()
    assert (bytes(panel.image.value), panel.sentence.value, panel.ladder.value) == before


@pytest.mark.parametrize("method", METHODS)
def test_rank_and_targets_are_off_where_there_is_no_adapter(panel, method):
    panel.controls["method"].value = method
    assert panel.controls["r"].disabled == panel.controls["targets"].disabled == method.startswith("full")


def test_a_rank_above_the_layer_is_said_in_a_sentence_and_a_smaller_one_mends_it(panel):
    panel.controls["model"].value = "SmolLM2-135M"
    panel.controls["r"].value = 512
    assert panel.result is None and panel.ladder.value == ""
    assert "rank: expected a whole number from 1 to 192" in panel.sentence.value and "k_proj" in panel.sentence.value
    panel.controls["r"].value = 64
    assert panel.result is not None and "GiB" in panel.sentence.value


def test_every_model_and_card_can_be_chosen(panel):
    assert list(panel.controls["model"].options) == list(CATALOGUE)
    assert [name for _, name in panel.controls["gpu"].options] == list(GPUS)


def test_sentence_says_fits_by_how_much_and_the_first_change():
    shape = find_model("Llama-3.1-8B").shape
    small, large = plan(shape, 11.7, micro_batch=4, seq_len=1024), plan(shape, 79.0, micro_batch=4, seq_len=1024)
    assert fit_sentence(small).startswith("Does not fit: ") and f"Change first: {small.changes[0].action}." in fit_sentence(
        small
    )
    assert fit_sentence(large).startswith("Fits: ") and f"rank {large.largest['r']}" in fit_sentence(large)
    assert ladder_html(large) == "" and ladder_html(small).count("<tr>") == 1 + len(small.changes)


def test_where_nothing_helps_the_sentence_says_so():
    assert "smaller model or a larger card" in fit_sentence(plan(find_model("Llama-2-70B").shape, 8.0))


def test_unknown_model_or_card_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"Llama-3\.1-8B"):
        MemoryPanel("Lama-3.1-8B")
    with pytest.raises(ValueError, match="RTX 3060"):
        MemoryPanel(gpu="RTX 3061")


def test_redraw_is_quick(panel):
    times = []
    for size in (1, 64) * 10:
        start = time.process_time()
        panel.controls["micro_batch"].value = size
        times.append(time.process_time() - start)
    assert sorted(times)[len(times) // 2] < 0.05
