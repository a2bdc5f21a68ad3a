"""Importing the package is quick and loads nothing heavy."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lorakit_helpers
from lorakit_helpers.files import project_root

HEAVY = ("torch", "transformers", "trl", "peft", "unsloth", "bitsandbytes", "datasets")
FOLDER = Path(lorakit_helpers.__file__).parent


def child(code: str):
    """Run code in a fresh interpreter and read the JSON it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project_root(), check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def loaded_by(statement: str) -> list[str]:
    return child(f"import json, sys\n{statement}\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))")


def test_import_takes_less_than_three_tenths_of_a_second():
    code = "import time; t = time.perf_counter(); import lorakit_helpers; print(time.perf_counter() - t)"
    assert min(child(code) for _ in range(3)) < 0.3


def test_the_probe_sees_a_heavy_import(tmp_path):
    (tmp_path / "torch.py").write_text("")
    assert loaded_by(f"sys.path.insert(0, {str(tmp_path)!r}); import torch") == ["torch"]


@pytest.mark.parametrize(
    "name",
    [
        "tickets",
        "adapters",
        "plain_style",
        "handbook",
        "retrieval",
        "choices",
        "advice",
        "recipes",
        "profiles",
        "fit",
        "hub",
        "evaluation",
        "hardware",
        "files",
        "exercises",
        "lessons",
        "course",
        "cli",
        "start",
        "quantization",
        "lowrank",
        "memory",
        "memory.catalogue",
        "memory.planning",
        "templates",
        "data",
        "data.command",
        "scale",
        "scale.launching",
    ],
)
def test_light_module_loads_no_heavy_library(name):
    assert loaded_by(f"import lorakit_helpers, lorakit_helpers.{name}") == []


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: str(path.relative_to(FOLDER)))
def test_public_names_exist(path):
    parts = path.relative_to(FOLDER.parent).with_suffix("").parts
    module = importlib.import_module(".".join(part for part in parts if part != "__init__"))
    assert all(hasattr(module, name) for name in getattr(module, "__all__", ()))


def test_an_error_goes_whole_from_one_process_to_another():
    import copy

    from lorakit_helpers.errors import LorakitError

    error = LorakitError("rank", got=0, expected="a whole number of at least 1", do="Use r=16.")
    again = copy.copy(error)  # by the same __reduce__
    assert str(again) == str(error) and vars(again) == vars(error)
