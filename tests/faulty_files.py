"""Files with faults in them, and what a reader says of them."""

import json

import pytest

from lorakit_helpers.errors import LorakitError

__all__ = ["fault_of", "write_lines"]


def write_lines(path, *lines):
    """JSON lines from objects, or raw bytes as they are."""
    raw = [line if isinstance(line, bytes) else json.dumps(line, ensure_ascii=False).encode() for line in lines]
    path.write_bytes(b"\n".join(raw) + b"\n")
    return path


def fault_of(load, path) -> str:
    """The one sentence with which ``load`` refuses the file: it names the file, and has got, expected and a fix."""
    with pytest.raises(LorakitError) as caught:
        load(path)
    error = caught.value
    assert str(path) in str(error) and "\n" not in str(error)
    assert error.got and error.expected and error.do, "got, expected and a fix belong in every message"
    return str(error)
