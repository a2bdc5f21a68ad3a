"""JSON, strictly: one decoder for lines and for lists, a window on a list too long to hold, and what is said of faults."""

import codecs
import json

from ..errors import LorakitError
from ..rows import KeyTwiceError, no_key_twice

__all__ = ["DECODER", "MAX_ROW_BYTES", "Window", "fault", "json_fault", "too_long"]

#: A longer row is refused: no model of the course reads that much, and it is usually a file without line breaks.
MAX_ROW_BYTES = 16 * 2**20
BLOCK = 2**16


def _no_nan(word: str):
    raise ValueError(f"{word} is not JSON")


DECODER = json.JSONDecoder(object_pairs_hook=no_key_twice, parse_constant=_no_nan)


def fault(where: str, got: str, expected: str, do: str) -> LorakitError:
    return LorakitError(where, got=got, expected=expected, do=do)


def too_long(where: str) -> LorakitError:
    limit = f"at most {MAX_ROW_BYTES // 2**20} MiB in one row"
    return fault(where, "more", limit, "Is a line break missing between rows? Split long texts into several rows.")


def json_fault(where: str, error: Exception, column: int | None = None) -> LorakitError:
    if isinstance(error, KeyTwiceError):
        return fault(f"{where}, {error}", "the key twice", "once", "Remove one of them.")
    if isinstance(error, RecursionError):
        return fault(where, "brackets nested too deeply", "a plain object", "Flatten the row.")
    column = error.colno if column is None and isinstance(error, json.JSONDecodeError) else column
    place = f"{where}, column {column}" if column else where
    got = getattr(error, "msg", None) or str(error)
    fix = "Check for a missing quote or brace, or a line break inside the object."
    return fault(place, got, "one whole JSON object", fix)


class Window:
    """A window on a text file that knows its line; only as much is held as the current element needs."""

    def __init__(self, file, path):
        self.file, self.path = file, path
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.text, self.at, self.line, self.ended, self.bad_byte = "", 0, 1, False, None

    def fill(self) -> None:
        self.text = self.text[self.at :]
        self.at = 0
        raw = self.file.read(max(BLOCK, len(self.text)))  # doubling keeps the retries of a long element linear
        self.ended = not raw
        try:
            self.text += self.decoder.decode(raw, final=self.ended)
        except UnicodeDecodeError as error:  # what comes before it is still read
            self.text += error.object[: error.start].decode()
            self.ended, self.bad_byte = True, f"byte 0x{error.object[error.start]:02x}"

    def check_end(self) -> None:
        """Where the text ends at a byte that is not UTF-8, say so rather than anything else."""
        if self.ended and self.bad_byte:
            line = self.line + self.text.count("\n", self.at)
            raise fault(f"{self.path}, line {line}", self.bad_byte, "UTF-8 text", "Save the file as UTF-8.")

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
                self.check_end()
                return ""
            self.fill()

    def step(self, mark: str) -> None:
        got = self.peek()
        if got != mark:
            got = repr(got) if got else "the end of the file"
            raise fault(f"{self.path}, line {self.line}", got, mark, "Check for a missing comma, quote, brace or bracket.")
        self.advance(self.at + 1)

    def value(self):
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.at)
                if end == len(self.text) and not self.ended:
                    self.fill()  # a number might go on
                    continue
                self.advance(end)
                return value
            except json.JSONDecodeError as error:
                if error.pos >= len(self.text) - 16 or error.msg.startswith("Unterminated string"):  # cut off: more may mend it
                    if len(self.text) - self.at > MAX_ROW_BYTES:
                        raise too_long(f"{self.path}, line {self.line}") from error
                    if not self.ended:
                        self.fill()
                        continue
                    self.check_end()
                line = self.line + self.text.count("\n", self.at, error.pos)
                raise json_fault(f"{self.path}, line {line}", error, column=0) from error
            except (ValueError, RecursionError) as error:
                raise json_fault(f"{self.path}, line {self.line}", error) from error
