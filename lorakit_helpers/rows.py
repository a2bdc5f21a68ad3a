"""The course's own data files: JSON lines checked against a JSON Schema, every fault named with file and line."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

from .errors import LorakitError
from .files import project_root

__all__ = ["KeyTwiceError", "load_rows", "no_key_twice", "schema_validator"]


@cache
def schema_validator(folder: str, *place: str):
    """A validator for ``data/<folder>/schema.json``, or for the named property inside it.

    Example:
        >>> schema_validator("tickets", "answer", "intent").is_valid("refund")
        True
    """
    from jsonschema import Draft202012Validator

    path = project_root() / "data" / folder / "schema.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    for name in place:
        schema = schema["properties"][name]
    return Draft202012Validator(schema)


def load_rows(path, folder: str, *, noun: str, kind: str = "", check: Callable[[dict, str], None] | None = None) -> list[dict]:
    """Read and check a JSON-lines file, one object with an ``id`` of its own on each line.

    Args:
        path: the file.
        folder: whose schema and datasheet hold, as a name inside ``data/``.
        noun: what one row is called in messages, for example ``"ticket"``.
        kind: the property of the schema that describes a row, where the folder has several kinds of rows.
        check: called with a row and its place (file and line) after the schema; raises what the schema cannot say.

    Raises:
        LorakitError: with file and line for anything that is not a right row; nothing is skipped silently.
    """
    path = Path(path)
    if not path.is_file():
        raise LorakitError(f"{noun} file {path}", got="no such file", expected="a JSON-lines file", do="Check the path.")
    rows, seen, validator = [], {}, schema_validator(folder, *([kind] if kind else []))
    for number, raw in enumerate(path.read_bytes().splitlines(), 1):
        if not raw.strip():
            continue
        where = f"{path}, line {number}"
        row = _parsed(raw, where)
        problems = sorted(validator.iter_errors(row), key=lambda e: (len(e.path), str(e.path)))
        if problems:
            raise _schema_error(where, problems[0], folder)
        if check:
            check(row, where)
        if row["id"] in seen:
            raise LorakitError(
                f"{where}, id", got=repr(row["id"]), expected=f"a new id (line {seen[row['id']]} has it)",
                do=f"Give every {noun} its own id.",
            )  # fmt: skip
        seen[row["id"]] = number
        rows.append(row)
    if not rows:
        raise LorakitError(f"{noun} file {path}", got="no rows", expected="at least one", do="Is it the right file?")
    return rows


class KeyTwiceError(ValueError):
    """A JSON object names a key twice; json alone would keep the last one silently."""


def no_key_twice(pairs: list[tuple]) -> dict:
    """For json's ``object_pairs_hook``: the object, or :class:`KeyTwiceError` with the name.

    Example:
        >>> json.loads('{"a": 1, "a": 2}', object_pairs_hook=no_key_twice)
        Traceback (most recent call last):
        lorakit_helpers.rows.KeyTwiceError: a
    """
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise KeyTwiceError(next(name for name in names if names.count(name) > 1))
    return made


def _parsed(raw: bytes, where: str):
    try:
        return json.loads(raw.decode("utf-8"), object_pairs_hook=no_key_twice)
    except UnicodeDecodeError as error:
        raise LorakitError(
            f"{where}, byte {error.start + 1}", got=f"byte 0x{raw[error.start]:02x}", expected="UTF-8 text",
            do="Save the file as UTF-8.",
        ) from error  # fmt: skip
    except KeyTwiceError as error:
        raise LorakitError(f"{where}, {error}", got="the key twice", expected="once", do="Remove one of them.") from error
    except (ValueError, RecursionError) as error:
        column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise LorakitError(
            where + column, got=getattr(error, "msg", None) or str(error), expected="one whole JSON object on the line",
            do="Check for a missing quote or brace, or a line break inside the object.",
        ) from error  # fmt: skip


def _schema_error(where: str, problem, folder: str) -> LorakitError:
    place = ".".join(str(part) for part in problem.absolute_path) or "row"
    rule, value = problem.validator, problem.instance
    if rule in ("required", "additionalProperties"):
        allowed = problem.schema["properties"]
        missing = [key for key in problem.schema["required"] if key not in value]
        extra = [key for key in value if key not in allowed]
        if rule == "required":
            got, fix = f"no {missing[0]!r}", "Add the key."
            if "null" in allowed[missing[0]].get("type", ()):
                fix = "Add the key; use null where there is no value."
        else:
            got, fix = f"the extra key {extra[0]!r}", "Remove the key."
        return LorakitError(f"{where}, {place}", got=got, expected="the keys " + ", ".join(allowed), do=fix)
    wanted = {
        "enum": lambda v: "one of " + ", ".join(v),
        "type": lambda v: " or ".join(v) if isinstance(v, list) else v,
        "pattern": lambda v: "some text" if v == "\\S" else f"text like {v}",
        "minItems": lambda v: f"a list of at least {v}",
    }
    expected = wanted.get(rule, str)(problem.validator_value)
    return LorakitError(f"{where}, {place}", got=repr(value)[:80], expected=expected, do=f"See data/{folder}/README.md.")
