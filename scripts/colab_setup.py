"""What the notebooks' set-up cell runs on Colab: install what its image lacks, then make the course importable.

Only the standard library and ``packaging`` (which Colab has) are used: lorakit_helpers cannot be imported yet.
"""

import importlib
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def lacking(needed: dict) -> list[str]:
    """The pins to install: what is missing, what those to install refuse in its version, and what would refuse one of them.

    Args:
        needed: content of ``requirements/colab.json``: ``own``, the names the course imports, and ``packages`` with the
            pin of each and what it asks for.
    """
    chosen, queue = {}, [Requirement(name) for name in needed["own"]]
    pins = {name: Requirement(needed["packages"][name]["pin"]) for name in needed["own"]}
    while queue:
        wanted = queue.pop()
        name = canonicalize_name(wanted.name)
        if name not in chosen and not _fits(wanted, {}):
            chosen[name] = needed["packages"][name]["pin"]
            queue += map(Requirement, needed["packages"][name]["asks"])
        if not queue:
            refusing = [name for name in needed["own"] if name not in chosen and not _content(name, chosen)]
            queue = [pins[name] for name in refusing if not _fits(pins[name], {})]
    return [chosen[name] for name in sorted(chosen)]


def _fits(wanted: Requirement, chosen: dict) -> bool:
    """Whether the version that will be there, chosen or installed already, is one of those wanted."""
    name = canonicalize_name(wanted.name)
    try:
        there = chosen[name].partition("==")[2] if name in chosen else version(name)
    except PackageNotFoundError:
        return False
    return wanted.specifier.contains(there, prereleases=True)


def _content(name: str, chosen: dict) -> bool:
    """Whether the installed package accepts the versions that will be there; what Colab leaves out is not asked about."""
    try:
        asks = map(Requirement, requires(name) or [])
    except PackageNotFoundError:
        return True
    asks = [ask for ask in asks if ask.marker is None or ask.marker.evaluate({"extra": ""})]
    return all(_fits(ask, chosen) or not _fits(Requirement(ask.name), chosen) for ask in asks)


def install(pins: list[str]) -> None:
    """Install with ``--no-deps``, so that Colab's torch and ipywidgets stay as they are.

    Raises:
        RuntimeError: when pip fails, with its last words.
    """
    print(f"lorakit: installing {len(pins)} packages that Colab lacks", flush=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", *pins]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"lorakit: pip could not install what Colab lacks. {done.stderr.strip()[-800:]}")
    importlib.invalidate_caches()


def enter(root: Path) -> None:
    """Find lorakit_helpers from this kernel and from the programs it starts, and work in ``notebooks/`` as JupyterLab does."""
    others = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != str(root)]
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root), *others])
    sys.path[:] = [str(root), *(part for part in sys.path if part != str(root))]
    os.chdir(root / "notebooks")


def setup(root: Path = ROOT) -> list[str]:
    """Do all of it; a second call finds nothing to do. Returns the pins that were installed."""
    pins = lacking(json.loads((root / "requirements" / "colab.json").read_text(encoding="utf-8")))
    if pins:
        install(pins)
    enter(root)
    return pins
