"""Files that are either whole or absent: atomic writes, hashes, and the project's folders."""

import hashlib
import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

from .errors import LorakitError

__all__ = ["atomic_folder", "atomic_write_text", "cache_dir", "fingerprint", "need_space", "project_root", "sha256_of"]


def project_root() -> Path:
    """The course folder: ``LORAKIT_HOME``, else the nearest folder upwards that holds ``data/tickets``.

    Raises:
        LorakitError: when no such folder exists.
    """
    home = os.environ.get("LORAKIT_HOME")
    places = [Path(home)] if home else [*_upwards(Path.cwd()), Path(__file__).resolve().parent.parent]
    for place in places:
        if (place / "data" / "tickets").is_dir():
            return place
    raise LorakitError(
        "course folder",
        got=str(places[0]),
        expected="a folder that holds data/tickets",
        do="Start from inside the course folder, or set LORAKIT_HOME to it.",
    )


def _upwards(start: Path) -> list[Path]:
    start = start.resolve()
    return [start, *start.parents]


def cache_dir() -> Path:
    """Where the base model is kept: ``LORAKIT_CACHE``, else the user's cache folder for "lorakit"."""
    from platformdirs import user_cache_path

    folder = os.environ.get("LORAKIT_CACHE")
    return Path(folder).expanduser() if folder else user_cache_path("lorakit")


def sha256_of(path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits, read in blocks."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint(value) -> str:
    """A short, stable hash (16 hexadecimal digits) of anything JSON can say."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def atomic_write_text(path, text: str) -> Path:
    """Write UTF-8 text under a temporary name, then rename, so that no reader sees half a file."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise _write_error(path, error) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise _write_error(path, error) from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


@contextmanager
def atomic_folder(target):
    """Build a folder beside its final place and swap it in only when the block succeeds.

    Yields:
        A temporary folder to write into. On an exception it is removed and ``target`` is left as it was.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}.new-"))
    except OSError as error:
        raise _write_error(target, error) from error
    try:
        yield temporary
        os.chmod(temporary, 0o755)  # mkdtemp makes it private
        old = target.with_name(f".{target.name}.old-{os.getpid()}")
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(temporary, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _write_error(target, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def need_space(folder, gib: float, what: str, *, variable: str | None = None) -> None:
    """Raise before a write that cannot fit.

    Args:
        folder: where the bytes will go; its nearest existing parent is asked.
        gib: GiB (2**30 bytes) needed.
        what: what will be written, for the message.
        variable: the environment variable that moves the folder; None where the caller chose it.
    """
    folder = next(place for place in _upwards(Path(folder)) if place.exists())
    free = shutil.disk_usage(folder).free / 2**30
    if free < gib:
        elsewhere = f"set {variable} to a folder on another disk" if variable else "choose a folder on another disk"
        raise LorakitError(
            f"disk space for {what} in {folder}",
            got=f"{free:.2f} GiB free",
            expected=f"at least {gib:.2f} GiB",
            do=f"Free some space, or {elsewhere}.",
        )


def _write_error(path, error: OSError) -> LorakitError:
    return LorakitError(
        f"could not write {path}",
        got=error.strerror or str(error),
        expected="a writable place with room",
        do="Nothing was changed. Free some space or fix the folder's permissions, then run this again.",
    )
