"""The quantization panel does what its controls say at their least, default and most."""

import time

import numpy as np
import pytest

from lorakit_helpers.quantization import quantize
from lorakit_helpers.widgets import QuantizationPanel
from lorakit_helpers.widgets.quantization_panel import sample_weights

LAYER = np.random.default_rng(3).standard_normal((64, 64))


@pytest.fixture
def panel():
    return QuantizationPanel(LAYER)


CHANGES = [
    ("format", "int8"), ("format", "fp4"), ("block_size", 32), ("block_size", 4096), ("source", "real layer"),
    ("source", "uniform"), ("outlier", 100), ("double_quant", True),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_each_control_changes_result_picture_and_sentence_and_reset_brings_them_back(panel, name, value):
    before = (bytes(panel.image.value), panel.sentence.value)
    panel.controls[name].value = value
    chosen = {n: c.value for n, c in panel.controls.items() if n != "reset"}
    wanted = quantize(sample_weights(chosen["source"], LAYER, chosen["outlier"]), chosen["format"], chosen["block_size"],
                      chosen["double_quant"])  # fmt: skip
    assert np.array_equal(panel.result.codes, wanted.codes) and panel.result.nbytes == wanted.nbytes
    assert panel.sentence.value != before[1]
    panel.controls["reset"].click()
    assert (bytes(panel.image.value), panel.sentence.value) == before


def test_problem_is_shown_as_a_sentence():
    panel = QuantizationPanel(np.full(4096, np.nan))
    assert panel.result is not None
    panel.controls["source"].value = "real layer"
    assert panel.result is None and "nan or infinite" in panel.sentence.value


def test_redraw_is_quick(panel):
    times = []
    for size in (32, 4096) * 5:
        start = time.process_time()
        panel.controls["block_size"].value = size
        times.append(time.process_time() - start)
    assert sorted(times)[len(times) // 2] < 0.1
