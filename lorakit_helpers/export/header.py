"""The key-value pairs at the head of a GGUF file, read directly: a few milliseconds, whatever the size of the vocabulary.

The format: magic ``GGUF``, version, number of tensors, number of pairs, then each pair as key, type and value, little-endian
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

import struct
from pathlib import Path

from ..errors import LorakitError

__all__ = ["TEMPLATE_KEY", "read_header"]

TEMPLATE_KEY = "tokenizer.chat_template"
# type numbers of the format: uint8, int8, uint16, int16, uint32, int32, float32, bool, (string, array), uint64, int64, float64
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def read_header(path) -> dict:
    """The pairs of a GGUF file; a list (the vocabulary, for example) is given by its length alone.

    Raises:
        LorakitError: for a file that is missing, is no GGUF, or ends in the middle of its header.

    Example:
        >>> import tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "x.gguf")
        >>> _ = open(path, "wb").write(b"PK" + bytes(30))
        >>> read_header(path)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        lorakit_helpers.errors.LorakitError: GGUF file x.gguf: expected a file that begins with GGUF, got the bytes ...
    """
    path = Path(path)
    if not path.is_file():
        raise LorakitError(
            f"GGUF file {path}", got="a folder" if path.is_dir() else "no such file", expected="a file that export_gguf wrote",
            do="Check the path, or export the model first.",
        )  # fmt: skip
    with path.open("rb") as file:
        magic = file.read(4)
        if magic != b"GGUF":
            raise LorakitError(
                f"GGUF file {path.name}", got=f"the bytes {magic!r}", expected="a file that begins with GGUF",
                do="Export the model with export_gguf; a renamed safetensors file is no GGUF.",
            )  # fmt: skip
        try:
            version, _, pairs = struct.unpack("<IQQ", _exactly(file, 20))
            if version not in (2, 3):
                raise LorakitError(f"GGUF file {path.name}", got=f"version {version}", expected="2 or 3", do="Export it again.")
            return {_text(file): _value(file, *struct.unpack("<I", _exactly(file, 4))) for _ in range(pairs)}
        except (EOFError, KeyError, UnicodeDecodeError, OverflowError) as error:
            raise LorakitError(
                f"GGUF file {path.name}", got=f"a broken header ({error})", expected="a whole file",
                do="It was probably cut off while it was written or copied: export it again.",
            ) from error  # fmt: skip


def _exactly(file, size: int) -> bytes:
    if size > 1 << 28:
        raise EOFError(f"a text of {size} bytes")
    data = file.read(size)
    if len(data) < size:
        raise EOFError(f"it ends at byte {file.tell()}")
    return data


def _text(file) -> str:
    return _exactly(file, *struct.unpack("<Q", _exactly(file, 8))).decode("utf-8")


def _value(file, kind: int):
    if kind == _STRING:
        return _text(file)
    if kind != _ARRAY:
        code = "<" + _NUMBERS[kind]
        return struct.unpack(code, _exactly(file, struct.calcsize(code)))[0]
    inner, length = struct.unpack("<IQ", _exactly(file, 12))
    if inner in _NUMBERS:
        file.seek(length * struct.calcsize("<" + _NUMBERS[inner]), 1)
    else:
        for _ in range(length):
            if inner == _STRING:  # passed over undecoded: a vocabulary has tens of thousands
                _exactly(file, *struct.unpack("<Q", _exactly(file, 8)))
            else:
                _value(file, inner)
    return length
