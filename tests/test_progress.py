"""Progress survives kills, damage and company; exercises never feel it; the map shows what is recorded."""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from lorakit_helpers import cli, progress
from lorakit_helpers.course import run_notebook
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.exercises import EXERCISES, check
from lorakit_helpers.files import project_root
from lorakit_helpers.lessons import LESSONS, lesson_progress, progress_map
from lorakit_helpers.progress import Progress, read_progress, record_check, reset_progress

ROOT = project_root()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A course folder of its own, in which progress is kept."""
    (tmp_path / "data" / "tickets").mkdir(parents=True)
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path))
    for name in ("LORAKIT_PROGRESS", "LORAKIT_STRICT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(progress, "_said", [])
    return tmp_path


def stored(home):
    return json.loads((home / "outputs" / "progress.json").read_text())


def names(home):
    return sorted(path.name for path in (home / "outputs").iterdir() if not path.name.endswith(".lock"))


def child(home, code, **options):
    env = {**os.environ, "LORAKIT_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=env, text=True, stdout=subprocess.PIPE, **options)


def wrong(*_):
    return "wrong"


def test_tries_count_answers_until_the_first_right_one_and_a_stub_is_none(home, capsys):
    check("7.1", lambda alpha, r: ...)
    assert read_progress().exercises["7.1"].tries == 0
    for answer in (wrong, wrong, lambda alpha, r: alpha / r):
        check("7.1", answer)
    first = read_progress().exercises["7.1"]
    assert first.tries == 3 and first.right >= first.first
    for answer in (wrong, lambda alpha, r: ..., lambda alpha, r: alpha / r):
        check("7.1", answer)
    assert read_progress().exercises["7.1"] == first and names(home) == ["progress.json"]


def test_checks_say_the_same_with_and_without_recording(home, monkeypatch, capsys):
    answers = [("7.1", wrong), ("0.2", lambda flags: ...), ("7.1", lambda alpha, r: alpha / r)]
    said = []
    for setting in ("", "off"):
        monkeypatch.setenv("LORAKIT_PROGRESS", setting)
        for identifier, answer in answers:
            check(identifier, answer)
        said.append(capsys.readouterr())
    assert said[0] == said[1] and set(stored(home)["exercises"]) == {"7.1", "0.2"}


@pytest.mark.parametrize("setting", ["LORAKIT_STRICT", "LORAKIT_PROGRESS"])
def test_nothing_is_kept_or_shown_where_nobody_learns(home, monkeypatch, setting, capsys):
    check("0.2", EXERCISES["0.2"].reference)
    monkeypatch.setenv(setting, "off")
    check("7.1", EXERCISES["7.1"].reference)
    assert set(stored(home)["exercises"]) == {"0.2"} and read_progress() == Progress()
    assert progress_map() == progress_map(Progress())


def test_a_run_of_the_whole_notebook_answers_nothing_for_the_learner(home, tmp_path):
    """What fills in the solutions, or runs the stubs, is `lorakit run` and not a learner."""
    code = "from lorakit_helpers.exercises import EXERCISES, check\nok = check('7.1', EXERCISES['7.1'].reference)"
    cells = [new_code_cell('PROFILE = "auto"', metadata={"tags": ["parameters"]}), new_code_cell(code)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = tmp_path / "07_run.ipynb"
    nbformat.write(new_notebook(cells=cells, metadata=kernel), path)
    run = run_notebook(path, "smoke", tmp_path / "build", root=home)
    assert "Exercise 7.1: right." in run.executed.read_text() and not (home / "outputs").exists()


def test_these_tests_leave_the_repositorys_own_progress_alone():
    assert not progress.recording()
    tracked = subprocess.run(["git", "check-ignore", "-q", "outputs/progress.json"], cwd=ROOT)
    assert tracked.returncode in (0, 128)  # 128: not a git checkout


KILLED = """
import os
from lorakit_helpers import files, progress
real = os.{place}
def die(*arguments):
    if {when}:
        os._exit(9)
    return real(*arguments)
os.{place} = die
progress.record_check("7.2", answered=True, right=True)
os._exit(0)
"""


@pytest.mark.parametrize(("place", "when"), [("fsync", "True"), ("replace", "str(arguments[1]).endswith('progress.json')")])
def test_a_kill_in_mid_write_leaves_the_old_file_and_no_lock(home, place, when):
    record_check("7.1", answered=True, right=True)
    before = (home / "outputs" / "progress.json").read_bytes()
    assert child(home, KILLED.format(place=place, when=when)).wait(timeout=60) == 9
    assert (home / "outputs" / "progress.json").read_bytes() == before and len(names(home)) == 2  # and what it had begun
    record_check("7.3", answered=True, right=False)
    assert set(read_progress().exercises) == {"7.1", "7.3"} and names(home) == ["progress.json"]


def test_processes_that_write_at_once_lose_nothing(home):
    code = """
import sys
from lorakit_helpers.progress import record_check
sys.stdin.readline()
for i in range(40):
    record_check(f"WRITER-{i}", answered=True, right=i in range(0, 40, 2))
"""
    writers = [child(home, code.replace("WRITER", str(writer)), stdin=subprocess.PIPE) for writer in range(3)]
    for writer in writers:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    assert [writer.communicate(timeout=120)[0] for writer in writers] == ["", "", ""]
    found = read_progress().exercises
    assert len(found) == 120 and sum(record.right is not None for record in found.values()) == 60


DAMAGED = [
    "", "{", "[]", "null", '{"exercises": {}}', '{"format": 1}', '{"format": 1, "exercises": {"7.1": {"tries": "2"}}}',
    '{"format": 1, "exercises": {"7.1": {"tries": -1, "first": "2026-01-01T10:00:00"}}}',
    '{"format": 1, "exercises": {"7.1": {"tries": 1, "first": "<b>"}}}', '{"format": 1, "exercises": []}', "\udce9",
]  # fmt: skip


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize("use", [read_progress, lambda: record_check("7.1", answered=True, right=True)])
def test_a_damaged_file_is_put_aside_whole_and_said_once(home, text, use, capsys):
    (home / "outputs").mkdir()
    content = text.encode("utf-8", "surrogateescape")
    for kept in ("progress.damaged-1.json", "progress.damaged-2.json"):
        (home / "outputs" / "progress.json").write_bytes(content)
        note = getattr(use(), "note", "") or capsys.readouterr().out
        assert (home / "outputs" / kept).read_bytes() == content
        if kept.endswith("1.json"):
            assert "damaged" in note and kept in note and note.strip().count("\n") == 0
    record_check("7.2", answered=True, right=False)
    assert "7.2" in stored(home)["exercises"]


@pytest.mark.parametrize(("version", "age"), [(2, "newer"), (0, "older")])
def test_a_file_of_another_format_is_explained_and_left_as_it_is(home, version, age, capsys):
    (home / "outputs").mkdir()
    text = json.dumps({"format": version, "exercises": {"7.1": {"points": 3}}})
    (home / "outputs" / "progress.json").write_text(text)
    for _ in range(3):
        check("7.1", EXERCISES["7.1"].reference)
    said = capsys.readouterr().out
    assert said.count(f"{age} version of the course") == 1 and said.count("Exercise 7.1: right.") == 3
    assert f"{age} version" in read_progress().note and f"{age} version" in progress_map()
    assert (home / "outputs" / "progress.json").read_text() == text and names(home) == ["progress.json"]


def test_a_folder_that_cannot_be_written_costs_one_sentence(home, capsys):
    (home / "outputs").write_text("a file where the folder should be")
    for identifier in ("7.1", "7.2", "0.2"):
        assert check(identifier, EXERCISES[identifier].reference) is EXERCISES[identifier].reference
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 4 and sum("not being kept" in line for line in said) == 1


READ_ONLY = """
import os, filelock
from lorakit_helpers.progress import record_check
if os.geteuid() == 0:  # permissions do not bind root
    os.setuid(65534)
for i in range(3):
    record_check(str(i), answered=True, right=True)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_read_only_folder_costs_one_sentence(monkeypatch):
    monkeypatch.delenv("LORAKIT_PROGRESS", raising=False)
    monkeypatch.delenv("LORAKIT_STRICT", raising=False)
    folder = Path(tempfile.mkdtemp())  # not tmp_path: the other user must be able to enter it
    try:
        (folder / "data" / "tickets").mkdir(parents=True)
        (folder / "outputs").mkdir()
        folder.chmod(0o755), (folder / "outputs").chmod(0o555)
        reader = child(folder, READ_ONLY)
        said = reader.communicate(timeout=60)[0]
        assert reader.returncode == 0 and said.count("\n") == 1 and "not being kept: Permission denied" in said
        assert list((folder / "outputs").iterdir()) == []
    finally:
        (folder / "outputs").chmod(0o755)
        shutil.rmtree(folder)


def test_a_lock_that_is_held_too_long_costs_one_sentence(home, monkeypatch, capsys):
    record_check("7.1", answered=True, right=False)
    monkeypatch.setattr(progress, "_LOCK_S", 0.1)
    code = "import sys\nfrom filelock import FileLock\nwith FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(home / "outputs" / "progress.json.lock")]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    holder.stdout.readline()
    record_check("7.2", answered=True, right=True)
    holder.communicate("")
    assert "not being kept" in capsys.readouterr().out and "7.2" not in read_progress().exercises
    record_check("7.2", answered=True, right=True)
    assert "7.2" in read_progress().exercises


def test_reset_keeps_the_old_file_under_another_name(home, capsys):
    assert reset_progress() is None
    for number in (1, 2):
        record_check("7.1", answered=True, right=True)
        text = (home / "outputs" / "progress.json").read_text()
        kept = reset_progress()
        assert kept.name == f"progress.before-reset-{number}.json" and kept.read_text() == text
        assert read_progress() == Progress()
    (home / "outputs" / "progress.json").write_text('{"format": 99}')
    assert cli.main(["progress", "--reset"]) == 0 and "before-reset-3" in capsys.readouterr().out


def test_map_states_are_words_and_follow_the_exercises(home):
    states = {entry.lesson.stem[:2]: entry.state for entry in lesson_progress(read_progress())}
    assert set(states.values()) <= {"not begun", "planned"}
    record_check("7.1", answered=False, right=False)
    for identifier in ("0.1", "0.2"):
        record_check(identifier, answered=True, right=True)
    found = {entry.lesson.stem[:2]: entry for entry in lesson_progress(read_progress())}
    assert (found["07"].state, found["07"].right) == ("begun", 0) and found["00"].state == "exercises done"
    rows = re.findall(r"<tr>(.*?)</tr>", progress_map(), re.S)[1:]
    assert len(rows) == len(LESSONS) and "<td>2 of 2</td><td>exercises done</td>" in rows[0]
    assert f"2 of {len(EXERCISES)} exercises right." in progress_map()
    of = {number: sum(key.split(".")[0] == str(int(number)) for key in EXERCISES) for number in found}
    assert {number: entry.exercises for number, entry in found.items()} == of


def test_unknown_exercises_of_another_course_version_are_kept_and_not_counted(home):
    record_check("0.1", answered=True, right=True)
    record_check("99.1", answered=True, right=True)
    assert sum(entry.right for entry in lesson_progress(read_progress())) == 1
    record_check("0.2", answered=True, right=True)
    assert "99.1" in stored(home)["exercises"]


def test_command_shows_each_lesson_and_the_sum(home, capsys):
    record_check("0.1", answered=True, right=True)
    record_check("7.1", answered=True, right=False)
    assert cli.main(["progress"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(LESSONS) + 1 and lines[0].split() == ["00_start_here", "1", "of", "2", "begun"]
    assert lines[-1] == "1 exercise right, 1 tried and not right yet."


@pytest.mark.parametrize("argv", [["--name", "A"], ["--reset", "--certificate", "a.html"], ["--certificate", "a.txt"]])
def test_wrong_use_of_the_command_is_one_sentence(home, argv, capsys):
    assert cli.main(["progress", *argv]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_command_says_that_recording_is_switched_off(home, monkeypatch, capsys):
    monkeypatch.setenv("LORAKIT_PROGRESS", "off")
    assert cli.main(["progress"]) == 1 and "LORAKIT_PROGRESS" in capsys.readouterr().err


def test_reset_that_cannot_rename_is_an_error(home, monkeypatch):
    record_check("7.1", answered=True, right=True)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(LorakitError, match="Permission denied"):
        reset_progress()
    assert set(stored(home)["exercises"]) == {"7.1"}
