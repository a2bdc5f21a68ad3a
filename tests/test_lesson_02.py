"""What notebook 02 adds up by hand is what the library says."""

import nbformat
import pytest

from lorakit_helpers.files import project_root

NOTEBOOK = project_root() / "notebooks" / "02_vram_math.ipynb"


@pytest.fixture(scope="module")
def said():
    """What the cells of the hand-made account print, run one after the other in one namespace."""
    sources = [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    first = next(i for i, source in enumerate(sources) if "kept = {" in source)
    last = next(i for i, source in enumerate(sources) if "by_hand = {" in source)
    lines, scope = [], {"print": lambda *words: lines.append(" ".join(map(str, words)))}
    exec("from lorakit_helpers.memory import find_model", scope)
    for source in sources[first : last + 1]:
        exec(source, scope)
    return lines


@pytest.mark.parametrize("part", ["weights", "adapters", "gradients", "optimizer", "activations", "logits"])
def test_each_part_added_up_by_hand_equals_the_estimate(said, part):
    (line,) = [line for line in said if line.startswith(part)]
    assert line.endswith("equal: True"), line
