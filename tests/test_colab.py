"""Colab: the set-up cell finds the course and installs what is missing, and nothing else; badges follow one setting."""

import json
import os
import runpy
import shutil
import subprocess
import sys
from importlib.metadata import requires

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lorakit_helpers.course import find_notebooks
from lorakit_helpers.files import project_root

ROOT = project_root()
NOTEBOOKS = find_notebooks()
TOOL = runpy.run_path(str(ROOT / "scripts" / "colab.py"))
NEEDED = json.loads((ROOT / "requirements" / "colab.json").read_text(encoding="utf-8"))
ADDRESS = "https://github.com/somebody/a-course"
#: Versions on Colab's image of August 2026, as far as they are known.
IMAGE = {
    "accelerate": "1.14.0", "datasets": "4.0.0", "huggingface-hub": "1.20.0", "ipywidgets": "7.7.1", "matplotlib": "3.10.0",
    "numpy": "2.0.2", "peft": "0.20.0", "pydantic": "2.12.3", "pydantic-core": "2.41.4", "torch": "2.11.0",
    "transformers": "5.15.0", "fsspec": "2026.6.0", "tokenizers": "0.23.1", "pyarrow": "18.1.0", "safetensors": "0.8.0",
}  # fmt: skip
#: Stands before the real pip on PYTHONPATH: notes what it was asked for, and makes it look installed.
RECORDER = """
import json, pathlib, sys
here = pathlib.Path(__file__).parent.parent
with open(here / "asked.jsonl", "a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
for name, version in (pin.split("==") for pin in sys.argv[1:] if "==" in pin):
    folder = here / f"{name}-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
"""
REPORT = """
import os, subprocess, sys, lorakit_helpers
from lorakit_helpers.files import project_root
print(lorakit_helpers.__file__, project_root(), os.getcwd(), sep="\\n")
print(subprocess.check_output([sys.executable, "-c", "import lorakit_helpers as l; print(l.__file__)"], text=True).strip())
"""


def cell_of(notebook):
    (cell,) = (cell for cell in notebook.cells if TOOL["TAG"] in cell.metadata.get("tags", []))
    return cell


CELL = cell_of(nbformat.read(NOTEBOOKS[0], as_version=4)).source


@pytest.fixture
def content(tmp_path):
    """An empty folder like Colab's /content, beside a folder with the recorder."""
    (tmp_path / "shim" / "pip").mkdir(parents=True)
    (tmp_path / "shim" / "pip" / "__init__.py").touch()  # without it the real pip would be found first
    (tmp_path / "shim" / "pip" / "__main__.py").write_text(RECORDER)
    (tmp_path / "content").mkdir()
    return tmp_path / "content"


def course(target):
    """A copy of the course, as far as set-up needs it."""
    left_out = shutil.ignore_patterns("__pycache__", "*.ipynb", "solutions")
    for part in ("scripts", "requirements", "notebooks", "lorakit_helpers", "data/tickets"):
        shutil.copytree(ROOT / part, target / part, ignore=left_out)
    return target


def run(code, content, cwd=None, **variables):
    shim = content.parent / "shim"
    env = {name: value for name, value in os.environ.items() if "COLAB_" not in name and name != "LORAKIT_HOME"}
    env |= {"PYTHONPATH": str(shim), "PIP_NO_INDEX": "1", **variables}  # the real pip would find nothing
    return subprocess.run([sys.executable, "-c", code], cwd=cwd or content, env=env, capture_output=True, text=True)


def asked(content):
    record = content.parent / "shim" / "asked.jsonl"
    return [json.loads(line) for line in record.read_text().splitlines()] if record.is_file() else []


def not_installed_here():
    listed = json.loads(subprocess.check_output([sys.executable, "-m", "pip", "list", "--format=json"], text=True))
    here = {canonicalize_name(one["name"]) for one in listed}
    return sorted(NEEDED["packages"][name]["pin"] for name in NEEDED["own"] if name not in here)


@pytest.mark.parametrize("place", ["lorakit", "work/lorakit-main", "."], ids=["folder", "one deeper", "inside it"])
def test_an_uploaded_folder_is_found_and_what_is_missing_is_installed_once_without_dependencies(content, place):
    home = course(content / place) if place != "." else course_in(content)
    first = run(CELL + REPORT, content, COLAB_RELEASE_TAG="made-up")
    assert first.returncode == 0, first.stderr
    ((*command, pins),) = [[*call[:3], sorted(call[3:])] for call in asked(content)]
    assert command == ["install", "--quiet", "--no-deps"] and pins == not_installed_here() and len(pins) >= 5
    package = str(home / "lorakit_helpers" / "__init__.py")
    assert first.stdout.splitlines()[1:] == [package, str(home), str(home / "notebooks"), package]
    for cwd in (content, home / "notebooks"):
        again = run(CELL, content, cwd, COLAB_GPU="1")
        assert (again.returncode, again.stdout, again.stderr) == (0, "", ""), again.stderr
    assert len(asked(content)) == 1


def course_in(content):
    for part in course(content.parent / "whole").iterdir():
        shutil.move(part, content / part.name)
    return content


@pytest.mark.parametrize("inner", ["", "lorakit-main"], ids=["flat zip", "zip of a folder"])
def test_an_uploaded_zip_is_unpacked_once(content, inner):
    course(content.parent / "whole" / inner)
    shutil.make_archive(str(content / "lorakit"), "zip", content.parent / "whole")
    first = run(CELL + REPORT, content, COLAB_GPU="")
    home = content / "lorakit" / inner
    assert first.returncode == 0 and first.stdout.splitlines()[2] == str(home), first.stderr
    mine = home / "notebooks" / "mine.txt"
    mine.write_text("kept")
    (home / "lorakit_helpers" / "errors.py").write_text("changed = True\n")
    assert run(CELL, content, COLAB_GPU="").returncode == 0
    assert mine.read_text() == "kept" and (home / "lorakit_helpers" / "errors.py").read_text() == "changed = True\n"


def test_without_folder_and_address_one_sentence_says_what_to_do(content):
    done = run(CELL, content, COLAB_GPU="")
    assert done.returncode == 1 and done.stdout == "" and not asked(content) and not list(content.iterdir())
    last = done.stderr.strip().splitlines()[-1]
    assert "upload its folder, zipped as lorakit.zip" in last and "git" not in done.stderr


def test_with_an_address_and_no_folder_the_course_is_cloned(content):
    source = course(content.parent / "source")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(source)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    code = TOOL["setup_cell"](ADDRESS)
    assert f"git clone -q --depth 1 {ADDRESS} lorakit" in code
    rule = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.file://{source}.insteadOf", "GIT_CONFIG_VALUE_0": ADDRESS}
    done = run(code + REPORT, content, COLAB_GPU="", **rule)
    assert done.returncode == 0 and done.stdout.splitlines()[2] == str(content / "lorakit"), done.stderr


def test_elsewhere_the_cell_does_nothing(content):
    course(content / "lorakit")
    state = "\nimport os, sys; print(os.getcwd(), sys.path, sorted(os.environ.items()))"
    done, bare = run(CELL + state, content), run(state, content)
    assert (done.stdout, done.stderr) == (bare.stdout, "") and not asked(content)


def chosen_on(monkeypatch, image, asks=None):
    """``{name: version}`` that set-up chooses where ``image`` is installed and asks for ``asks``."""
    setup = runpy.run_path(str(ROOT / "scripts" / "colab_setup.py"))

    def version(name):
        if canonicalize_name(name) not in image:
            raise setup["PackageNotFoundError"](name)
        return image[canonicalize_name(name)]

    monkeypatch.setitem(setup["lacking"].__globals__, "version", version)
    monkeypatch.setitem(setup["lacking"].__globals__, "requires", lambda name: (asks or {}).get(name, []))
    return {canonicalize_name(pin.split("==")[0]): pin.split("==")[1] for pin in setup["lacking"](NEEDED)}


@pytest.mark.parametrize(("tokenizers", "replaced"), [("0.23.3", True), ("0.22.2", False)])
def test_a_library_that_refuses_what_is_there_goes_to_its_own_pin(monkeypatch, tokenizers, replaced):
    asks = {"transformers": ["tokenizers<=0.23.0,>=0.22.0", "torch>=2.4; extra == 'torch'", "not_on_colab>=1"]}
    chosen = chosen_on(monkeypatch, IMAGE | {"tokenizers": tokenizers}, asks)
    assert ("transformers" in chosen) == replaced and "not-on-colab" not in chosen and "torch" not in chosen


def test_on_colabs_image_what_is_chosen_satisfies_every_package_chosen(monkeypatch):
    chosen = chosen_on(monkeypatch, IMAGE)
    assert {"bitsandbytes", "trl", "papermill", "unsloth", "unsloth-zoo", "bm25s", "datasets", "pyarrow"} <= set(chosen)
    assert not {"torch", "ipywidgets", "numpy", "transformers", "peft", "accelerate", "pydantic-core"} & set(chosen)
    after = IMAGE | chosen
    environment = {"python_version": "3.13", "python_full_version": "3.13.0", "extra": ""}
    for name in set(chosen) - {canonicalize_name(n) for n in NEEDED["own"] if pin_only(n)}:
        for wanted in map(Requirement, requires(name) or []):
            if wanted.marker is None or wanted.marker.evaluate(environment):
                have = after.get(canonicalize_name(wanted.name))
                assert have is None or wanted.specifier.contains(have, prereleases=True), (name, str(wanted), have)
                listed = canonicalize_name(wanted.name) in NEEDED["packages"]
                assert have or not listed, f"{name} asks for {wanted.name}, which is not installed"


def pin_only(name):
    """Whether the package is one of Unsloth's for a GPU, which is not installed here."""
    return NEEDED["packages"][name]["pin"] in not_installed_here()


def test_every_notebook_carries_the_same_short_cell_right_after_its_parameters():
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        place = next(i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", []))
        assert cell_of(nbformat.read(path, as_version=4)).source == cells[place + 1].source == CELL, path.stem
        assert not any("lorakit_helpers" in cell.source for cell in cells[: place + 1] if cell.cell_type == "code")
    assert len(CELL.splitlines()) <= 12 and TOOL["setup_cell"](TOOL["repository"]()) == CELL


def test_committed_files_follow_from_the_settings():
    wrong = [path.name for path, text in TOOL["texts"]().items() if path.read_text(encoding="utf-8") != text]
    assert not wrong, f"{wrong}: run `python scripts/colab.py`"


def copies(folder, address):
    """The files ``scripts/colab.py`` reads and writes, with ``address`` set."""
    for part in ("notebooks", "requirements", "pyproject.toml"):
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        if not (folder / part).exists():
            copy(ROOT / part, folder / part)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    own = f'repository = "{TOOL["repository"]()}"'
    assert own in text
    (folder / "pyproject.toml").write_text(text.replace(own, f'repository = "{address}"'), encoding="utf-8")
    return TOOL["main"]([], folder)


def test_badges_appear_with_an_address_and_disappear_without(tmp_path, capsys):
    copies(tmp_path, "")
    before = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("notebooks/*.ipynb")}
    assert len(before) == 13 and not any("colab-badge" in text or "git clone" in text for text in before.values())
    assert copies(tmp_path, ADDRESS + ".git") == 0 and len(capsys.readouterr().out.splitlines()) >= 13
    for path in tmp_path.glob("notebooks/*.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        url = f"https://colab.research.google.com/github/somebody/a-course/blob/main/notebooks/{path.name}"
        lines = notebook.cells[0].source.splitlines()
        assert lines[0].startswith("# ") and lines[2].endswith(f"]({url})") and "**Aim.**" in lines[4]
        assert sum("colab-badge" in cell.source for cell in notebook.cells) == 1
        assert cell_of(notebook).source == TOOL["setup_cell"](ADDRESS) and len(cell_of(notebook).source.splitlines()) <= 12
    assert copies(tmp_path, ADDRESS) == 0 and capsys.readouterr().out == "", "a second run writes nothing"
    copies(tmp_path, "")
    assert before == {path.name: path.read_text(encoding="utf-8") for path in tmp_path.glob("notebooks/*.ipynb")}


WRONG = ("http://github.com/a/b", "https://gitlab.com/a/b", "https://github.com/a", "https://github.com/a/b;rm x")


@pytest.mark.parametrize("address", WRONG)
def test_an_address_that_colab_cannot_open_is_refused_and_nothing_is_written(tmp_path, address):
    copies(tmp_path, "")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.ipynb")}
    with pytest.raises(SystemExit, match=r"expected https://github\.com/OWNER/NAME"):
        copies(tmp_path, address)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*.ipynb")}


def test_notebooks_that_train_ask_colab_for_a_t4():
    for number in ("07", "08", "09", "10", "11", "12"):
        (path,) = (path for path in NOTEBOOKS if path.stem.startswith(number))
        metadata = nbformat.read(path, as_version=4).metadata
        assert (metadata["accelerator"], metadata["colab"]) == ("GPU", {"gpuType": "T4"})
