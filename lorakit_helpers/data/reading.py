"""JSON and JSON-lines files, row by row: every fault is named with its line, and no row is lost without a word.

Standard json decides what is JSON, for a list as for lines, so both read alike (a key given twice and NaN are refused,
which json alone would let pass). A list is decoded element by element from a buffer: the file is never in memory whole.
"""

import codecs
import json
from collections.abc import Iterator
from pathlib import Path

from ..errors import LorakitError

__all__ = ["MAX_ROW_BYTES", "iter_rows", "read_rows", "reject"]

#: A longer row is refused: no model of the course reads that much, and it is usually a file without line breaks.
MAX_ROW_BYTES = 16 * 2**20
_BLOCK = 2**16
_ELSEWHERE = {b"PAR1": "a Parquet file", b"\x1f\x8b": "a gzip file", b"PK\x03\x04": "a zip file", b"GGUF": "a GGUF model"}
_HOW = {
    "a Parquet file": "Open it with datasets.load_dataset('parquet', data_files=...) and lorakit_helpers.data.from_dataset.",
    "a gzip file": "Unpack it with gunzip first.",
    "a zip file": "Unpack it first.",
}


class _KeyTwiceError(ValueError):
    """A JSON object names a key twice; json alone would keep the last one silently."""


def _no_key_twice(pairs: list[tuple]) -> dict:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise _KeyTwiceError(next(name for name in names if names.count(name) > 1))
    return made


def _no_nan(word: str):
    raise ValueError(f"{word} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_no_key_twice, parse_constant=_no_nan)


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
            reject(_fault(f"{path}, line {line}", bom, "UTF-8 text", "Save the file as UTF-8 without BOM."), problems)


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


def _fault(where: str, got: str, expected: str, do: str) -> LorakitError:
    return LorakitError(where, got=got, expected=expected, do=do)


def _too_long(where: str) -> LorakitError:
    limit = f"at most {MAX_ROW_BYTES // 2**20} MiB in one row"
    return _fault(where, "more", limit, "Is a line break missing between rows? Split long texts into several rows.")


def _json_fault(where: str, error: Exception, column: int | None = None) -> LorakitError:
    if isinstance(error, _KeyTwiceError):
        return _fault(f"{where}, {error}", "the key twice", "once", "Remove one of them.")
    if isinstance(error, RecursionError):
        return _fault(where, "brackets nested too deeply", "a plain object", "Flatten the row.")
    column = error.colno if column is None and isinstance(error, json.JSONDecodeError) else column
    place = f"{where}, column {column}" if column else where
    got = getattr(error, "msg", None) or str(error)
    fix = "Check for a missing quote or brace, or a line break inside the object."
    return _fault(place, got, "one whole JSON object", fix)


def _not_an_object(where: str, value) -> LorakitError:
    kind = {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
    return _fault(where, kind, 'a JSON object like {"messages": [...]}', "Each row is one object with named fields.")


def _line_rows(file, path: Path, problems) -> Iterator[tuple[int, dict]]:
    decode, number = _DECODER.raw_decode, 0
    while raw := file.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(raw) > MAX_ROW_BYTES and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(_BLOCK)
            reject(_too_long(f"{path}, line {number}"), problems)
            continue
        if raw.isspace():
            continue
        try:
            text = raw.decode("utf-8").strip(" \t\r\n")
            row, end = decode(text)
            if end != len(text):
                raise json.JSONDecodeError("more text after the object", text, end)
        except UnicodeDecodeError as error:
            where = f"{path}, line {number}, byte {error.start + 1}"
            reject(_fault(where, f"byte 0x{raw[error.start]:02x}", "UTF-8 text", "Save the file as UTF-8."), problems)
        except (ValueError, RecursionError) as error:
            reject(_json_fault(f"{path}, line {number}", error), problems)
        else:
            if type(row) is dict:
                yield number, row
            else:
                reject(_not_an_object(f"{path}, line {number}", row), problems)


def _list_rows(file, path: Path, problems) -> Iterator[tuple[int, dict]]:
    text = _Buffer(file, path)
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


class _Buffer:
    """A window on a text file that knows its line; only as much is held as the current element needs."""

    def __init__(self, file, path):
        self.file, self.path = file, path
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text, self.at, self.line, self.ended = "", 0, 1, False

    def fill(self) -> None:
        self.text = self.text[self.at :]
        self.at = 0
        raw = self.file.read(max(_BLOCK, len(self.text)))  # doubling keeps the retries of a long element linear
        self.ended = not raw
        try:
            self.text += self.decoder.decode(raw, final=self.ended)
        except UnicodeDecodeError as error:
            line = self.line + self.text.count("\n") + error.object.count(b"\n", 0, error.start)
            got = f"byte 0x{error.object[error.start]:02x}"
            raise _fault(f"{self.path}, line {line}", got, "UTF-8 text", "Save the file as UTF-8.") from error

    def advance(self, to: int) -> None:
        self.line += self.text.count("\n", self.at, to)
        self.at = to

    def peek(self) -> str:
        """The next character that is not white space, or "" at the end of the file."""
        while True:
            end = self.at
            while end < len(self.text) and self.text[end] in " \t\r\n":
                end += 1
            self.advance(end)
            if end < len(self.text):
                return self.text[end]
            if self.ended:
                return ""
            self.fill()

    def step(self, mark: str) -> None:
        got = self.peek()
        if got != mark:
            got = repr(got) if got else "the end of the file"
            raise _fault(f"{self.path}, line {self.line}", got, mark, "Check for a missing comma, quote, brace or bracket.")
        self.advance(self.at + 1)

    def value(self):
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
                if end == len(self.text) and not self.ended:
                    self.fill()  # a number might go on
                    continue
                self.advance(end)
                return value
            except json.JSONDecodeError as error:
                if len(self.text) - self.at > MAX_ROW_BYTES:
                    raise _too_long(f"{self.path}, line {self.line}") from error
                if not self.ended:
                    self.fill()
                    continue
                line = self.line + self.text.count("\n", self.at, error.pos)
                raise _json_fault(f"{self.path}, line {line}", error, column=0) from error
            except (ValueError, RecursionError) as error:
                raise _json_fault(f"{self.path}, line {self.line}", error) from error
