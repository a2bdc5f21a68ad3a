"""Each library call of the course held against what is installed."""

import tomllib
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from ..files import project_root
from .calls import Call, Use, course_sources, read_source
from .signatures import UNSLOTH, Accepts, Gone, accepted, find, unsloth_accepts

__all__ = ["Finding", "Report", "check", "libraries"]


@dataclass(frozen=True)
class Finding:
    """One thing the installed library does not have any more."""

    where: str
    path: str
    problem: str

    def __str__(self):
        return f"{self.where}: {self.path}: {self.problem}"


@dataclass(frozen=True)
class Report:
    """What was looked at and what was found.

    Attributes:
        files: files read, a notebook and its solutions counted as one.
        names: names of libraries looked up, each place counted.
        calls, keywords: calls held against a signature, and keywords in them.
        unsloth_calls: of the calls, those held against the source of Unsloth's GPU classes.
        unread: (path, keyword) that go into ``**kwargs`` of which nothing here says what is read.
        findings: what is gone.
    """

    files: int
    names: int
    calls: int
    keywords: int
    unsloth_calls: int
    unread: tuple[tuple[str, str], ...]
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self):
        return (
            f"{self.calls} calls with {self.keywords} keywords and {self.names} names in {self.files} files "
            f"({self.unsloth_calls} calls against the source of Unsloth's GPU classes): {len(self.findings)} gone"
        )


def libraries(root: Path | None = None) -> frozenset[str]:
    """Top-level modules of pyproject.toml's direct dependencies and of Unsloth."""
    pins = tomllib.loads(((root or project_root()) / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {_normal(pin.split("==")[0]) for pin in (*pins["dependencies"], *pins["optional-dependencies"]["gpu"])}
    return frozenset(top for top, owners in packages_distributions().items() if names & set(map(_normal, owners)))


def _normal(name):
    return name.lower().replace("_", "-")


def check(sources: dict | None = None, *, names=None, unsloth_root: Path | None = None) -> Report:
    """Look up every name, and hold every call's keywords against the installed callable.

    Args:
        sources: as :func:`course_sources` gives them, which None means.
        names: top-level modules that count as libraries; None asks pyproject.toml.
        unsloth_root: folder with the packages ``unsloth`` and ``unsloth_zoo``; None means the installed ones.
    """
    sources, names = sources or course_sources(), names or libraries()
    uses, calls = [], []
    for pieces in sources.values():
        more = read_source(pieces, names)
        uses, calls = uses + more[0], calls + more[1]
    findings = [gone for use in uses for gone in _missing(use)]
    unread, from_source = [], sum(bool(_unsloth_places(call)) for call in calls)
    for call in calls:
        found = _judge(call, unsloth_root)
        findings, unread = findings + found[0], unread + found[1]
    keywords = sum(len(call.keywords) for call in calls)
    once = (tuple(dict.fromkeys(some)) for some in (unread, findings))
    return Report(len(sources), len(uses), len(calls), keywords, from_source, *once)


def _judge(call: Call, root):
    """Findings and unread keywords of a call."""
    places = _unsloth_places(call)
    if places:  # on a GPU and on a CPU: all of them must take the call
        held = [_held(call, ".".join(filter(None, place[:3])), _unsloth(place, root)) for place in places]
        return [gone for findings, _ in held for gone in findings], []
    tried = [_held(call, path, _accepted(path)) for path in call.paths]  # the variable may be any of these: one must take it
    return min(tried, key=lambda found: (len(found[0]), len(found[1])))


@cache
def _accepted(path):
    try:
        return accepted(path)
    except Gone as gone:
        return gone


def _missing(use: Use) -> list[Finding]:
    if use.paths[0].startswith(("unsloth.", "unsloth_zoo.")):
        return []  # read from its source instead
    problems = []
    for path in use.paths:
        try:
            find(path)
            return []
        except Gone as gone:
            problems.append(Finding(use.where, path, str(gone)))
    return problems[:1]


def _unsloth_places(call: Call):
    path = call.paths[0]
    return UNSLOTH.get(path.removeprefix("unsloth.") if path.startswith("unsloth.") else path.rsplit(".", 1)[-1], ())


def _unsloth(place, root):
    try:
        return unsloth_accepts(*place, root=root)
    except Gone as gone:
        return gone


def _held(call: Call, path: str, accepts) -> tuple[list[Finding], list[tuple[str, str]]]:
    """What is wrong with the call, and its keywords that nothing here can judge."""
    if not isinstance(accepts, Accepts):
        return [Finding(call.where, path, str(accepts))], []
    strange = [name for name in call.keywords if name not in accepts.names]
    if strange and not accepts.open:
        return [Finding(call.where, path, f"no keyword {', '.join(strange)}")], []
    if -1 not in (call.positional, accepts.positional) and call.positional + call.instance > accepts.positional:
        problem = f"{call.positional} values by position, it takes {accepts.positional - call.instance}"
        return [Finding(call.where, path, problem)], []
    return [], [(path, name) for name in strange]
