"""Colab ships ipywidgets 7.7.1 with ipykernel 6.17: the panels do the same there, in a real kernel, as under version 8.

Both old packages are installed once into a folder of their own, which stands before the others on PYTHONPATH.
"""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from lorakit_helpers import widgets
from lorakit_helpers.files import project_root

ROOT, HERE = project_root(), Path(__file__)
OLD = ("ipywidgets==7.7.1", "ipykernel==6.17.1", "ipython_genutils==0.2.0")
#: How to make each panel, in a kernel that finds the tests' own modules.
MAKE = {
    "CasePanel": "import test_case_panel; panel = CasePanel(test_case_panel.made())",
    "DecisionPanel": "from test_advice import made; panel = DecisionPanel(made())",
    "LabPanel": "from test_lab import lab; panel = lab()[0]",
    "LengthPanel": "from test_length_panel import DATA; panel = LengthPanel(DATA, tokens_per_s=50.0)",
    "LoRAPanel": "panel = LoRAPanel(toy_steps=5); panel.train()",
    "MemoryPanel": "panel = MemoryPanel()",
    "QuantizationPanel": "panel = QuantizationPanel(np.random.default_rng(0).normal(size=(64, 64)))",
    "RankPanel": "panel = RankPanel({'large': np.eye(30), 'small': np.eye(4, 9)})",
    "ReadingPanel": "import test_reading_panel as t; panel = ReadingPanel(t.some_pairs(t.load_split('test')))",
    "ScalePanel": "panel = ScalePanel()",
    "SwapPanel": "import test_swap_panel; panel = test_swap_panel.panel()[0]; panel.run()",
    "TicketPanel": "ticket_panel.generate = lambda *_, **__: ['{}']; panel = TicketPanel(None, None, 'My lamp'); panel.run()",
    "TrainingPanel": "panel = TrainingPanel(seconds_between_redraws=0); panel.controls = {}\n"
    "for step in (1, 2, 3):\n    panel.log.max_steps, panel.log.step = 3, step\n"
    "    panel.log.steps.append(step); panel.log.losses.append(1 / step); panel.update(panel.log)",
    "UploadPanel": 'panel = UploadPanel(\'.\'); panel.look(\'a.json\', b\'[{"instruction": "Say hi.", "output": "Hello"}]\')',
}
START = """
import numpy as np
from lorakit_helpers.widgets import *
from lorakit_helpers.widgets import ticket_panel
def ends(c):
    if hasattr(c, "options"):
        return [o[1] if isinstance(o, tuple) else o for o in (c.options[0], c.options[-1])]
    return [False, True] if isinstance(getattr(c, "value", None), bool) else [c.min, c.max] if hasattr(c, "min") else []
def drive(panel):
    print("start:", panel.sentence.value)
    for name, control in panel.controls.items():
        for value in ends(control):
            control.value = value
            print(name, value, panel.sentence.value)
    if "reset" in panel.controls:
        panel.controls["reset"].click()
        print("reset:", panel.sentence.value)
"""


@pytest.fixture(scope="session")
def old_widgets(tmp_path_factory):
    """A folder with Colab's versions; without a package registry this is an error, since nothing could be shown."""
    folder = tmp_path_factory.mktemp("old_widgets")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *OLD]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def kernel_says(*folders) -> dict[str, str]:
    """Panel to what it said while each control went to its least and its most, in a new kernel."""
    versions = "import ipykernel, ipywidgets; print(ipywidgets.__version__, ipykernel.__version__)"
    sources = [versions, START, *(f"{code}\ndrive(panel)\npanel" for code in MAKE.values())]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    path = os.pathsep.join(str(part) for part in (*folders, ROOT, HERE.parent))
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute(env=os.environ | {"PYTHONPATH": path})
    said = {}
    for name, cell in zip(("versions", "start", *MAKE), notebook.cells, strict=True):
        said[name] = "".join(out["text"] for out in cell.outputs if out.output_type == "stream" and out.name == "stdout")
        views = [out for out in cell.outputs if "application/vnd.jupyter.widget-view+json" in out.get("data", {})]
        assert (len(views) == 1) == (name in MAKE), f"{name} was not displayed: {cell.outputs}"
    return said


def test_panels_say_the_same_in_a_kernel_with_colabs_widgets(old_widgets):
    old, new = kernel_says(old_widgets), kernel_says()
    assert old.pop("versions").split() == [package.split("==")[1] for package in OLD[:2]]
    assert int(new.pop("versions").split(".")[0]) >= 8
    assert old == new and all(len(old[name].splitlines()) >= 1 for name in MAKE)


def test_panels_own_tests_hold_with_colabs_widgets(old_widgets):
    files = [path for path in sorted(HERE.parent.glob("test_*.py")) if "from lorakit_helpers.widgets" in path.read_text()]
    files = [path for path in files if path != HERE and path.name not in ("test_browser.py", "test_notebooks.py")]
    tested = " ".join(path.read_text() for path in files)
    assert [name for name in widgets.__all__ if f"{name}(" not in tested] == [], "panels without tests of their own"
    only = ["-k", "panel or widget or upload", "-m", "not notebook and not browser and not training"]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *only, *map(str, files)]
    path = os.pathsep.join((str(old_widgets), str(ROOT)))
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0 and " failed" not in done.stdout, done.stdout[-3000:]
