"""Claims are judged by comparisons, kept whole, and shown in one table that names what is missing."""

import ast
import json

import nbformat
import numpy as np
import pytest

from lorakit_helpers.claims import CLAIMS, VERDICTS, Claim, claim, claims_table, not_judged, read_claims, verdict_on
from lorakit_helpers.course import find_notebooks
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.lessons import LESSONS


def calls(path):
    """All calls of ``claim(...)`` in a notebook's code."""
    code = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    return [
        node
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "claim" and node.args
    ]


def given(call, name, position=None):
    """An argument's syntax tree, by position or name; None when it is not given."""
    if position is not None and len(call.args) > position:
        return call.args[position]
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def test_the_claims_are_1_to_17_in_order_and_each_has_a_lesson():
    numbers = [int(one.number[1:]) for one in CLAIMS]
    assert numbers == sorted(numbers) and set(numbers) == set(range(1, 18))
    assert {one.lesson for one in CLAIMS} <= {lesson.stem[:2] for lesson in LESSONS}
    assert len({one.stem for one in CLAIMS}) == len(CLAIMS)


@pytest.mark.parametrize("holds", [True, False, np.bool_(True), np.bool_(False)])
@pytest.mark.parametrize("caveat", ["", "only here"])
def test_a_verdict_follows_from_comparison_and_caveat(holds, caveat):
    assert verdict_on(holds, caveat) == (VERDICTS[bool(caveat)] if holds else "out of date")


@pytest.mark.parametrize("holds", ["holds", 1, 0, None, [], 0.5])
def test_a_verdict_that_is_said_instead_of_computed_is_refused_and_leaves_nothing(holds, tmp_path):
    with pytest.raises(LorakitError, match="expected True or False"):
        claim("C8", holds, "131,072", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_figure_that_cannot_judge_is_kept_with_its_reason_and_no_verdict(tmp_path):
    kept = not_judged("C15", "1.5 ×", why="a CPU, the claim means GPUs", part="speed", folder=tmp_path)
    assert str(kept).endswith("NOT JUDGED HERE (a CPU, the claim means GPUs). Computed: 1.5 ×.")
    assert read_claims(tmp_path) == [kept] and "*not judged here* | 1.5 × | a CPU" in claims_table(tmp_path)
    for figure, why in (("1.5 ×", " "), ("", "a CPU")):
        with pytest.raises(LorakitError, match="C15"):
            not_judged("C15", figure, why=why, part="speed", folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_claim_is_one_line_that_carries_number_verdict_figure_and_caveat(tmp_path):
    line = str(claim("C2", True, "4 ×", caveat="with AdamW", folder=tmp_path))
    assert line.startswith("C2, training needs") and "\n" not in line
    assert "HOLDS WITH A CAVEAT (with AdamW). Computed: 4 ×." in line


@pytest.mark.parametrize(
    ("number", "part", "told"),
    [("C18", "", "C1 to C17"), ("C5", "", "full, fp32"), ("C5", "QLora", "QLoRA"), ("C8", "x", "Leave part= out")],
)
def test_unknown_claims_are_refused_with_what_to_do(number, part, told, tmp_path):
    with pytest.raises(LorakitError, match="claim") as caught:
        claim(number, True, "1", part=part, folder=tmp_path)
    assert told in str(caught.value) and list(tmp_path.iterdir()) == []


def test_a_claim_needs_a_figure(tmp_path):
    with pytest.raises(LorakitError, match="figure"):
        claim("C8", True, "  ", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_recorded_is_read_back_in_the_claims_order_and_the_last_word_counts(tmp_path):
    claim("C10", True, "1.03 %", folder=tmp_path)
    claim("C5", False, "90 GB", part="full, fp32", folder=tmp_path)
    judged = claim("C5", True, "84 GB", part="full, fp32", folder=tmp_path)
    found = read_claims(tmp_path)
    assert [str(one.claim) for one in found] == ["C5, full, fp32", "C10"] and found[0] == judged
    assert found[1].to_dict()["claim"]["number"] == "C10"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"verdict": "true", "figure": "1", "caveat": ""}', "\xff"])
def test_a_damaged_record_counts_as_missing(text, tmp_path):
    claim("C8", True, "131,072", folder=tmp_path)
    (tmp_path / "C8.json").write_bytes(text.encode("latin-1"))
    assert read_claims(tmp_path) == []
    assert "run notebook 03" in claims_table(tmp_path)


def test_the_table_has_a_row_for_every_claim_and_names_the_missing_ones_with_their_notebook(tmp_path):
    claim("C1", True, "28.0 GB", caveat="a | b <i> `c`", folder=tmp_path)
    table = claims_table(tmp_path)
    rows = [line for line in table.splitlines() if line.startswith("| C")]
    assert (
        len(rows) == len(CLAIMS)
        and "| *holds with a caveat* | 28.0 GB | a \\| b \\<i> \\`c\\` | [02](02_vram_math.ipynb) |" in rows[0]
    )
    for row, one in zip(rows[1:], CLAIMS[1:], strict=True):
        assert f"| not yet | run notebook {one.lesson} |" in row and row.startswith(f"| {one.number} |")
    assert table.endswith(f"1 of {len(CLAIMS)} verdicts; the others come from notebook 02, 03, 04, 05, 10, 12.")


def test_a_full_table_names_nothing_missing(tmp_path):
    for one in CLAIMS:
        claim(one.number, True, "1", part=one.part, folder=tmp_path)
    table = claims_table(tmp_path)
    assert "not yet" not in table and table.endswith(f"{len(CLAIMS)} of {len(CLAIMS)} verdicts.")


def test_records_of_the_smoke_profile_stay_apart(tmp_path, monkeypatch):
    from lorakit_helpers import start

    (tmp_path / "data" / "tickets").mkdir(parents=True)
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path))
    monkeypatch.setattr(start, "_started", None)
    start.start("smoke")
    claim("C8", True, "131,072")
    start.start("cpu")
    claim("C8", False, "another")
    kept = {
        folder: json.loads((tmp_path / "outputs" / folder / "C8.json").read_text()) for folder in ("smoke/claims", "claims")
    }
    assert [one["verdict"] for one in kept.values()] == ["holds", "out of date"]


@pytest.mark.parametrize("path", find_notebooks(), ids=lambda path: path.stem)
def test_every_claim_is_judged_in_the_notebook_it_names_and_nowhere_else(path):
    wanted = {str(one) for one in CLAIMS if one.lesson == path.stem[:2]}
    made = set()
    for call in calls(path):
        number, part = given(call, "number", 0), given(call, "part")
        parts = [one.part for one in CLAIMS if one.number == number.value and one.lesson == path.stem[:2]]
        named = parts if isinstance(part, ast.Name) else [part.value if part else ""]
        made |= {str(Claim(number.value, "", "", one)) for one in named}
    assert made == wanted


def test_no_notebook_writes_a_verdict_down_instead_of_computing_it():
    seen = 0
    for path in find_notebooks():
        for call in calls(path):
            holds, figure = given(call, "holds", 1), given(call, "figure", 2)
            assert not isinstance(holds, ast.Constant) and not isinstance(figure, ast.Constant), (path.stem, ast.unparse(call))
            seen += 1
    assert seen >= 17
