"""The notebooks: stripped and well-formed as committed, and running on the smoke profile, strictly and repeatably."""

import os
import re
import subprocess
import sys

import nbformat
import pytest

from lorakit_helpers.course import fill_solutions, find_notebooks, run_notebook, widget_errors
from lorakit_helpers.files import project_root
from lorakit_helpers.lessons import LESSONS

ROOT = project_root()
NOTEBOOKS = find_notebooks()
SANITIZE = """[floats]
regex: \\d+\\.\\d+
replace: FLOAT
[times]
regex: \\d+ (s|tokens/s|examples/s)
replace: TIME
[shares]
regex: \\d+% of the bf16
replace: SHARE
"""


def read(path):
    return nbformat.read(path, as_version=4)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_committed_notebook_is_stripped_and_has_one_parameters_cell(path):
    notebook = read(path)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1
    assert notebook.metadata.kernelspec.name == "python3" and "widgets" not in notebook.metadata
    assert path.stem in [lesson.stem for lesson in LESSONS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_code_cells_are_short_enough_to_read(path):
    lengths = [len(cell.source.splitlines()) for cell in read(path).cells if cell.cell_type == "code"]
    assert max(lengths) <= 40


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_opens_with_its_aim_and_closes_with_a_recap(path):
    texts = [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]
    assert "**Aim.**" in texts[0] and "## Recap" in texts[-1]


def test_notebook_07_passes_the_trainer_what_the_package_passes():
    from lorakit_helpers.profiles import PROFILES
    from lorakit_helpers.training import sft_arguments

    cell = next(c.source for c in read(ROOT / "notebooks/07_train_with_qlora.ipynb").cells if "SFTConfig(" in c.source)
    named = set(re.findall(r"^    (\w+)=", cell, re.M))
    assert named == set(sft_arguments(PROFILES["cpu"].recipe, "x"))


@pytest.fixture(scope="session")
def executed(tmp_path_factory):
    """Every notebook with its solutions filled in, run strictly on the smoke profile, in order."""
    build = tmp_path_factory.mktemp("build")
    return [run_notebook(path, "smoke", build, strict=True) for path in NOTEBOOKS]


@pytest.mark.notebook
def test_every_notebook_runs_strictly_with_its_solutions_and_leaves_html(executed):
    for run in executed:
        notebook = read(run.executed)
        assert not widget_errors(notebook)
        code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
        assert all(cell.execution_count for cell in code)
        text = " ".join(o.get("text", "") for cell in code for o in cell.outputs)
        assert text.count(": right.") == sum(bool(c.metadata.get("exercise")) for c in notebook.cells)
        assert "<img alt=" in run.page.read_text(encoding="utf-8") or run.name.startswith("00")
        print(f"{run.name}: {run.seconds:.0f} s")


@pytest.mark.notebook
def test_executed_notebooks_carry_no_warnings_or_progress_litter(executed):
    for run in executed:
        for cell in read(run.executed).cells:
            for output in cell.get("outputs", []):
                assert output.get("name") != "stderr", (run.name, output.get("text", "")[:300])


@pytest.mark.notebook
def test_a_second_run_redoes_nothing(executed):
    build = executed[0].executed.parent.parent
    again = [run_notebook(path, "smoke", build, strict=True) for path in NOTEBOOKS]
    assert not any(run.fresh for run in again)


@pytest.mark.notebook
def test_the_learners_unsolved_notebook_runs_too_and_gives_the_same_results_again(executed, tmp_path):
    """nbval on freshly executed copies: outputs must repeat (floats and times are masked).

    The learner's own notebooks, exercises unsolved, run under --nbval-lax.
    """
    (tmp_path / "sanitize.cfg").write_text(SANITIZE)
    env = {**os.environ, "LORAKIT_PROFILE": "smoke", "LORAKIT_HOME": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval-cell-timeout=900", "-q", "--no-header",
               "-o", "addopts=", f"--nbval-sanitize-with={tmp_path / 'sanitize.cfg'}"]  # fmt: skip
    lax = subprocess.run([*command, "--nbval-lax", *map(str, NOTEBOOKS)], env=env, cwd=ROOT, capture_output=True, text=True)
    assert lax.returncode == 0, lax.stdout[-3000:]
    copies = [str(run.executed) for run in executed]
    strict = subprocess.run([*command, "--nbval", *copies], env=env, cwd=ROOT, capture_output=True, text=True)
    assert strict.returncode == 0, strict.stdout[-3000:]


@pytest.mark.notebook
def test_the_smoke_adapter_of_notebook_07_loads_with_plain_peft(executed):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from lorakit_helpers.models import base_model

    model = AutoModelForCausalLM.from_pretrained(base_model(log=lambda line: None).path)
    adapter = PeftModel.from_pretrained(model, ROOT / "outputs" / "smoke" / "adapters" / "tickets")
    assert any("lora_B" in name and p.abs().sum() > 0 for name, p in adapter.named_parameters())


def test_filling_refuses_ids_that_do_not_match():
    notebook = read(NOTEBOOKS[0])
    with pytest.raises(ValueError, match="exercise ids"):
        fill_solutions(notebook, "# %% [ex:9.9]\npass\n")


def test_an_error_hidden_in_a_widget_is_found():
    state = {"state": {"outputs": [{"output_type": "error", "ename": "KeyError", "evalue": "x"}]}}
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {"m": state}}}
    assert widget_errors(notebook) == ["KeyError: x"]
