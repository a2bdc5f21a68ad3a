"""The panel of several GPUs answers as ``shard_memory`` does at every control's least, middle and most."""

import html

import pytest

from lorakit_helpers.memory import GPUS, TrainSetup, find_model
from lorakit_helpers.plots.sharding import GROUPS, describe_sharding, plot_sharding
from lorakit_helpers.scale.sharding import PARTS, STRATEGIES, shard_memory
from lorakit_helpers.widgets import ScalePanel

INPUTS = tuple(name for name in ScalePanel().controls if name != "reset")


@pytest.fixture(scope="module")
def panel():
    return ScalePanel()


def values(control):
    options = [o[1] if isinstance(o, tuple) else o for o in getattr(control, "options", (False, True))]
    return [options[0], options[len(options) // 2], options[-1]]


def wanted(panel):
    get = {name: panel.controls[name].value for name in INPUTS}
    setup = TrainSetup(
        method=get["method"], gradient_checkpointing=True, micro_batch=get["micro_batch"], seq_len=get["seq_len"]
    )
    shape = find_model(get["model"]).shape
    return {
        name: shard_memory(shape, setup, get["gpus"], name, cpu_offload=get["cpu_offload"] and name != "ddp")
        for name in STRATEGIES
    }


@pytest.mark.parametrize("place", range(3), ids=["least", "middle", "most"])
@pytest.mark.parametrize("name", INPUTS)
def test_each_control_gives_the_functions_answer_and_reset_brings_the_start_back(panel, name, place):
    before = bytes(panel.image.value), panel.sentence.value
    panel.controls[name].value = values(panel.controls[name])[place]
    found, card = wanted(panel), GPUS[panel.controls["gpu"].value].memory_gib
    assert panel.result == found and html.escape(describe_sharding(found, card)) in panel.sentence.value
    panel.controls["reset"].click()
    assert (bytes(panel.image.value), panel.sentence.value) == before


def test_the_bars_are_the_parts_and_none_is_left_out(panel):
    assert sorted(part for parts, _, _ in GROUPS.values() for part in parts) == sorted(PARTS)
    ax = plot_sharding(panel.result, 24.0)
    for row, memory in enumerate(panel.result.values()):
        widths = [container[row].get_width() for container in ax.containers]
        assert sum(widths[:-1]) == pytest.approx(memory.total_gib) and sum(widths) == pytest.approx(memory.needed_gib)
        assert ax.texts[row].get_text() == f"{memory.needed_gib:.1f}"


def test_what_waits_in_the_computers_memory_is_said(panel):
    assert "computer" not in panel.sentence.value
    panel.controls["cpu_offload"].value = True
    most = max(memory.cpu_gib for memory in panel.result.values())
    assert f"{most:.1f} GiB wait in the computer" in panel.sentence.value
    panel.controls["reset"].click()
