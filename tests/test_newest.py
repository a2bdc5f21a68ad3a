"""The look ahead at newer releases: what it reports, and that it fails nothing. The environment itself is not made here."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from lorakit_helpers.files import project_root


@pytest.fixture
def newest(monkeypatch):
    path = project_root() / "scripts" / "newest.py"
    monkeypatch.setattr(sys, "path", [str(path.parent), *sys.path])
    spec = importlib.util.spec_from_file_location("newest", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "newest", module)  # its dataclass looks itself up there
    spec.loader.exec_module(module)
    return module


def test_what_broke_stands_beside_its_package_and_comes_first(newest):
    pins = {"trl": "1.14.0", "scikit-learn": "1.9.1", "unsloth_zoo": "1", "torch": "2.13.0"}
    installed = {"trl": "1.20.0", "scikit-learn": "1.9.1", "unsloth_zoo": "2", "torch": "2.13.0+cpu"}
    problems = [("sklearn", "sklearn.x: gone"), ("unsloth_zoo", "import: no"), ("lorakit_helpers", "import: fails")]
    lines = newest.table(newest.rows(pins, installed, problems)).splitlines()[2:]
    assert lines == [
        "| unsloth_zoo | 1 | 2 | import: no |",
        "| scikit-learn | 1.9.1 | 1.9.1 | sklearn.x: gone |",
        "| the course |  |  | import: fails |",
        "| trl | 1.14.0 | 1.20.0 | newer |",
        "| torch | 2.13.0 | 2.13.0+cpu |  |",
    ]


def test_every_pin_of_the_course_gets_a_row(newest):
    groups = newest.environment.project()
    pins = dict(pin.split("==") for group in ("course", "gpu") for pin in groups[group])
    assert len(newest.rows(pins, {}, [])) == len(pins) == len(groups["course"]) + len(groups["gpu"])


def child(tmp_path, body: str) -> Path:
    """A stand-in for the new environment's Python."""
    path = tmp_path / "python"
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_failing_import_and_a_gone_keyword_are_both_told(newest, tmp_path):
    report = {
        "findings": [{"where": "a.py:1", "path": "trl.SFTConfig", "problem": "no keyword x"}],
        "unread": [["peft.P", "y"]],
    }
    body = f"""
if "-m" in sys.argv:
    print("noise"); print({json.dumps(json.dumps(report))}); sys.exit(1)
if "import trl" in sys.argv:
    sys.exit("ImportError: no")"""
    assert newest.problems_with(child(tmp_path, body)) == [
        ("trl", "import trl: ImportError: no"),
        ("trl", "trl.SFTConfig: no keyword x (a.py:1)"),
        ("peft", "peft.P: is y still read?"),
    ]


def test_a_drift_check_that_cannot_run_is_told(newest, tmp_path):
    found = newest.problems_with(child(tmp_path, "if '-m' in sys.argv: raise RuntimeError('broken')"))
    assert found == [("lorakit_helpers", "drift check: RuntimeError: broken")]


@pytest.mark.parametrize(("strict", "code"), [([], 0), (["--strict"], 1)])
def test_releases_that_cannot_be_combined_fail_only_when_asked_to(newest, tmp_path, monkeypatch, capsys, strict, code):
    monkeypatch.setattr(newest.subprocess, "run", lambda *a, **k: None)
    monkeypatch.setattr(newest, "install", lambda python, pins: "ERROR: ResolutionImpossible")
    assert newest.main(["--folder", str(tmp_path), *strict]) == code
    assert "could not be installed together: ERROR: ResolutionImpossible" in capsys.readouterr().out
