"""The notebooks: stripped and well-formed as committed, and running on the smoke profile, strictly and repeatably."""

import json
import os
import re
import subprocess
import sys

import nbformat
import pytest
from nbval.plugin import get_sanitize_patterns

from lorakit_helpers.course import fill_solutions, find_notebooks, widget_errors
from lorakit_helpers.files import project_root
from lorakit_helpers.lessons import LESSONS, running_order

ROOT = project_root()
NOTEBOOKS = find_notebooks()
COURSE = [sys.executable, "-m", "lorakit_helpers.cli", "run", "--profile", "smoke"]
#: What differs from run to run: measured numbers, with the blanks that pad them in a table.
SANITIZE = r"""[floats]
regex: [ ]*\d+\.\d+[ ]*
replace: FLOAT
[times]
regex: [ ]*\d+ (s|tokens/s|examples/s)\b[ ]*
replace: TIME
[shares]
regex: [ ]*\d+% of the bf16
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


def test_nbval_passes_over_a_measured_number_however_wide_it_is_and_over_nothing_else():
    def seen(text):
        for pattern, instead in get_sanitize_patterns(SANITIZE):
            text = re.sub(pattern, instead, text)
        return text

    line = "unsloth  {:6.2f} s  {:3.0f}% of the bf16 matmul peak  {:.2f} GiB, loss of the last 12 steps, {:>4} tokens/s"
    assert seen(line.format(9.87, 9, 0.9, 99)) == seen(line.format(10.12, 101, 12.31, 1000))
    assert seen("the last 12 steps, 3 rows") != seen("the last 13 steps, 3 rows")


@pytest.fixture(scope="session")
def learned():
    """The learner's notebooks, exercises unsolved, as `make course PROFILE=smoke` leaves them; only what is stale is run."""
    done = subprocess.run(COURSE, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return [ROOT / "build" / "notebooks" / path.name for path in running_order(NOTEBOOKS)]


def nbval(paths, home, folder, *options):
    """Run notebooks under nbval and return (exit code, what to read when it is not 0)."""
    (folder / "sanitize.cfg").write_text(SANITIZE)
    env = {
        **os.environ,
        "LORAKIT_PROFILE": "smoke",
        "LORAKIT_HOME": str(home),
        "PYTHONWARNINGS": "ignore",
        "LORAKIT_STRICT": "1",
    }
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval-cell-timeout=900", "-q", "--no-header",
               "-o", "addopts=", f"--nbval-sanitize-with={folder / 'sanitize.cfg'}", *options]  # fmt: skip
    done = subprocess.run([*command, *map(str, paths)], env=env, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, failing_cells(done.stdout) or done.stdout[-3000:] + done.stderr[-3000:]


def failing_cells(report: str) -> str:
    """Name and difference of each failing cell of an nbval report, without colours, pictures and source code."""
    plain = re.sub(r"[A-Za-z0-9+/=]{40,}", "[base64]", re.sub(r"\x1b\[[\d;]*m", "", report))
    heads = list(re.finditer(r"^_+ (\S.*Cell \d+) _+$", plain, re.M))
    if not heads:
        return ""
    ends = [head.start() for head in heads[1:]] + [plain.find("\n====", heads[-1].end())]
    bodies = [plain[head.end() : end].rpartition("\nTraceback:")[2].strip() for head, end in zip(heads, ends, strict=True)]
    cells = [f"{head[1].rpartition('/')[2]}\n{body[:1500]}" for head, body in zip(heads, bodies, strict=True)]
    return "\n\n".join(cells)


@pytest.mark.notebook
def test_the_learners_notebooks_run_by_the_courses_own_command_and_leave_a_site(learned):
    for path in learned:
        notebook = read(path)
        code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
        assert all(cell.execution_count for cell in code) and not widget_errors(notebook)
        page = ROOT / "build" / "site" / f"{path.stem}.html"
        assert "<img alt=" in page.read_text(encoding="utf-8") or path.stem.startswith("00")


@pytest.mark.notebook
def test_executed_notebooks_carry_no_warnings_or_progress_litter(learned):
    for path in learned:
        for cell in read(path).cells:
            for output in cell.get("outputs", []):
                assert output.get("name") != "stderr", (path.stem, output.get("text", "")[:300])


@pytest.mark.notebook
def test_a_second_run_redoes_nothing(learned):
    done = subprocess.run(COURSE, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.count("up to date") == len(learned), done.stdout


@pytest.mark.notebook
def test_notebooks_with_their_solutions_pass_every_exercise_and_give_the_same_results(learned, tmp_path):
    """nbval on the learner's executed copies with the solutions filled in, in a course folder without ``outputs/``.

    A wrong solution, an error or an output that does not repeat fails (floats and times are masked). Only the exercises'
    own cells may print something else than the learner's did: their checks hand on the reference either way.
    """
    home = tmp_path / "home"
    home.mkdir()
    for part in ("data", "lorakit_helpers", "notebooks", "requirements"):
        (home / part).symlink_to(ROOT / part)
    solved = []
    for path in learned:
        solutions = ROOT / "notebooks" / "solutions" / f"{path.stem[:2]}.py"
        notebook = read(path)
        if solutions.is_file():
            notebook = fill_solutions(notebook, solutions.read_text(encoding="utf-8"))
        for cell in notebook.cells:
            if cell.metadata.get("exercise"):
                cell.metadata.tags = [*cell.metadata.get("tags", []), "nbval-ignore-output"]
        solved.append(tmp_path / path.name)
        nbformat.write(notebook, solved[-1])
    code, reason = nbval(solved, home, tmp_path, "--nbval")
    assert code == 0, reason


def test_a_cell_that_does_not_repeat_is_named_with_its_difference_and_without_pictures(tmp_path):
    picture = '<img alt="loss {} at step 8" src="data:image/png;base64,' + "iVBORw0KGgo" * 40 + '">'
    sources = ("print('same')", f"from IPython.display import HTML\nHTML({picture.format('fell')!r})", "print('steps: 8')")
    stored = (
        nbformat.v4.new_output("stream", name="stdout", text="same\n"),
        nbformat.v4.new_output(
            "execute_result", {"text/html": picture.format("rose"), "text/plain": "<IPython.core.display.HTML object>"},
            execution_count=2,
        ),
        nbformat.v4.new_output("stream", name="stdout", text="steps: 9\n"),
    )  # fmt: skip
    cells = [
        nbformat.v4.new_code_cell(source, outputs=[output], execution_count=i + 1)
        for i, (source, output) in enumerate(zip(sources, stored, strict=True))
    ]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python"}})
    nbformat.write(notebook, tmp_path / "made.ipynb")
    code, reason = nbval([tmp_path / "made.ipynb"], ROOT, tmp_path, "--nbval")
    assert code == 1 and "made.ipynb::Cell 1" in reason and "made.ipynb::Cell 2" in reason and "Cell 0" not in reason
    assert "rose" in reason and "fell" in reason and "steps: 9" in reason and "steps: 8" in reason
    assert not re.search(r"[A-Za-z0-9+/=]{40,}", reason) and len(reason) < 3500


@pytest.mark.notebook
def test_the_smoke_adapter_of_notebook_07_loads_with_plain_peft(learned):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from lorakit_helpers.models import base_model

    model = AutoModelForCausalLM.from_pretrained(base_model(log=lambda line: None).path)
    adapter = PeftModel.from_pretrained(model, ROOT / "outputs" / "smoke" / "adapters" / "tickets")
    assert any("lora_B" in name and p.abs().sum() > 0 for name, p in adapter.named_parameters())


@pytest.mark.notebook
def test_notebook_10s_ladder_condemns_the_merge_into_four_bits_and_neither_the_16_bit_merge_nor_a_gguf(learned):
    """On the smoke adapter: a rung that rambles, loses its template or says other things is named by the rules."""
    found = json.loads((ROOT / "outputs" / "smoke" / "ladder.json").read_text(encoding="utf-8"))
    kl = {rung["name"]: rung["kl"]["value"] for rung in found["rungs"]}
    faults = {tuple(fault) for fault in found["findings"]}
    assert {("merged into NF4", "rambles"), ("merged into NF4", "likeness")} <= faults
    sound = {name for name in kl if name.startswith("GGUF")} | {"merged, 16 bit"}
    assert not sound & {rung for rung, _ in faults}
    assert kl["merged, 16 bit"] < kl["merged, then NF4"] < kl["merged into NF4"]
    if len(sound) > 1:  # where llama.cpp's parts are installed
        assert kl["GGUF f16"] < kl["GGUF Q4_K_M"] < kl["merged, then NF4"] and kl["GGUF Q8_0"] < kl["GGUF Q4_K_M"]


def test_filling_refuses_ids_that_do_not_match():
    notebook = read(NOTEBOOKS[0])
    with pytest.raises(ValueError, match="exercise ids"):
        fill_solutions(notebook, "# %% [ex:9.9]\npass\n")


def test_an_error_hidden_in_a_widget_is_found():
    state = {"state": {"outputs": [{"output_type": "error", "ename": "KeyError", "evalue": "x"}]}}
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": {"m": state}}}
    assert widget_errors(notebook) == ["KeyError: x"]
