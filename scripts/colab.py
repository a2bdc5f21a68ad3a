"""Everything Colab, written from two settings of pyproject.toml: set-up cells, badges, the list of what Colab lacks.

python scripts/colab.py           # write them; running it again changes nothing
python scripts/colab.py --check   # write nothing; say what differs, 1 when something does

``[tool.lorakit] repository`` is the course's public address on GitHub. While it is empty there is no badge and no clone.
"""

import argparse
import json
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import nbformat
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
TAG = "colab-setup"
#: Colab's own (its kernel, torch and all that is compiled against it) or of no use there: never installed.
KEPT = (
    "ipykernel", "ipython", "ipywidgets", "jupyter-client", "jupyter-core", "jupyterlab", "matplotlib", "nbclient", "nbconvert",
    "nbformat", "notebook", "numpy", "packaging", "pandas", "pillow", "pyzmq", "scikit-learn", "scipy", "torch", "tornado",
    "traitlets",
)  # fmt: skip
#: The environment that requirements are read for.
IMAGE = {
    "python_version": "3.13", "python_full_version": "3.13.0", "sys_platform": "linux", "platform_system": "Linux",
    "platform_machine": "x86_64", "implementation_name": "cpython", "platform_python_implementation": "CPython",
    "os_name": "posix",
}  # fmt: skip

_CELL = """\
# On Colab: finds the course (a folder or lorakit.zip that you uploaded) and installs what Colab lacks. Elsewhere: nothing.
import os
from glob import glob
from runpy import run_path

if "COLAB_" in "".join(os.environ):
    places = ("", "../", "*/", "*/*/")
    if not any(glob(f"{{place}}scripts/colab_setup.py") for place in places):
        os.system("{fetch}")
    found = [path for place in places for path in glob(f"{{place}}scripts/colab_setup.py")]
    assert found, "The course is not here: upload its folder, zipped as lorakit.zip, and run this cell again."
    run_path(found[0])["setup"]()"""
_BADGE = re.compile(r"\n\n\[!\[Open in Colab\]\([^)]*\)\]\([^)]*\)")


def repository(root: Path = ROOT) -> str:
    """The public address ``https://github.com/OWNER/NAME``, or "" while it is unset.

    Raises:
        SystemExit: when it is no address on GitHub; Colab opens notebooks from nowhere else.
    """
    address = _settings(root)["repository"].removesuffix("/").removesuffix(".git")
    if address and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", address):
        sys.exit(f"pyproject.toml, [tool.lorakit] repository: expected https://github.com/OWNER/NAME, got {address!r}.")
    return address


def _settings(root: Path) -> dict:
    return tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["lorakit"]


def setup_cell(address: str) -> str:
    """Source of the cell that every notebook carries: the uploaded zip is unpacked, else ``address`` is cloned."""
    fetch = "python3 -m zipfile -e lorakit*.zip lorakit 2>/dev/null"
    return _CELL.format(fetch=fetch + (f" || git clone -q --depth 1 {address} lorakit" if address else ""))


def badge(address: str, name: str) -> str:
    """Markdown of the "Open in Colab" badge for the notebook ``name``; "" without an address."""
    place = address.removeprefix("https://github.com/")
    link = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{name}"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({link})" if address else ""


def apply(notebook, address: str, name: str):
    """Put badge and set-up cell into a notebook, the cell right after ``parameters``; all else stays as it is."""
    title, newline, rest = _BADGE.sub("", notebook.cells[0].source).partition("\n")
    mark = badge(address, name)
    notebook.cells[0].source = title + (f"\n\n{mark}" if mark else "") + newline + rest
    cells = [cell for cell in notebook.cells if TAG not in cell.metadata.get("tags", [])]
    place = next(i for i, cell in enumerate(cells) if "parameters" in cell.metadata.get("tags", [])) + 1
    folded = {"tags": [TAG], "jupyter": {"source_hidden": True}}
    cell = nbformat.v4.new_code_cell(setup_cell(address), metadata=folded)
    cells.insert(place, cell)
    for number, each in enumerate(cells):  # as nbstripout numbers them
        each.id = str(number)
    notebook.cells = cells
    return notebook


def needed(root: Path = ROOT) -> dict:
    """Content of ``requirements/colab.json``: the course's own packages by name, and of each package pin and requirements.

    Versions come from the lock and from ``[tool.lorakit] colab``, requirements from the packages installed here.
    """
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = [*project["dependencies"], *project["optional-dependencies"]["gpu"], *_settings(root)["colab"]]
    lock = (root / "requirements" / "cpu.lock").read_text(encoding="utf-8").splitlines()
    pins = {canonicalize_name(pin.partition("==")[0]): pin for pin in [*lock, *own] if "==" in pin and pin[0] != "#"}
    pins = {name: pin for name, pin in pins.items() if name not in KEPT}
    own = sorted({canonicalize_name(pin.partition("==")[0]) for pin in own} & set(pins))
    asks, queue, seen = {}, [(name, "") for name in own], set()
    while queue:
        name, extra = queue.pop()
        if (name, extra) not in seen:
            seen.add((name, extra))
            new = [wanted for wanted in _requirements(name, extra) if canonicalize_name(wanted.name) in pins]
            asks.setdefault(name, set()).update(f"{canonicalize_name(w.name)}{w.specifier}" for w in new)
            queue += [(canonicalize_name(w.name), e) for w in new for e in ("", *w.extras)]
    return {"own": own, "packages": {name: {"pin": pins[name], "asks": sorted(asks[name])} for name in sorted(asks)}}


def _requirements(name: str, extra: str) -> list[Requirement]:
    """What an installed package asks for on Colab; nothing for Unsloth's parts, which are not installed on a CPU."""
    try:
        every = [Requirement(text) for text in requires(name) or []]
    except PackageNotFoundError:
        return []
    return [one for one in every if one.marker is None or one.marker.evaluate({**IMAGE, "extra": extra})]


def texts(root: Path = ROOT) -> dict[Path, str]:
    """What every file should be, by path."""
    address = repository(root)
    made = {root / "requirements" / "colab.json": json.dumps(needed(root), indent=1) + "\n"}
    for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        made[path] = nbformat.writes(apply(nbformat.read(path, as_version=4), address, path.name)) + "\n"
    return made


def main(argv=None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    options = parser.parse_args(argv)
    wrong = {path: text for path, text in texts(root).items() if not path.is_file() or path.read_text(encoding="utf-8") != text}
    for path, text in wrong.items():
        if not options.check:
            path.write_text(text, encoding="utf-8")
        print(f"{path.relative_to(root)} {'does not follow from pyproject.toml' if options.check else 'written'}")
    return 1 if wrong and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
