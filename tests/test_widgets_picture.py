"""Panels that repaint only what moves show the same as a whole drawing, whatever was shown before."""

from io import BytesIO
from itertools import pairwise

import matplotlib.image
import numpy as np
import pytest

from lorakit_helpers.widgets import LoRAPanel, MemoryPanel, QuantizationPanel, RankPanel, ScalePanel

RNG = np.random.default_rng(0)
MATRICES = {"square": RNG.normal(size=(20, 20)), "wide": RNG.normal(size=(30, 120)), "zeros": np.zeros((8, 8))}
MAKE = {
    "rank": lambda: RankPanel(MATRICES),
    "lora": LoRAPanel,
    "quantization": lambda: QuantizationPanel(RNG.normal(size=(64, 64))),
    "memory": MemoryPanel,
    "scale": ScalePanel,
}
CHANGES = {
    "rank": [("rank", 20), ("matrix", "wide"), ("rank", 0), ("matrix", "zeros"), ("matrix", "square"), ("rank", 11)],
    "lora": [("r", 128), ("model", "SmolLM2-135M"), ("r", 1), ("targets", "q and v"), ("model", "Llama-3.3-70B"), ("r", 4)],
    "quantization": [("format", "int8"), ("outlier", 100), ("block_size", 4096), ("format", "fp4"), ("block_size", 32)],
    "memory": [
        ("r", 64),
        ("gpu", "RTX 4090"),
        ("micro_batch", 8),
        ("model", "SmolLM2-135M"),
        ("gpu", "RTX 3060 12 GB"),
        ("r", 4),
    ],
    "scale": [
        ("gpus", 4),
        ("gpu", "RTX 3060 12 GB"),
        ("micro_batch", 4),
        ("model", "Llama-3.1-8B"),
        ("gpu", "RTX 4090"),
        ("gpus", 1),
    ],
}


def pixels(panel):
    return matplotlib.image.imread(BytesIO(panel.image.value), format="png")


def picture_of(panel):
    return panel._pictures[panel.controls["matrix"].value] if isinstance(panel, RankPanel) else panel._picture


@pytest.mark.parametrize("name", MAKE)
def test_picture_depends_on_the_controls_only_not_on_what_was_shown_before(name):
    used, direct = MAKE[name](), MAKE[name]()
    for control, value in CHANGES[name]:
        used.controls[control].value = value
    for control, value in dict(CHANGES[name]).items():
        direct.controls[control].value = value
    assert used.sentence.value == direct.sentence.value and used.image.value == direct.image.value


@pytest.mark.parametrize("name", MAKE)
def test_repainted_picture_is_the_whole_drawing_of_its_figure(name):
    panel = MAKE[name]()
    for control, value in CHANGES[name]:
        panel.controls[control].value = value
        picture = picture_of(panel)
        for artist in picture.moving:
            artist.set_animated(False)
        whole = BytesIO()
        picture.moving[0].figure.savefig(whole, format="png", dpi=110)
        for artist in picture.moving:
            artist.set_animated(True)
        drawn = matplotlib.image.imread(BytesIO(whole.getvalue()), format="png")[..., :3]
        differs = np.abs(drawn - pixels(panel)).max(axis=2) > 0.02
        assert drawn.shape == pixels(panel).shape and differs.mean() < 0.01, (control, value)


@pytest.mark.parametrize("name", MAKE)
def test_every_change_of_picture_is_seen(name):
    panel = MAKE[name]()
    seen = [panel.image.value]
    for control, value in CHANGES[name]:
        panel.controls[control].value = value
        seen.append(panel.image.value)
    assert all(a != b for a, b in pairwise(seen))


def test_problem_takes_the_picture_of_other_controls_away_until_it_is_solved():
    panel = LoRAPanel("SmolLM2-135M")
    panel.controls["r"].value = 256  # above the 192 rows of the small model's k_proj
    assert panel.result is None and panel.image.layout.visibility == "hidden" and "192" in panel.sentence.value
    panel.controls["r"].value = 128
    assert panel.result is not None and panel.image.layout.visibility == "visible"
