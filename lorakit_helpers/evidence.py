"""What the learner's runs have left in ``outputs/``: adapters with their notes, evaluation reports, judged claims."""

import json
import math
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from .errors import LorakitError
from .evalreport import BASELINE, EvalReport, read_report
from .files import project_root, sha256_of

__all__ = ["AdapterFound", "Evidence", "ReportFound", "find_evidence"]


@dataclass(frozen=True)
class AdapterFound:
    """An adapter's folder.

    Attributes:
        name: relative to ``adapters/``.
        base: the base model its configuration names.
        recipe, log: what ``lorakit_run.json`` says; None where it says nothing usable.
        key: fingerprint of recipe, training rows, base and engine; ``""`` where unknown.
        saved: when its weights were written, ISO 8601.
        size_mib: of the weights, in MiB.
        weights: their file.
    """

    name: str
    base: str
    recipe: dict | None
    log: dict | None
    key: str
    saved: str
    size_mib: float
    weights: Path

    def __str__(self):
        return f"{self.name}, {self.size_mib:.1f} MiB, on {self.base}"

    @property
    def sha256(self) -> str:
        """Of the weights; reads them all."""
        return sha256_of(self.weights)

    def to_dict(self) -> dict:
        return asdict(self) | {"weights": str(self.weights)}


@dataclass(frozen=True)
class ReportFound:
    """An evaluation report, when it was written (ISO 8601), and its file's name."""

    report: EvalReport
    written: str
    file: str

    def __str__(self):
        return f"{self.file}, written {self.written[:10]}"

    def to_dict(self) -> dict:
        return {"report": self.report.to_dict(), "written": self.written, "file": self.file}


@dataclass(frozen=True)
class Evidence:
    """All that was found in one results folder.

    Attributes:
        folder: ``outputs`` or ``outputs/smoke``.
        quick: whether it holds quick checks of the smoke profile only.
        adapters: newest first, the tickets adapter before all others.
        reports: newest first.
        claims: verdicts that notebooks left, as :func:`lorakit_helpers.claims.read_claims` gives them.
        notes: sentences on files that could not be read.
    """

    folder: Path
    quick: bool
    adapters: tuple[AdapterFound, ...]
    reports: tuple[ReportFound, ...]
    claims: tuple
    notes: tuple[str, ...]

    def __str__(self):
        counts = ((len(self.adapters), "adapter"), (len(self.reports), "evaluation report"), (len(self.claims), "judged claim"))
        return ", ".join(f"{n} {name}{'s' if n != 1 else ''}" for n, name in counts)

    def to_dict(self) -> dict:
        lists = {name: [found.to_dict() for found in getattr(self, name)] for name in ("adapters", "reports", "claims")}
        return {"folder": str(self.folder), "quick": self.quick, **lists, "notes": list(self.notes)}

    @property
    def adapter(self) -> AdapterFound | None:
        """The one the course is about."""
        return self.adapters[0] if self.adapters else None

    def after(self) -> ReportFound | None:
        """The newest report on this very adapter: same name, same recipe and log as its folder says."""
        own = self.adapter
        return next((r for r in self.reports if own and _is_of(r.report, own)), None)

    def before(self) -> ReportFound | None:
        """The newest report of the untrained base model on the same test data as :meth:`after`."""
        after = self.after()
        hashed = after and after.report.data["hash"]
        fits = (r for r in self.reports if after and r.report.adapter == BASELINE and r.report.data["hash"] == hashed)
        return next(fits, None)


def find_evidence(root: Path | None = None) -> Evidence:
    """Look through ``outputs/``, or through ``outputs/smoke/`` where only quick checks were run.

    Args:
        root: the course folder; found by itself when None.
    """
    outputs = (root or project_root()) / "outputs"
    full = _in_folder(outputs, quick=False)
    if full.adapters or full.reports or full.claims:
        return full
    quick = _in_folder(outputs / "smoke", quick=True)
    return quick if quick.adapters or quick.reports or quick.claims else full


def _in_folder(folder: Path, quick: bool) -> Evidence:
    from .claims import read_claims

    adapters, reports, notes = [], [], []
    for config in sorted(folder.glob("adapters/**/adapter_config.json")):
        _keep(adapters, notes, config.parent.relative_to(folder), lambda path=config: _adapter(path, folder / "adapters"))
    for path in sorted(folder.glob("reports/*.json")):
        _keep(reports, notes, path.relative_to(folder), lambda path=path: _report(path))
    adapters.sort(key=lambda a: a.saved, reverse=True)
    adapters.sort(key=lambda a: a.name != "tickets")
    reports.sort(key=lambda r: r.written, reverse=True)
    return Evidence(folder, quick, tuple(adapters), tuple(reports), tuple(read_claims(folder / "claims")), tuple(notes))


def _keep(found: list, notes: list[str], name: Path, read) -> None:
    """Append what ``read`` gives, or a note where it cannot."""
    try:
        found.append(read())
    except (OSError, ValueError, KeyError, TypeError) as error:  # LorakitError is a ValueError
        reason = error.got if isinstance(error, LorakitError) else str(error).splitlines()[0] if str(error) else "damaged"
        notes.append(f"{name.as_posix()} could not be read: {reason}.")


def _adapter(config: Path, adapters: Path) -> AdapterFound:
    folder, weights = config.parent, config.parent / "adapter_model.safetensors"
    base = str(json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"])
    notes = {}
    if (folder / "lorakit_run.json").is_file():
        notes = dict(json.loads((folder / "lorakit_run.json").read_text(encoding="utf-8")))
    recipe, log = notes.get("recipe"), notes.get("log")
    return AdapterFound(
        folder.relative_to(adapters).as_posix(), Path(base).name, recipe if isinstance(recipe, dict) else None,
        log if _is_log(log) else None, str(notes.get("key") or ""), _time(weights), weights.stat().st_size / 2**20,
        weights,
    )  # fmt: skip


def _report(path: Path) -> ReportFound:
    report = read_report(path)
    for metric in report.metrics.values():
        if not all(isinstance(metric[end], int | float) for end in ("value", "low", "high")):
            raise ValueError("a metric without figures")
    return ReportFound(report, _time(path), path.name)


def _is_log(log) -> bool:
    """Whether a log can be drawn: as many steps as losses, all of them numbers."""
    if not isinstance(log, dict):
        return False
    steps, losses = log.get("steps"), log.get("losses")
    if not (isinstance(steps, list) and isinstance(losses, list) and len(steps) == len(losses)):
        return False
    single = [log.get(name) for name in ("max_steps", "step", "tokens", "seconds", "peak_gib")]
    return all(isinstance(x, int | float) and not isinstance(x, bool) and not math.isinf(x) for x in [*steps, *losses, *single])


def _is_of(report: EvalReport, adapter: AdapterFound) -> bool:
    same = report.adapter == adapter.name.rpartition("/")[2]
    return same and report.recipe == adapter.recipe and report.log == adapter.log


def _time(path: Path) -> str:
    return datetime.fromtimestamp(path.stat().st_mtime).astimezone().isoformat(timespec="seconds")
