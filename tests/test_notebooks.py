"""The notebooks: stripped and well-formed as committed, and running on the smoke profile, strictly and repeatably."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec

import nbformat
import pytest
from homes import course_home
from nbval.plugin import get_sanitize_patterns

from lorakit_helpers.course import fill_solutions, find_notebooks, run_again, widget_errors
from lorakit_helpers.files import project_root
from lorakit_helpers.lessons import LESSONS, running_order

ROOT = project_root()
NOTEBOOKS = find_notebooks()
COURSE = [sys.executable, "-m", "lorakit_helpers.cli", "run", "--profile", "smoke", "--jobs", "2"]
#: Notebooks that took the learner's run less than so many seconds are run all twice.
TWICE = 45
#: What differs from run to run: measured numbers, with the blanks that pad them in a table, and whether an adapter was there.
SANITIZE = r"""[banner]
regex: Unsloth [^\n]*\n
replace:\x20
[floats]
regex: [ ]*\d+\.\d+[ ]*
replace: FLOAT
[times]
regex: [ ]*\d+ (s|tokens/s|examples/s)\b[ ]*
replace: TIME
[shares]
regex: [ ]*\d+% of the bf16
replace: SHARE
[origin]
regex: trained (now|before) on (\d+) examples(, \d+ steps in *TIME)?
replace: trained on EXAMPLES
""".replace(r"\x20", " ")


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
    assert seen("tickets: trained now on 64 examples, 8 steps in 29 s") == seen("tickets: trained before on 64 examples")
    assert seen("Unsloth 2026.10.9: no GPU found\nUnsloth (CPU): Llama\nrank 16\n") == "rank 16\n"
    assert seen("the last 12 steps, 3 rows") != seen("the last 13 steps, 3 rows")


@pytest.fixture(scope="session")
def learned():
    """The learner's notebooks, exercises unsolved, as `make course PROFILE=smoke` leaves them; only what is stale is run."""
    done = subprocess.run(COURSE, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
    return [ROOT / "build" / "notebooks" / path.name for path in running_order(NOTEBOOKS)]


def shared_out(paths):
    """``(threads, notebooks)`` for two processes that take about as long as one another.

    Each notebook runs on as many threads as in ``build/`` (None: the libraries' choice): sums depend on it in their last bits.
    """
    once, groups = {path: read(path).metadata.papermill.duration for path in paths}, {}
    seconds = {path: (2 if took < TWICE else 1) * took for path, took in once.items()}
    for path in sorted(paths, key=seconds.get, reverse=True):
        threads = json.loads((ROOT / "build" / "stamps" / f"{path.stem}.json").read_text())["threads"]
        halves = groups.setdefault(threads, ([], []))
        min(halves, key=lambda half: sum(map(seconds.get, half))).append(path)
    return [(threads, half) for threads, halves in groups.items() for half in halves if half]


def nbval(paths, home, threads, *options):
    """Start notebooks under nbval."""
    (home / "sanitize.cfg").write_text(SANITIZE)
    own = {"LORAKIT_PROFILE": "smoke", "LORAKIT_HOME": str(home), "PYTHONWARNINGS": "ignore", "LORAKIT_STRICT": "1"}
    own |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--nbval-cell-timeout=900", "-q", "--no-header",
               "-o", "addopts=", f"--nbval-sanitize-with={home / 'sanitize.cfg'}", *options]  # fmt: skip
    with open(home / "nbval.log", "w") as log:
        return subprocess.Popen([*command, *map(str, paths)], env=os.environ | own, cwd=ROOT, stdout=log, stderr=log)


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
def test_the_ladder_of_notebook_10_stands_in_order_and_its_faithful_rungs_break_no_rule(learned):
    ladder = json.loads((ROOT / "outputs" / "smoke" / "ladder.json").read_text(encoding="utf-8"))
    kl = {rung["name"]: rung["kl"]["value"] for rung in ladder["rungs"]}
    faithful, faults = {"merged, 16 bit"}, {tuple(fault) for fault in ladder["findings"]}
    assert kl["base + adapter, 16 bit"] == 0 and kl["merged, 16 bit"] < kl["merged, then NF4"] < kl["merged into NF4"]
    if find_spec("llama_cpp"):
        faithful |= {"GGUF f16", "GGUF Q8_0", "GGUF base f16 + LoRA"}
        assert max(kl[name] for name in faithful) < kl["GGUF Q4_K_M"] < kl["merged into NF4"]
        assert not faults & {("GGUF Q4_K_M", "template"), ("GGUF Q4_K_M", "rambles")}
    # few tickets tell nothing of quality: one more or less is chance
    assert faithful <= set(kl) and not faithful & {rung for rung, fault in faults if fault != "quality"}, faults
    assert ("merged into NF4", "likeness") in faults


@pytest.mark.notebook
def test_a_second_run_redoes_nothing(learned):
    done = subprocess.run(COURSE, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.count("up to date") == len(learned), done.stdout


@pytest.mark.notebook
def test_notebooks_with_their_solutions_pass_every_exercise_and_give_the_same_results(learned, tmp_path):
    """nbval on the learner's executed copies with the solutions filled in; adapters of the first run are not trained again.

    A wrong solution, an error or an output that does not repeat fails (floats and times are masked). Only the exercises'
    own cells may print something else than the learner's did: their checks hand on the reference either way. The quick ones
    are run all twice in their kernel (`lorakit run --twice` does it with any).
    """
    running = []
    for threads, paths in shared_out(learned):
        home = course_home(tmp_path / f"home{len(running)}", ["adapters", "reports", "speeds.json"])
        (home / "solved").mkdir()
        running.append((home, nbval([solved(path, home / "solved") for path in paths], home, threads, "--nbval")))
    codes = [process.wait() for _, process in running]
    reports = [(home / "nbval.log").read_text() for home, _ in running]
    assert set(codes) == {0}, "\n".join(failing_cells(report) or report[-3000:] for report in reports)


def solved(path, folder):
    """A copy of an executed notebook in ``folder``, its solutions filled in."""
    notebook, solutions = read(path), ROOT / "notebooks" / "solutions" / f"{path.stem[:2]}.py"
    if solutions.is_file():
        notebook = fill_solutions(notebook, solutions.read_text(encoding="utf-8"))
    if notebook.metadata.papermill.duration < TWICE:
        run_again(notebook)
    for cell in notebook.cells:
        if cell.metadata.get("exercise") or "claims_table(" in cell.source:  # the table is of what was run so far
            cell.metadata.tags = [*cell.metadata.get("tags", []), "nbval-ignore-output"]
        if "run_both(" in cell.source:  # measures speeds alone, all of them masked; the file it leaves is there
            cell.metadata.tags = [*cell.metadata.get("tags", []), "nbval-skip"]
    nbformat.write(notebook, folder / path.name)
    return folder / path.name
