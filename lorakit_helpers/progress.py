"""What the learner has done, kept in the course folder: ``outputs/progress.json``, no account, no network.

Every exercise check adds to it. Several kernels may write at once (a lock, then read, change, rename); a kill leaves the
old file or the new one, never half of one; a damaged file is put aside, never overwritten.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from .errors import LorakitError
from .files import atomic_write_text, project_root

__all__ = ["ExerciseRecord", "Progress", "progress_path", "read_progress", "record_check", "recording", "reset_progress"]

FORMAT = 1
_LOCK_S = 5.0  # another kernel holds the lock for some milliseconds
_said = []  # what this process has told the learner already: one sentence at most


@dataclass(frozen=True)
class ExerciseRecord:
    """What became of one exercise.

    Attributes:
        tries: answers checked until the first right one, that one included; a stub left as it was is no answer.
        first: when it was first checked, as ISO 8601 with the time zone.
        right: when it was first right, None while it is not.
    """

    tries: int
    first: str
    right: str | None = None

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Progress:
    """All exercises that were checked.

    Attributes:
        exercises: by identifier, for example ``"7.1"``.
        note: a sentence on a file that could not be used, else ``""``.
    """

    exercises: dict[str, ExerciseRecord] = field(default_factory=dict)
    note: str = ""

    def __str__(self):
        n, tried = len(self.right), sum(record.tries > 0 for record in self.exercises.values())
        return f"{n} exercise{'s' if n != 1 else ''} right, {tried - n} tried and not right yet"

    @property
    def right(self) -> tuple[str, ...]:
        """Identifiers of the exercises solved."""
        return tuple(key for key, record in self.exercises.items() if record.right)

    def to_dict(self) -> dict:
        return {"format": FORMAT, "exercises": {key: record.to_dict() for key, record in self.exercises.items()}}


def progress_path() -> Path:
    """The file, whether it exists or not."""
    return project_root() / "outputs" / "progress.json"


def recording() -> bool:
    """Whether this process keeps the learner's progress.

    Not with ``LORAKIT_PROGRESS=off`` (``lorakit run`` and the tests set it) and not in strict mode: the solutions are
    filled in then, and right answers would be nobody's.
    """
    return os.environ.get("LORAKIT_PROGRESS", "").lower() != "off" and not os.environ.get("LORAKIT_STRICT")


def read_progress(path=None) -> Progress:
    """What is recorded; empty where nothing is, or where :func:`recording` is off and no ``path`` is named.

    A damaged file is put aside first. A file that cannot be used raises nothing; the result's ``note`` says so.
    """
    if path is None and not recording():
        return Progress()
    try:
        path = Path(path or progress_path())
        try:
            return _load(path)
        except _Damaged:
            with _locked(path):
                return _load_or_put_aside(path)
    except (OSError, LorakitError) as error:
        return Progress(note=f"Progress cannot be shown: {_reason(error)}.")


def record_check(identifier: str, *, answered: bool, right: bool) -> None:
    """Add one exercise check. Says nothing, and never raises: an exercise must work on a full or read-only disk, too.

    Args:
        identifier: of the exercise.
        answered: False for a stub that returns nothing yet; it counts as reached, not as a try.
        right: whether the answer was right. Once right stays right.
    """
    if not recording():
        return
    try:
        note = _add(progress_path(), identifier, answered, right)
    except Exception as error:  # whatever it is, the exercise comes first
        note = f"(Your progress is not being kept: {_reason(error)}.)"
    if note and not _said:
        _said.append(note)
        print(note)


def reset_progress(path=None) -> Path | None:
    """Begin anew; the old file is kept under another name, which is returned (None where there was none).

    Raises:
        LorakitError: when the file cannot be renamed.
    """
    path = Path(path or progress_path())
    if not path.exists():
        return None
    try:
        with _locked(path):
            return _put_aside(path, "before-reset")
    except OSError as error:
        raise LorakitError(
            f"progress file {path}", got=_reason(error), expected="a file that can be renamed",
            do="Nothing was changed. Close other programs that use it, or fix the folder's permissions.",
        ) from error  # fmt: skip


class _Damaged(ValueError):
    """The file is there and is no progress file of this format."""


def _add(path: Path, identifier: str, answered: bool, right: bool) -> str:
    """Write the change if it is one; returns a note for the learner, mostly ``""``."""
    try:
        if _changed(_load(path).exercises.get(identifier), answered, right) is None:
            return ""  # nothing new: no lock, no write
    except _Damaged:
        pass
    path.parent.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        found = _load_or_put_aside(path)  # again: another kernel may have written in between
        record = _changed(found.exercises.get(identifier), answered, right)
        if record is not None:
            for left in path.parent.glob(f".{path.name}.*"):  # of a writer that was killed; all writers hold the lock
                left.unlink(missing_ok=True)
            new = Progress(found.exercises | {identifier: record})
            atomic_write_text(path, json.dumps(new.to_dict(), indent=1))
    return found.note


def _changed(old: ExerciseRecord | None, answered: bool, right: bool) -> ExerciseRecord | None:
    """The record after one more check, None when that adds nothing."""
    if old and (old.right or not answered):
        return None
    now = datetime.now().astimezone().isoformat(timespec="seconds")
    tries = (old.tries if old else 0) + bool(answered)
    return ExerciseRecord(tries, old.first if old else now, now if right else None)


def _locked(path: Path):
    from filelock import FileLock

    return FileLock(path.with_name(f"{path.name}.lock"), timeout=_LOCK_S)


def _load(path: Path) -> Progress:
    """Read the file.

    Raises:
        _Damaged: it is no progress file.
        LorakitError: it is one of another format.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found["format"]
    except FileNotFoundError:
        return Progress()
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _Damaged(str(error)) from error
    if isinstance(version, int) and version != FORMAT:
        age = "a newer" if version > FORMAT else "an older"
        raise LorakitError(
            f"progress file {path.name}", got=f"format {version}, by {age} version of the course", expected=f"format {FORMAT}",
            do="It is left as it is. Update the course, or begin anew with `lorakit progress --reset`, which keeps it.",
        )  # fmt: skip
    try:
        return Progress({key: _checked(ExerciseRecord(**record)) for key, record in found["exercises"].items()})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _Damaged(str(error)) from error


def _checked(record: ExerciseRecord) -> ExerciseRecord:
    for moment in (record.first, record.right) if record.right is not None else (record.first,):
        datetime.fromisoformat(moment)  # raises for anything else
    if isinstance(record.tries, bool) or not isinstance(record.tries, int) or record.tries < bool(record.right):
        raise ValueError(f"tries {record.tries!r}")
    return record


def _load_or_put_aside(path: Path) -> Progress:
    try:
        return _load(path)
    except _Damaged:
        kept = _put_aside(path, "damaged")
        return Progress(note=f"(The progress file was damaged: it is kept as {kept.name}, and a new one begins.)")


def _put_aside(path: Path, why: str) -> Path:
    """Rename to the first free of ``progress.<why>-1.json``, ``-2`` …; call it with the lock held."""
    number = 1
    while (kept := path.with_name(f"{path.stem}.{why}-{number}{path.suffix}")).exists():
        number += 1
    path.rename(kept)
    return kept


def _reason(error: Exception) -> str:
    if isinstance(error, LorakitError):
        return f"{error.what}: {error.got}" if error.got else str(error.what)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
