"""The map of lessons, solutions put into notebooks, what is stale, and one tiny notebook really run."""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from lorakit_helpers.course import fill_solutions, find_notebooks, run_notebook, run_notebooks, stale, widget_errors
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.files import project_root
from lorakit_helpers.lessons import LESSONS, progress_map, running_order


def notebook(*sources, exercises=()):
    cells = [new_code_cell('PROFILE = "auto"', metadata={"tags": ["parameters"]})]
    cells += [new_code_cell(source) for source in sources]
    cells += [new_code_cell("... # your code", metadata={"exercise": identifier}) for identifier in exercises]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=cells, metadata=kernel)


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A course folder with three notebooks, solutions for one, and data."""
    root = tmp_path / "course"
    for folder in ("notebooks/solutions", "data/tickets", "lorakit_helpers", "requirements"):
        (root / folder).mkdir(parents=True)
    for stem in ("00_first", "07_second", "70_third"):
        nbformat.write(notebook("print(PROFILE)"), root / "notebooks" / f"{stem}.ipynb")
    (root / "notebooks" / "scratch.ipynb").write_text("{}")
    (root / "notebooks" / "solutions" / "00.py").write_text("")
    (root / "data" / "tickets" / "train.jsonl").write_text("{}\n")
    (root / "lorakit_helpers" / "tickets.py").write_text("")
    (root / "requirements" / "cpu.lock").write_text("")
    monkeypatch.setenv("LORAKIT_HOME", str(root))
    return root


def stems(paths):
    return [path.stem for path in paths]


def test_all_notebooks_come_in_order_and_scratch_is_left_out(course):
    assert stems(find_notebooks()) == stems(find_notebooks((), course)) == ["00_first", "07_second", "70_third"]


@pytest.mark.parametrize("name", ["07", "07_second", "07_second.ipynb", "notebooks/07_second.ipynb"])
def test_notebook_is_found_by_number_name_or_path(course, name):
    assert stems(find_notebooks([name])) == ["07_second"]


def test_a_notebook_named_twice_is_run_once(course):
    assert stems(find_notebooks(["70", "00", "70_third"])) == ["00_first", "70_third"]


@pytest.mark.parametrize("name", ["7", "99", "scratch", "second", ""])
def test_unknown_notebook_is_named_with_the_known_ones(course, name):
    with pytest.raises(LorakitError) as caught:
        find_notebooks(["00", name])
    assert repr(name) in str(caught.value) and "00_first, 07_second, 70_third" in str(caught.value)


def test_solutions_go_into_their_own_cells_only():
    made = notebook("untouched = 1", exercises=["1.1", "1.10"])
    before = [cell.source for cell in made.cells]
    fill_solutions(
        made, "# %% [ex:1.10]\nb = 2\n\n\n# %% [ex:1.1]\nimport math\n\na = 1  # %% is no mark here\n\n\n# %%\nz = 0\n"
    )
    assert [cell.source for cell in made.cells[:2]] == before[:2]
    filled = {cell.metadata["exercise"]: cell.source for cell in made.cells[2:]}
    assert filled == {"1.1": "import math\n\na = 1  # %% is no mark here", "1.10": "b = 2"}


@pytest.mark.parametrize(("solved", "asked"), [(["1.1"], ["1.1", "1.2"]), (["1.1", "1.2"], ["1.1"]), ([], ["1.1"])])
def test_solutions_that_do_not_fit_the_notebook_are_refused(solved, asked):
    text = "".join(f"# %% [ex:{identifier}]\nx = 1\n" for identifier in solved)
    with pytest.raises(LorakitError) as caught:
        fill_solutions(notebook(exercises=asked), text)
    assert all(repr(identifier) in str(caught.value) for identifier in {*solved, *asked})


def test_course_solutions_fill_the_course_notebooks():
    paths = [path for path in find_notebooks() if (path.parent / "solutions" / f"{path.stem[:2]}.py").is_file()]
    assert paths
    for path in paths:
        made = nbformat.read(path, as_version=4)
        solutions = (path.parent / "solutions" / f"{path.stem[:2]}.py").read_text(encoding="utf-8")
        empty = sum("# your code" in c.source for c in made.cells)
        left = sum("# your code" in c.source for c in fill_solutions(made, solutions).cells)
        assert empty > 0 and left == 0


def test_errors_inside_widgets_are_found_and_plain_outputs_are_not():
    fault = {"output_type": "error", "ename": "KeyError", "evalue": "'r'", "traceback": []}
    plain = {"output_type": "stream", "name": "stdout", "text": "fine"}
    made = notebook("1")
    assert widget_errors(made) == []
    made.cells[1].outputs = [new_output("stream", text="fine")]
    state = {"a": {"state": {"outputs": [plain, fault]}}, "b": {"state": {"outputs": None}}, "c": {"state": {}}}
    made.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {"state": state}}
    assert widget_errors(made) == ["KeyError: 'r'"]


def done(course, build, **options):
    """Pretend that the first notebook was run: outputs and stamp in place. Returns whether it is stale."""
    from lorakit_helpers.course import _input_key

    path = course / "notebooks" / "00_first.ipynb"
    for folder, name, text in (
        ("notebooks", path.name, "{}"),
        ("stamps", "00_first.json", json.dumps({"key": _input_key(path, "smoke", options.get("strict", False), course)})),
    ):
        (build / folder).mkdir(parents=True, exist_ok=True)
        (build / folder / name).write_text(text)
    return path


def test_a_run_is_current_until_one_of_its_inputs_changes(course, tmp_path):
    build = tmp_path / "build"
    path = course / "notebooks" / "00_first.ipynb"
    assert stale(path, "smoke", build)
    for changed in (
        "notebooks/00_first.ipynb",
        "data/tickets/train.jsonl",
        "lorakit_helpers/tickets.py",
        "requirements/cpu.lock",
    ):
        done(course, build)
        assert not stale(path, "smoke", build)
        (course / changed).write_text((course / changed).read_text() + "\n")
        assert stale(path, "smoke", build), changed


def test_another_notebooks_change_makes_nothing_stale(course, tmp_path):
    path = done(course, tmp_path)
    (course / "notebooks" / "07_second.ipynb").write_text("{}")
    assert not stale(path, "smoke", tmp_path)


def test_another_profile_or_strictness_is_another_run(course, tmp_path):
    path = done(course, tmp_path)
    assert not stale(path, "smoke", tmp_path)
    assert stale(path, "cpu", tmp_path) and stale(path, "smoke", tmp_path, strict=True)


@pytest.mark.parametrize("gone", ["notebooks/00_first.ipynb", "stamps/00_first.json"])
def test_missing_result_is_stale(course, tmp_path, gone):
    path = done(course, tmp_path)
    (tmp_path / gone).unlink()
    assert stale(path, "smoke", tmp_path)


def test_damaged_stamp_is_stale(course, tmp_path):
    path = done(course, tmp_path)
    for text in ("", "{", "{}", '{"key": null}'):
        (tmp_path / "stamps" / "00_first.json").write_text(text)
        assert stale(path, "smoke", tmp_path)


def test_changed_solutions_make_a_strict_run_stale(course, tmp_path):
    path = done(course, tmp_path, strict=True)
    (course / "notebooks" / "solutions" / "00.py").write_text("# changed\n")
    assert stale(path, "smoke", tmp_path, strict=True)


def test_tiny_notebook_runs_with_its_profile_and_is_then_up_to_date(course, tmp_path, monkeypatch):
    monkeypatch.delenv("LORAKIT_STRICT", raising=False)
    source = "import os\nprint('profile', PROFILE, 'strict', repr(os.environ['LORAKIT_STRICT']), '<b>')"
    path = course / "notebooks" / "00_first.ipynb"
    nbformat.write(notebook(source), path)
    original, build = path.read_bytes(), tmp_path / "build"
    run = run_notebook(path, "smoke", build)
    assert run.fresh and run.seconds > 0 and run.name == "00_first"
    text = "".join(o.get("text", "") for c in nbformat.read(run.executed, as_version=4).cells for o in c.get("outputs", []))
    assert "profile smoke strict ''" in text
    assert path.read_bytes() == original and "LORAKIT_STRICT" not in os.environ
    again = run_notebook(path, "smoke", build)
    assert not again.fresh and again.seconds == 0 and again.executed == run.executed


def test_failing_cell_is_named_with_its_error_and_leaves_no_stamp(course, tmp_path):
    path = course / "notebooks" / "07_second.ipynb"
    nbformat.write(notebook("x = 1", "raise KeyError('lost\\nsecond line')", "y = 2"), path)
    with pytest.raises(LorakitError) as caught:
        run_notebook(path, "smoke", tmp_path / "build")
    message = str(caught.value)
    assert "07_second, cell" in message and "KeyError" in message and "lost" in message and "\n" not in message
    assert (tmp_path / "build" / "notebooks" / path.name).is_file()
    assert stale(path, "smoke", tmp_path / "build")


def test_killed_kernel_is_said_as_one_sentence(course, tmp_path):
    path = course / "notebooks" / "07_second.ipynb"
    nbformat.write(notebook("import os\nos._exit(9)"), path)
    with pytest.raises(LorakitError, match="07_second"):
        run_notebook(path, "smoke", tmp_path / "build")


def test_running_order_puts_each_lesson_after_the_one_it_uses_and_the_others_by_number():
    every = [Path(f"{lesson.stem}.ipynb") for lesson in LESSONS]
    order = [path.stem for path in running_order(every[::-1])]
    assert sorted(order) == [path.stem for path in every]
    number = {lesson.stem[:2]: lesson.stem for lesson in LESSONS}
    for lesson in LESSONS:
        if lesson.uses:
            assert order.index(lesson.stem) > order.index(number[lesson.uses])
    free = [stem for stem in order if not next(lesson.uses for lesson in LESSONS if lesson.stem == stem)]
    assert free == sorted(free)


def test_lessons_are_numbered_from_0_to_12_without_a_gap():
    assert [int(lesson.stem[:2]) for lesson in LESSONS] == list(range(13))
    assert len({lesson.title for lesson in LESSONS}) == 13 and all(lesson.minutes > 0 for lesson in LESSONS)


def test_every_notebook_in_the_folder_is_a_lesson():
    assert set(stems(find_notebooks())) <= {lesson.stem for lesson in LESSONS}


def rows_of_map():
    return re.findall(r"<tr>(.*?)</tr>", progress_map(), re.S)[1:]


def test_map_links_what_is_here_and_only_that():
    folder = project_root() / "notebooks"
    assert len(rows_of_map()) == len(LESSONS)
    for lesson, row in zip(LESSONS, rows_of_map(), strict=True):
        links = re.findall(r'href="(.+?)"', row)
        exists = (folder / f"{lesson.stem}.ipynb").is_file()
        assert links == ([f"{lesson.stem}.ipynb"] if exists else [])
        assert row.endswith("<td>not begun</td>" if exists else "<td>planned</td>")
        assert lesson.title in row and f"about {lesson.minutes}<" in row and f"<td>{lesson.uses or '–'}</td>" in row


def test_map_follows_the_folder(course):
    (course / "notebooks" / "01_prompt_rag_or_finetune.ipynb").write_text("{}")
    here = [row for row in rows_of_map() if "planned" not in row]
    assert len(here) == 1 and "01_prompt_rag_or_finetune" in here[0]


def test_a_second_pass_runs_in_the_same_kernel_keeps_the_setting_and_is_never_up_to_date(course, tmp_path):
    path, build = course / "notebooks" / "00_first.ipynb", tmp_path / "build"
    nbformat.write(notebook("passes = globals().get('passes', 0) + 1\nprint('pass', passes, PROFILE)"), path)
    run_notebook(path, "smoke", build)
    for _ in range(2):
        run = run_notebook(path, "smoke", build, twice=True)
        cells = nbformat.read(run.executed, as_version=4).cells
        said = [o["text"].strip() for c in cells for o in c.get("outputs", []) if "text" in o]
        assert run.fresh and said == ["pass 1 smoke", "pass 2 smoke"]
    assert stale(path, "smoke", build)


def test_a_fault_of_the_second_pass_alone_is_an_error(course, tmp_path):
    path = course / "notebooks" / "00_first.ipynb"
    nbformat.write(notebook("assert 'seen' not in globals()\nseen = 1"), path)
    run_notebook(path, "smoke", tmp_path)
    with pytest.raises(LorakitError, match="AssertionError"):
        run_notebook(path, "smoke", tmp_path, twice=True)


def test_several_notebooks_run_at_once_each_after_the_one_it_uses(course, tmp_path):
    noted = f"from pathlib import Path; import os, time; note = Path({str(tmp_path)!r}) / 'note'"
    seen = "print(os.environ['OMP_NUM_THREADS'], note.exists())"
    for stem, source in (("00_first", seen), ("07_second", "time.sleep(1); note.touch()"), ("70_third", seen)):
        nbformat.write(notebook(noted, source), course / "notebooks" / f"{stem}.ipynb")
    told, build = [], tmp_path / "build"
    runs = run_notebooks(find_notebooks(), build, jobs=2, uses={"70_third": "07"}, tell=told.append, profile="smoke")
    assert sorted(run.name for run in runs) == ["00_first", "07_second", "70_third"] and all(run.fresh for run in runs)
    begun = [line.split()[1] for line in told if line.startswith("[")]
    assert begun == ["07_second", "00_first", "70_third"]
    assert sum(line.startswith("    ") and " s: " in line for line in told) == 3
    printed = {
        run.name: [o.text for c in nbformat.read(run.executed, as_version=4).cells for o in c.get("outputs", [])]
        for run in runs
    }
    share = max(1, os.cpu_count() // 2)
    assert printed["70_third"] == [f"{share} True\n"]  # the note was written before it began
    assert printed["00_first"][0].startswith(f"{share} ")
    again = run_notebooks(find_notebooks(), build, jobs=2, uses={}, tell=told.append, profile="smoke")
    assert not any(run.fresh for run in again)


@pytest.mark.parametrize("jobs", [1, 2])
def test_first_problem_ends_the_run_and_keeps_what_is_finished(course, tmp_path, jobs):
    for stem, source in (("00_first", "pass"), ("07_second", "raise KeyError('lost')"), ("70_third", "pass")):
        nbformat.write(notebook(source), course / "notebooks" / f"{stem}.ipynb")
    told, build = [], tmp_path / "build"
    with pytest.raises(LorakitError, match=r"^07_second, cell 2: expected every cell to run, got KeyError: 'lost'"):
        run_notebooks(find_notebooks(), build, jobs=jobs, uses={"70_third": "07"}, tell=told.append, profile="smoke")
    assert (build / "stamps" / "00_first.json").is_file() and not (build / "notebooks" / "70_third.ipynb").exists()
