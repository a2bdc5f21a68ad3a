"""One list, pyproject.toml, makes the conda files and holds the locks; the registry can serve it on every Python named."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from importlib.metadata import distributions
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

from lorakit_helpers.files import project_root

ROOT = project_root()
PYTHONS = ("3.11", "3.12", "3.13")


def script(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


environment = script("environment")


def lock_lines() -> list[str]:
    lines = (ROOT / "requirements" / "cpu.lock").read_text().splitlines()
    return [line for line in lines if "==" in line and not line.startswith("#")]


@pytest.fixture
def copy(tmp_path):
    for name in ("pyproject.toml", "environment.yml", "environment-gpu.yml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_conda_files_and_locks_follow_from_pyproject():
    assert environment.differences() == []


@pytest.mark.parametrize(
    ("name", "old", "new", "told"),
    [
        ("pyproject.toml", "peft==0.21.2", "peft==0.21.3", ["environment.yml", "environment-gpu", "cpu.lock: expected peft"]),
        ("pyproject.toml", "unsloth==", "unslot==", ["environment-gpu.yml", "cpu.lock: expected unslot=="]),
        ("environment.yml", "numpy==", "numpy>=", ["environment.yml"]),
        ("requirements/cpu.lock", "torch==2.13.0", "torch==2.12.0", ["cpu.lock: expected torch==2.13.0 as in pyproject"]),
        ("requirements/gguf.lock", "llama-cpp-python==", "# ", ["gguf.lock: expected llama-cpp-python"]),
    ],
)  # fmt: skip
def test_a_pin_changed_in_one_place_is_told(copy, name, old, new, told):
    change(copy / name, old, new)
    problems = environment.differences(copy)
    assert len(problems) == len(told)
    assert all(part in problem for part, problem in zip(told, problems, strict=True)), problems


def test_every_python_named_is_allowed_by_the_project_and_no_other():
    allowed = SpecifierSet(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"])
    assert [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}.0" in allowed] == list(PYTHONS)
    for name in ("environment.yml", "environment-gpu.yml"):
        python = next(d for d in yaml.safe_load((ROOT / name).read_text())["dependencies"] if str(d).startswith("python="))
        assert python.removeprefix("python=") in PYTHONS


def test_every_locked_package_allows_every_python_named():
    locked = environment.versions(lock_lines())
    wants = {canonicalize_name(d.name): d.metadata["Requires-Python"] or "" for d in distributions()}
    bad = [(name, wants[name]) for name in locked if not all(f"{v}.0" in SpecifierSet(wants[name]) for v in PYTHONS)]
    assert bad == [] and len(locked) > 150


def test_cpu_file_is_held_to_the_lock_and_takes_torch_from_where_bootstrap_does(monkeypatch):
    monkeypatch.delenv("LORAKIT_TORCH_INDEX", raising=False)
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    assert f"--extra-index-url {script('bootstrap').CPU_INDEX}" in lines
    constraint = next(line for line in lines if line.startswith("-c ")).removeprefix("-c ")
    assert (ROOT / constraint).is_file()


# The registry ---------------------------------------------------------------------------------------------------------

UNREACHABLE = re.compile(
    r"connection broken|Failed to establish|name resolution|timed out|ProxyError|from versions: none", re.I
)


def resolved(*arguments) -> dict[str, str]:
    """What pip would install, by name; skips where no registry answers, fails on anything else pip says."""
    found, errors = environment.dry_run(*arguments)
    if UNREACHABLE.search(errors) and environment.dry_run("--no-deps", "six")[1]:
        pytest.skip("no Python package registry answers here, so nothing was resolved")
    assert not errors, [line for line in errors.splitlines() if line.startswith("ERROR")]
    return {canonicalize_name(item["metadata"]["name"]): item["metadata"]["version"] for item in found}


@pytest.mark.network
def test_pip_resolves_the_cpu_file_to_exactly_the_locked_versions(tmp_path):
    lines = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    wanted = tmp_path / "wanted.txt"
    wanted.write_text("\n".join(line for line in lines if not line.startswith("-")))  # torch's own index may not answer here
    found = resolved("-c", ROOT / "requirements" / "cpu.lock", "-r", wanted)
    locked = environment.versions(lock_lines())
    found.pop("setuptools", None)  # bootstrap.py pins it beside the lock
    assert {name: version.removesuffix("+cpu") for name, version in found.items()} == {name: locked[name] for name in found}
    assert set(locked) - set(found) == {"unsloth", "unsloth-zoo"}  # come with --no-deps


@pytest.mark.network
def test_a_pin_the_registry_does_not_have_fails():
    with pytest.raises(AssertionError, match="numpy==0"):
        resolved("--no-deps", "numpy==0.0.7")


@pytest.mark.network
@pytest.mark.parametrize("python", [v for v in PYTHONS if v != "3.11"])
def test_every_compiled_package_of_the_lock_has_a_wheel_for(python):
    compiled = {canonicalize_name(d.name) for d in distributions() if "Root-Is-Purelib: false" in (d.read_text("WHEEL") or "")}
    lines = [line for line in lock_lines() if canonicalize_name(line.split("==")[0]) in compiled]
    resolved("--no-deps", "six")  # skips where no registry answers
    found, missing = environment.without_wheel(python, lines)
    assert missing == [] and len(found) == len(lines) > 30
    own = f"cp{python.replace('.', '')}"
    for item in found:
        tags = parse_wheel_filename(item["download_info"]["url"].rsplit("/", 1)[-1].replace("%2B", "+"))[3]
        assert any(tag.interpreter in (own, "py3") or tag.abi == "abi3" for tag in tags), item["download_info"]["url"]


def test_an_environment_without_pip_or_of_another_python_is_made_anew(tmp_path):
    bootstrap = script("bootstrap")
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    own = bare / bootstrap.os.path.relpath(bootstrap.venv_python(), bootstrap.VENV)
    assert own.exists() and not bootstrap.usable(str(own))
    assert bootstrap.usable(sys.executable) and not bootstrap.usable(str(tmp_path / "none"))
    other = SimpleNamespace(version_info=(3, 99, 0), executable=sys.executable)
    bootstrap.sys = other
    assert not bootstrap.usable(sys.executable)


def test_llama_cpps_parts_go_into_the_environment_that_is_named(tmp_path, monkeypatch):
    bootstrap, calls = script("bootstrap"), []
    monkeypatch.setattr(bootstrap, "run", lambda command, problem: calls.append([str(part) for part in command]))
    monkeypatch.setenv("CMAKE_ARGS", "")
    bootstrap.gguf("other-python", str(tmp_path))
    assert all(call[:4] == ["other-python", "-m", "pip", "install"] for call in calls)
    assert str(tmp_path / "share" / "lorakit-gguf") in calls[0] and any("llama-cpp-python" in part for part in calls[1])
    bootstrap.gguf("other-python", str(tmp_path))
    assert len(calls) == 2  # it is there


def test_what_other_systems_need_beside_the_lock_is_locked_too():
    """Requirements that the locked packages state for macOS or Windows alone, Unsloth's GPU backends apart."""
    systems = {
        "darwin": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "x86_64"},
        "win32": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
    }
    lines = (ROOT / "requirements" / "platform.lock").read_text().splitlines()
    extra = [Requirement(line) for line in lines if line and not line.startswith("#")]
    locked = set(environment.versions(lock_lines()))
    for system in systems.values():
        there = locked | {canonicalize_name(one.name) for one in extra if one.marker.evaluate(system)}
        wanted = {
            canonicalize_name(one.name): one
            for name in locked - {"unsloth", "unsloth-zoo"}
            for one in map(Requirement, metadata.requires(name) or [])
            if one.marker and one.marker.evaluate(system | {"extra": ""}) and not one.marker.evaluate({"extra": ""})
        }
        assert set(wanted) <= there
        for one in extra:
            if one.name in wanted:
                assert all(wanted[one.name].specifier.contains(pin.version) for pin in one.specifier)
