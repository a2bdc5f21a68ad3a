"""Rows to files and to datasets.Dataset, and back from a Dataset."""

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..errors import LorakitError

__all__ = ["from_dataset", "to_dataset", "write_rows"]

_TURN_COLUMNS = ("messages", "conversations", "prompt", "completion")


def write_rows(path, rows: Iterable[dict]) -> int:
    """Write rows as UTF-8 JSON lines (``.jsonl``) or one JSON list (``.json``), whole or not at all.

    Returns:
        The number of rows written.

    Raises:
        LorakitError: for another suffix, a row that JSON cannot say (with its number), or a place that cannot be written;
            a file that was there before is then left as it was.

    Example:
        >>> folder = tempfile.mkdtemp()
        >>> write_rows(f"{folder}/two.jsonl", [{"instruction": "Hi", "output": "Hello"}] * 2)
        2
    """
    path = Path(path)
    if path.suffix not in (".json", ".jsonl"):
        raise LorakitError(f"data file {path}", got=path.suffix or "no suffix", expected=".json or .jsonl", do="Rename it.")
    as_list = path.suffix == ".json"
    count, temporary = 0, None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(b"[" if as_list else b"")
            for count, row in enumerate(rows, 1):
                file.write(
                    (b",\n" if as_list and count > 1 else b"") + _line(row, f"row {count}") + (b"" if as_list else b"\n")
                )
            file.write(b"]\n" if as_list else b"")
        os.chmod(temporary, 0o644)  # mkstemp makes it private
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise LorakitError(
            f"could not write {path}", got=error.strerror or str(error), expected="a writable place with room",
            do="Nothing was changed. Free some space or fix the folder's permissions, then run this again.",
        ) from error  # fmt: skip
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
    return count


def _line(row, where: str) -> bytes:
    try:
        if not isinstance(row, dict):
            raise TypeError(f"a {type(row).__name__}, not a dict")
        return json.dumps(row, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        got = "half a character (a cut emoji)" if isinstance(error, UnicodeEncodeError) else str(error)[:120]
        raise LorakitError(where, got=got, expected="text, numbers, lists and dicts", do="Mend this row first.") from error


def to_dataset(rows: Iterable[dict]):
    """Rows as a ``datasets.Dataset``.

    Raises:
        LorakitError: when there are no rows or a column mixes types, which a Dataset cannot hold.
    """
    from datasets import Dataset

    rows = list(rows)
    if not rows:
        raise LorakitError("rows", got="none", expected="at least one", do="Read or make some rows first.")
    names = dict.fromkeys(name for row in rows for name in row)
    try:
        return Dataset.from_list([{name: row.get(name) for name in names} for row in rows])
    except (TypeError, ValueError, OverflowError) as error:  # pyarrow's own errors are among them
        raise LorakitError(
            "rows", got=" ".join(str(error).split())[:160], expected="one type for each column and key",
            do="Keep only the columns you train on, or write the odd values as text.",
        ) from error  # fmt: skip


def from_dataset(dataset) -> list[dict]:
    """The rows of a ``datasets.Dataset`` as plain dicts.

    A Dataset gives every turn the same keys and fills missing ones with None; those are taken out of turns again, since no
    key and a key that is None mean the same to a chat template. ``content`` stays, and columns stay as they are.

    Raises:
        LorakitError: for a ``DatasetDict`` (choose a split) or anything else without columns.
    """
    if isinstance(dataset, dict):
        splits = ", ".join(map(repr, dataset))
        raise LorakitError("dataset", got=f"the splits {splits}", expected="one split", do='Choose one, like dataset["train"].')
    if not hasattr(dataset, "column_names"):
        raise LorakitError("dataset", got=type(dataset).__name__, expected="a datasets.Dataset", do="Pass rows as they are.")
    return [_without_nulls(row) for row in dataset]


def _without_nulls(row: dict) -> dict:
    return {name: _plain(value) if name in _TURN_COLUMNS else value for name, value in row.items()}


def _plain(value):
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items() if one is not None or key == "content"}
    return value
