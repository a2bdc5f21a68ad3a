"""The set-up files agree with each other."""

import re
import subprocess
import sys
import tomllib

import pytest

from lorakit_helpers.files import project_root

ROOT = project_root()
PIN = re.compile(r"^\s*(?:- )?\"?([A-Za-z0-9_.-]+)==([^\s\",;]+)", re.M)


def pins(text: str) -> dict:
    return {name.lower().replace("_", "-"): version for name, version in PIN.findall(text)}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def wanted() -> dict:
    extras = project()["optional-dependencies"]
    return pins("\n".join([*project()["dependencies"], *extras["gpu"], *extras["test"]]))


def test_every_dependency_is_pinned_exactly():
    extras = project()["optional-dependencies"]
    assert len(wanted()) == len([*project()["dependencies"], *extras["gpu"], *extras["test"]])


def test_lock_and_conda_environments_carry_pyprojects_pins():
    lock, cpu, gpu = (
        pins((ROOT / name).read_text()) for name in ("requirements/cpu.lock", "environment.yml", "environment-gpu.yml")
    )
    assert {name: lock.get(name) for name in wanted()} == wanted()
    assert gpu == wanted()
    assert cpu == {name: version for name, version in wanted().items() if not name.startswith("unsloth")}


def test_the_lock_is_what_is_installed_here():
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    ).stdout
    installed = pins(listed.replace("+cpu", ""))
    lock = pins((ROOT / "requirements" / "cpu.lock").read_text())
    assert {name: installed.get(name) for name in lock} == lock


def test_the_lock_brings_no_cuda_packages():
    lock = pins((ROOT / "requirements" / "cpu.lock").read_text())
    assert not [name for name in lock if name.startswith(("nvidia", "triton", "cuda", "xformers"))]


@pytest.mark.parametrize("version", [(3, 9, 1), (3, 10, 14), (3, 14, 0)])
def test_a_python_that_the_project_does_not_allow_is_told_so_in_one_line(version):
    code = f"import sys; sys.version_info = {version}; sys.argv = ['bootstrap.py']; import runpy; "
    code += f"runpy.run_path({str(ROOT / 'scripts' / 'bootstrap.py')!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert f"expected 3.11, 3.12 or 3.13, got {'.'.join(map(str, version))}" in done.stderr
