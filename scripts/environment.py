"""Write the conda environments from pyproject.toml, the one list of what the course needs, and check the lock files.

python scripts/environment.py           # write environment.yml (CPU) and environment-gpu.yml
python scripts/environment.py --check   # write nothing; say what differs, 1 when something does
python scripts/environment.py --wheels 3.12 3.13   # ask the registry what cpu.lock has for other Pythons (a minute each)
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: PyTorch's own CPU wheels, as in bootstrap.py: on Linux the plain registry serves a CUDA build of several GB.
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
#: Pure Python without a wheel on the registry: its source is the same for every Python.
SOURCE_ONLY = "rouge-score"

_HEAD = """\
# Written by scripts/environment.py from pyproject.toml: change it there. {use}
# conda or mamba: `conda env create -f {file}`, then `conda activate lorakit`{then}
name: lorakit
channels:
  - conda-forge
dependencies:
  - python=3.11
  - make
  - pip
  - pip:
"""


def project(root: Path = ROOT) -> dict:
    """pyproject.toml's pins: ``{"course": …, "gpu": …, "test": …, "gguf": …}``, each a list of ``name==version``."""
    table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    extras = table["project"]["optional-dependencies"]
    return {"course": table["project"]["dependencies"], **extras, "gguf": table["dependency-groups"]["gguf"]}


def environments(pins: dict) -> dict[str, str]:
    """The text of both conda files by name.

    The CPU one is held to the lock. Unsloth is added to it afterwards without its requirements, which are for a GPU.
    """
    then = ", then\n# `pip install --no-deps -r requirements/cpu.lock`, which adds Unsloth without its GPU-only requirements."
    cpu = [f"--extra-index-url {CPU_INDEX}", "-c requirements/cpu.lock", *pins["course"], *pins["test"]]
    gpu = [*pins["course"], *pins["gpu"], *pins["test"]]
    heads = {
        "environment.yml": _HEAD.format(use="For a CPU.", file="environment.yml", then=then),
        "environment-gpu.yml": _HEAD.format(use="Not run on a GPU yet.", file="environment-gpu.yml", then="."),
    }
    lists = dict(zip(heads, (cpu, gpu), strict=True))
    return {name: head + "".join(f"      - {line}\n" for line in [*lists[name], "-e ."]) for name, head in heads.items()}


def differences(root: Path = ROOT) -> list[str]:
    """One sentence for every file or locked pin that does not follow from pyproject.toml."""
    pins = project(root)
    found = []
    for name, text in environments(pins).items():
        path = root / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            found.append(f"{name} does not follow from pyproject.toml. Run `python scripts/environment.py`.")
    for name, groups in (("cpu.lock", ("course", "gpu", "test")), ("gguf.lock", ("gguf",))):
        locked = versions((root / "requirements" / name).read_text(encoding="utf-8").splitlines())
        for package, version in versions(pin for group in groups for pin in pins[group]).items():
            if locked.get(package) != version:
                have = locked.get(package, "nothing")
                found.append(f"requirements/{name}: expected {package}=={version} as in pyproject.toml, got {have}.")
    return found


def versions(lines) -> dict[str, str]:
    """``{normal name: version}`` of the lines that pin one; names compare as packaging does (PEP 503)."""
    pinned = (line.split("#")[0].strip().partition("==") for line in lines)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, equals, version in pinned if equals}


def dry_run(*arguments) -> tuple[list[dict], str]:
    """What pip would install, and its errors; nothing is installed, and wheels are not fetched where metadata suffices."""
    command = [
        sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-", "--retries", "1",
        "--only-binary=:all:", f"--no-binary={SOURCE_ONLY}", *map(str, arguments),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return [], done.stderr
    return json.loads(done.stdout[done.stdout.index("{") :])["install"], ""


def without_wheel(python: str, lines: list[str]) -> tuple[list[dict], list[str]]:
    """What pip would install on another Python, and the pins that the registry has nothing for there.

    Raises:
        RuntimeError: with pip's words, when it fails for another reason, such as no network.
    """
    missing = []
    with tempfile.TemporaryDirectory() as scratch:
        wanted = Path(scratch) / "wanted.txt"
        while True:
            wanted.write_text("\n".join(lines), encoding="utf-8")
            given = ["--no-deps", "--python-version", python, "--target", scratch, "-r", wanted]
            found, errors = dry_run(*given)
            bad = re.findall(r"No matching distribution found for (\S+)", errors)
            if not errors:
                return found, missing
            if not bad or bad[0] not in lines or re.search("connection|resolution|timed out", errors, re.I):
                raise RuntimeError(errors.strip().splitlines()[-1])
            missing.append(bad[0])
            lines = [line for line in lines if line != bad[0]]


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    parser.add_argument("--wheels", nargs="+", metavar="PYTHON", default=[], help="Python versions to ask the registry about")
    options = parser.parse_args(argv)
    if options.wheels:
        lock = (ROOT / "requirements" / "cpu.lock").read_text(encoding="utf-8").splitlines()
        for python in options.wheels:
            found, missing = without_wheel(python, [line for line in lock if "==" in line and not line.startswith("#")])
            print(f"Python {python}: {len(found)} of {len(found) + len(missing)} locked packages", *missing)
        return 0
    if not options.check:
        for name, text in environments(project()).items():
            (ROOT / name).write_text(text, encoding="utf-8")
    problems = differences()
    print("\n".join(problems) or "The conda files and the locks follow from pyproject.toml.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
