"""What would break with the newest releases of the direct dependencies: a look ahead, never a failure.

    python scripts/newest.py            # a virtual environment in build/newest, some 10 minutes and 3 GB; prints a table
    python scripts/newest.py --strict   # the same, and 1 when something broke

Installed are the newest releases that pip can combine (torch stays at the pinned CPU build, Unsloth comes without its
GPU-only requirements). Then every library is imported, and every call of the course is held against its signatures
(``python -m lorakit_helpers.drift``). Nothing is trained.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import bootstrap
import environment

ROOT = environment.ROOT
#: Imported one by one, each in a process of its own.
IMPORTED = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "datasets",
    "bitsandbytes",
    "accelerate",
    "unsloth",
    "lorakit_helpers.training",
)

_PROBE = """
import json, sys
from importlib.metadata import version, PackageNotFoundError
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = version(name)
    except PackageNotFoundError:
        found[name] = "missing"
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Row:
    """One direct dependency: its pin, the newest release, and what broke with it."""

    name: str
    pinned: str
    newest: str
    broke: tuple[str, ...]

    def __str__(self):
        news = "" if self.newest.split("+")[0] == self.pinned else "newer"
        return f"| {self.name} | {self.pinned} | {self.newest} | {'; '.join(self.broke) or news} |"


def rows(pins: dict[str, str], installed: dict[str, str], problems: list[tuple[str, str]]) -> list[Row]:
    """A row for every dependency; ``problems`` are (top-level module, sentence), those of no dependency go to a last row."""
    names = {environment.versions([f"{name}==0"]).popitem()[0]: name for name in pins}
    modules = {"sklearn": "scikit-learn", "bs4": "beautifulsoup4", "stdnum": "python-stdnum", "PIL": "pillow"}
    told = {name: [] for name in names}
    other = []
    for module, sentence in problems:
        told.get(modules.get(module, module.replace("_", "-")), other).append(sentence)
    found = [Row(names[name], pins[names[name]], installed.get(names[name], "missing"), tuple(told[name])) for name in names]
    return found + ([Row("the course", "", "", tuple(other))] if other else [])


def table(found: list[Row]) -> str:
    """The rows as Markdown, what broke first, then what is newer."""
    order = sorted(found, key=lambda row: (not row.broke, row.newest.split("+")[0] == row.pinned, row.name))
    return "\n".join(["| package | pinned | newest | what broke |", "|---|---|---|---|", *map(str, order)])


def install(python: Path, pins: dict[str, str]) -> str:
    """Install the newest releases; returns pip's last error, or nothing."""
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--quiet"]
    torch = f"torch=={pins['torch']}"
    index = [] if bootstrap.cpu_build_is_default(pip, torch) else ["--index-url", bootstrap.CPU_INDEX]
    bare = [name for name in pins if name.startswith("unsloth")]
    others = [name for name in pins if name not in bare and name != "torch"]
    for arguments in ([*index, torch], ["--upgrade", torch, *others], ["--upgrade", "--no-deps", *bare]):
        done = subprocess.run([*pip, *arguments], capture_output=True, text=True)
        if done.returncode:
            return next((line for line in done.stderr.splitlines() if line.startswith("ERROR")), "pip failed")
    return ""


def problems_with(python: Path) -> list[tuple[str, str]]:
    """(top-level module, sentence) of every import that fails, and of every name and keyword that is gone."""
    child = {**os.environ, "PYTHONPATH": str(ROOT), "LORAKIT_HOME": str(ROOT)}
    found = []
    for name in IMPORTED:
        done = subprocess.run([str(python), "-c", f"import {name}"], capture_output=True, text=True, env=child)
        if done.returncode:
            found.append((name.split(".")[0], f"import {name}: {(done.stderr.strip().splitlines() or ['failed'])[-1]}"))
    done = subprocess.run([str(python), "-m", "lorakit_helpers.drift", "--json"], capture_output=True, text=True, env=child)
    if done.returncode not in (0, 1) or "{" not in done.stdout:
        return [*found, ("lorakit_helpers", f"drift check: {(done.stderr.strip().splitlines() or ['failed'])[-1]}")]
    report = json.loads(done.stdout[done.stdout.index("{") :])
    found += [
        (f["path"].split(".")[0].split("/")[0], f"{f['path']}: {f['problem']} ({f['where']})") for f in report["findings"]
    ]
    return found + [(path.split(".")[0], f"{path}: is {name} still read?") for path, name in report["unread"]]


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strict", action="store_true", help="exit with 1 when something broke")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "newest", help="where the environment is made")
    options = parser.parse_args(argv)
    groups = environment.project()
    pins = dict(pin.split("==") for group in ("course", "gpu") for pin in groups[group])
    python = options.folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(options.folder)], check=True)
    error = install(python, pins)
    if error:
        print(f"The newest releases could not be installed together: {error}")
        return int(options.strict)
    installed = json.loads(subprocess.check_output([str(python), "-c", _PROBE, *pins], text=True))
    problems = problems_with(python)
    text = table(rows(pins, installed, problems))
    (options.folder / "newest.md").write_text(text + "\n", encoding="utf-8")
    print(text, f"{len(problems)} problems; the table is in {options.folder / 'newest.md'}", sep="\n\n")
    return int(options.strict and bool(problems))


if __name__ == "__main__":
    sys.exit(main())
