"""JSON and JSON-lines files, row by row: every fault is named with its line, and no row is lost without a word.

Standard json decides what is JSON, for a list as for lines, so both read alike (a key given twice and NaN are refused,
which json alone would let pass). A list is decoded element by element from a buffer: the file is never in memory whole.
"""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

from ..errors import LorakitError
from .strictjson import BLOCK, DECODER, MAX_ROW_BYTES, Window, fault, json_fault, too_long

__all__ = ["MAX_ROW_BYTES", "iter_rows", "read_rows", "reject"]

_ELSEWHERE = {
    b"PAR1": "a Parquet file", b"\x1f\x8b": "a gzip file", b"PK\x03\x04": "a zip file", b"GGUF": "a GGUF model",
    b"\x89PNG": "a PNG picture", b"\xff\xd8\xff": "a JPEG picture", b"GIF8": "a GIF picture", b"%PDF": "a PDF document",
}  # fmt: skip
_HOW = {
    "a Parquet file": "Open it with datasets.load_dataset('parquet', data_files=...) and lorakit_helpers.data.from_dataset.",
    "a gzip file": "Unpack it with gunzip first.",
    "a zip file": "Unpack it first.",
}


def iter_rows(path, *, problems: list | None = None) -> Iterator[tuple[int, dict]]:
    """Rows of a .json or .jsonl file with their line numbers; what the file holds decides, not its name.

    Args:
        path: a UTF-8 file: one JSON object on each line, or one JSON list of objects.
        problems: where unreadable rows are put as LorakitErrors so that reading goes on; None raises the first.
            After broken syntax inside a list nothing more can be told apart, so the problem speaks for the rest.

    Yields:
        ``(line, row)``, the line counted from 1 where the row begins.

    Raises:
        LorakitError: for what is no such file at all (missing, a folder, empty, CSV, Parquet …), and for the first
            unreadable row when ``problems`` is None.
    """
    path = Path(path)
    try:
        file = open(path, "rb")
    except OSError as error:
        got = "a folder" if path.is_dir() else "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise LorakitError(
            f"data file {path}", got=got, expected="a .json or .jsonl file", do="Check the path and its permissions."
        ) from error
    with file:
        found = 0
        before = len(problems or ())
        for line, row in _checked(file, path, problems):
            found += 1
            yield line, row
        if not found and len(problems or ()) == before:
            raise LorakitError(f"data file {path}", got="no rows", expected="at least one", do="Is it the right file?")


def read_rows(path, *, problems: list | None = None) -> list[dict]:
    """All rows of a file as a list; arguments and errors as for :func:`iter_rows`."""
    return [row for _, row in iter_rows(path, problems=problems)]


def reject(error: LorakitError, problems: list | None) -> None:
    """Put a fault where it was asked for, or raise it.

    Example:
        >>> faults = []
        >>> reject(LorakitError("row 1", got="nothing"), faults)
        >>> print(*faults)
        row 1: got nothing.
    """
    if problems is None:
        raise error
    problems.append(error)


def _checked(file, path: Path, problems) -> Iterator[tuple[int, dict]]:
    start = file.read(4096)
    file.seek(0)
    _refuse_other_kinds(start, path)
    skipped = 0
    if start.startswith(codecs.BOM_UTF8):
        file.seek(skipped := len(codecs.BOM_UTF8))
    text = start[skipped:].lstrip()
    rows = _list_rows(file, path, problems) if text[:1] == b"[" else _line_rows(file, path, problems)
    if not skipped:
        yield from rows
        return
    for number, (line, row) in enumerate(rows):
        if number:
            yield line, row
        else:
            bom = "the byte order mark 0xef 0xbb 0xbf before the row"
            reject(fault(f"{path}, line {line}", bom, "UTF-8 text", "Save the file as UTF-8 without BOM."), problems)


def _refuse_other_kinds(start: bytes, path: Path) -> None:
    where = f"data file {path}"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise LorakitError(where, got="UTF-16 text", expected="UTF-8 text", do="Save the file as UTF-8.")
    for magic, kind in _ELSEWHERE.items():
        if start.startswith(magic):
            raise LorakitError(where, got=kind, expected="JSON or JSON lines", do=_HOW.get(kind, "Is it the right file?"))
    text = start.removeprefix(codecs.BOM_UTF8).lstrip()
    line = text.split(b"\n", 1)[0].rstrip()
    shown = ascii(line[:60].decode("utf-8", "replace"))
    separator = next((mark for mark in (b",", b"\t", b";") if mark in line), None)
    if text[:1] not in (b"{", b"[", b"") and separator and not text.startswith((b'{"', b"[{")):
        raise LorakitError(
            f"{path}, line 1", got=f"what looks like a CSV header, {shown}", expected="a JSON object or list",
            do="Read it with pandas.read_csv(path).to_dict('records') and save that with write_rows.",
        )  # fmt: skip
    if text[:1] == b"{" and b"\n" in text and line.endswith((b"{", b"[", b",")):
        raise LorakitError(
            f"{path}, line 1", got=f"an object spread over several lines, {shown}", expected="one whole object on each line",
            do="Put each row on one line, or all rows into one list: [ {...}, {...} ].",
        )  # fmt: skip


def _not_an_object(where: str, value) -> LorakitError:
    kind = {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
    return fault(where, kind, 'a JSON object like {"messages": [...]}', "Each row is one object with named fields.")


def _line_rows(file, path: Path, problems) -> Iterator[tuple[int, dict]]:
    decode, number = DECODER.raw_decode, 0
    while raw := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(raw) > MAX_ROW_BYTES and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(BLOCK)
            reject(too_long(f"{path}, line {number}"), problems)
            continue
        if raw.isspace():
            continue
        try:
            text = raw.decode("utf-8").rstrip(" \t\r\n")
            row, end = decode(text, 0 if text[0] == "{" else len(text) - len(text.lstrip(" \t")))
            if end != len(text):
                raise json.JSONDecodeError("more text after the object", text, len(text) - len(text[end:].lstrip(" \t")))
        except UnicodeDecodeError as error:
            where = f"{path}, line {number}, byte {error.start + 1}"
            reject(fault(where, f"byte 0x{raw[error.start]:02x}", "UTF-8 text", "Save the file as UTF-8."), problems)
        except (ValueError, RecursionError) as error:
            reject(json_fault(f"{path}, line {number}", error), problems)
        else:
            if type(row) is dict:
                yield number, row
            else:
                reject(_not_an_object(f"{path}, line {number}", row), problems)


def _list_rows(file, path: Path, problems) -> Iterator[tuple[int, dict]]:
    text = Window(file, path)
    try:
        text.step("[")
        if text.peek() != "]":
            while True:
                text.peek()
                line = text.line
                row = text.value()
                if type(row) is dict:
                    yield line, row
                else:
                    reject(_not_an_object(f"{path}, line {line}", row), problems)
                if text.peek() == "]":
                    break
                text.step(",")
        text.step("]")
        if text.peek():
            text.step("the end of the file after the list")
    except LorakitError as error:
        if problems is None:
            raise
        error.args = (f"{error} Nothing after this place was read.",)
        problems.append(error)
