"""The formats of training rows: which one it is and why, and each read into chat messages, strictly.

======================  =================================================================================
``alpaca``              ``{"instruction": ..., "input": ..., "output": ...}`` (``input`` may be missing)
``messages``            ``{"messages": [{"role": "user", "content": ...}, ...]}``, also under ``conversations``
``sharegpt``            ``{"conversations": [{"from": "human", "value": ...}, ...]}``
``prompt-completion``   trl's ``{"prompt": [...], "completion": [...]}``; read only, written as ``messages``
======================  =================================================================================

Other columns of a row, and other keys of a turn, are carried along.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice

from ..errors import LorakitError, did_you_mean

__all__ = ["FORMATS", "ROLES", "SHAREGPT_ROLES", "Detection", "as_messages", "detect_format", "reader_for"]

FORMATS = ("alpaca", "messages", "sharegpt")
ROLES = ("system", "user", "assistant", "tool")
#: What ShareGPT files call the roles; the first name of each role is the one written.
SHAREGPT_ROLES = {
    "system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant",
    "model": "assistant", "tool": "tool", "observation": "tool", "function_response": "tool",
}  # fmt: skip
_KNOWN = (*FORMATS, "prompt-completion")
_SAMPLE = 100
_TURN = {"messages": ("role", "content"), "sharegpt": ("from", "value")}


@dataclass(frozen=True)
class Detection:
    """Which format rows are in, and why.

    Attributes:
        format: ``"alpaca"``, ``"messages"``, ``"sharegpt"`` or ``"prompt-completion"``.
        reason: what was seen, one phrase.
        agreeing, looked_at: rows in that format among those looked at; 0 when the format was given.
    """

    format: str
    reason: str
    agreeing: int = 1
    looked_at: int = 1

    def __str__(self) -> str:
        seen = f" ({self.agreeing} of the first {self.looked_at} rows)" if self.looked_at else ""
        return f"{self.format}: {self.reason}{seen}"


def _looks_like(row) -> tuple[str, str] | None:
    if not isinstance(row, dict):
        return None
    for key in ("messages", "conversations"):
        turns = row.get(key)
        first = turns[0] if isinstance(turns, list) and turns else None
        if isinstance(first, dict):
            for name, (who, text) in _TURN.items():
                if who in first or text in first:
                    return name, f'"{key}" is a list of turns with "{who}" and "{text}"'
    if "instruction" in row and "output" in row:
        return "alpaca", 'there are columns "instruction" and "output"'
    if "prompt" in row and "completion" in row:
        return "prompt-completion", 'there are columns "prompt" and "completion"'
    return None


def detect_format(rows: Iterable[dict]) -> Detection:
    """The format of the first rows (at most 100), by majority.

    Raises:
        LorakitError: when there is no row, or no row looks like a known format; with the columns found.

    Example:
        >>> print(detect_format([{"instruction": "Add 1 and 1.", "output": "2"}]))
        alpaca: there are columns "instruction" and "output" (1 of the first 1 rows)
    """
    rows = list(islice(rows, _SAMPLE))
    if not rows:
        raise LorakitError("format of the rows", got="no rows", expected="at least one", do="Is it the right file?")
    seen = Counter(found for found in map(_looks_like, rows) if found)
    if not seen:
        raise _unknown_format(rows[0])
    name = Counter(found[0] for found in seen.elements()).most_common(1)[0][0]
    agreeing = sum(count for found, count in seen.items() if found[0] == name)
    reason = max((found for found in seen if found[0] == name), key=seen.get)[1]
    return Detection(name, reason, agreeing, len(rows))


def _unknown_format(row) -> LorakitError:
    names = list(row) if isinstance(row, dict) else []
    wrapped = next((name for name in names if isinstance(row[name], list) and row[name] and _looks_like(row[name][0])), None)
    if wrapped:
        fix = f"The rows lie inside {wrapped!r}: save that list by itself."
    elif names == ["text"]:
        fix = "Rendered text has lost its roles: go back to the data it was made from."
    else:
        known = ["instruction", "output", "messages", "conversations", "prompt", "completion"]
        near = [hint for name in names if (hint := did_you_mean(name, [k for k in known if k != name], ""))]
        fix = near[0] if near else 'Rename the columns, for example question to "instruction" and answer to "output".'
    got = "the columns " + ", ".join(map(repr, names[:8])) if names else "no columns"
    expected = '"messages", "conversations", or "instruction" and "output"'
    return LorakitError("format of the rows", got=got, expected=expected, do=fix)


def as_messages(row: dict, format: str | None = None, where: str = "row") -> dict:
    """One row of any format as ``{"messages": [{"role", "content"}, ...], other columns}``.

    Args:
        format: a known format's name; None looks.
        where: the place, for messages, for example ``"train.jsonl, line 3"``.

    Raises:
        LorakitError: with the place for a missing column, an unknown role, or content that is not text.

    Example:
        >>> as_messages({"instruction": "Say hello.", "output": "Hello!"})["messages"][1]
        {'role': 'assistant', 'content': 'Hello!'}
    """
    return reader_for(format or detect_format([row]).format)(row, where)


def reader_for(format: str) -> Callable[[dict, str], dict]:
    """The function ``(row, where) -> row of messages`` for a format's name."""
    try:
        return _READERS[format]
    except KeyError:
        raise LorakitError(
            "format", got=repr(format), expected="one of " + ", ".join(_KNOWN), do=did_you_mean(format, _KNOWN, "Choose one.")
        ) from None


def _kind(value) -> str:
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (bool, int, float)):
        return f"the {'truth value' if isinstance(value, bool) else 'number'} {value!r}"[:60]
    return "null" if value is None else type(value).__name__


def _text(value, where: str, name: str) -> str:
    if type(value) is not str:
        fix = {list: "Join the parts into one text.", dict: "Write it as text, for example with json.dumps."}
        hint = fix.get(type(value), f"Write it as text in quotes, or remove the row: {name!r} holds what the model reads.")
        raise LorakitError(f"{where}, {name}", got=_kind(value), expected="text", do=hint)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise LorakitError(
                f"{where}, {name}", got=f"half a character, \\u{ord(value[error.start]):04x}, at position {error.start}",
                expected="whole characters", do="An emoji was cut in two when the text was shortened: cut by characters.",
            ) from None  # fmt: skip
    return value


def _missing(row, needed: tuple, where: str) -> LorakitError:
    other = _looks_like(row)
    names = ", ".join(map(repr, list(row)[:8])) or "none"
    fix = f"This row looks like {other[0]}: convert it first." if other else "Give every row the same columns."
    return LorakitError(f"{where}, columns", got=names, expected=" and ".join(map(repr, needed)), do=fix)


def _turns(turns, where: str, key: str) -> list:
    if type(turns) is not list or not turns:
        got = "an empty list" if turns == [] else _kind(turns)
        raise LorakitError(f"{where}, {key}", got=got, expected="a list of turns", do="Remove the row or give it turns.")
    return turns


def _role_error(role, known, where: str) -> LorakitError:
    fix = "Name the role or remove the turn."
    if isinstance(role, str):
        near = SHAREGPT_ROLES.get(role.strip().lower()) if known is ROLES else None
        near = {"bot": "assistant", "ai": "assistant", "function_call": "an assistant's turn"}.get(role.lower(), near)
        fix = f"Did you mean {near}?" if near else did_you_mean(role.lower(), known, fix)
    got = "no role" if role is None else repr(role)[:60]
    return LorakitError(f"{where}, role", got=got, expected="one of " + ", ".join(known), do=fix)


def _checked_turns(turns, where: str, key: str) -> list[dict]:
    for number, turn in enumerate(_turns(turns, where, key), 1):
        if type(turn) is not dict:
            raise LorakitError(
                f"{where}, turn {number}", got=_kind(turn), expected='{"role": ..., "content": ...}', do="Give the turn a role."
            )
        if type(role := turn.get("role")) is not str or role not in ROLES:
            raise _role_error(role, ROLES, f"{where}, turn {number}")
        content = turn.get("content")
        if (type(content) is not str or not content.isascii()) and not (content is None and turn.get("tool_calls")):
            _text(content, f"{where}, turn {number}", "content")
    return turns


def _read_messages(row: dict, where: str) -> dict:
    if "messages" in row:
        _checked_turns(row["messages"], where, "messages")
        return row
    if "conversations" not in row:
        raise _missing(row, ("messages",), where)
    rest = {name: value for name, value in row.items() if name != "conversations"}
    return {"messages": _checked_turns(row["conversations"], where, "conversations"), **rest}


def _read_sharegpt(row: dict, where: str) -> dict:
    key = "conversations" if "conversations" in row else "messages"
    if key not in row:
        raise _missing(row, ("conversations",), where)
    made = []
    for number, turn in enumerate(_turns(row[key], where, key), 1):
        place = f"{where}, turn {number}"
        if type(turn) is not dict:
            raise LorakitError(place, got=_kind(turn), expected='{"from": ..., "value": ...}', do="Give the turn a speaker.")
        who = turn.get("from")
        if type(who) is not str or who not in SHAREGPT_ROLES:
            raise _role_error(who, tuple(SHAREGPT_ROLES), place)
        rest = {name: value for name, value in turn.items() if name not in ("from", "value", "role", "content")}
        made.append({"role": SHAREGPT_ROLES[who], "content": _text(turn.get("value"), place, "value"), **rest})
    return {"messages": made, **{name: value for name, value in row.items() if name not in (key, "messages")}}


def _read_alpaca(row: dict, where: str) -> dict:
    if "instruction" not in row or "output" not in row:
        raise _missing(row, ("instruction", "output"), where)
    asked = _text(row["instruction"], where, "instruction")
    given = _text("" if row.get("input") is None else row["input"], where, "input")
    answer = _text(row["output"], where, "output")
    turns = [
        {"role": "user", "content": f"{asked}\n\n{given}" if asked and given else asked or given},
        {"role": "assistant", "content": answer},
    ]
    rest = {name: value for name, value in row.items() if name not in ("instruction", "input", "output", "messages")}
    return {"messages": turns, **rest}


def _read_prompt_completion(row: dict, where: str) -> dict:
    if "prompt" not in row or "completion" not in row:
        raise _missing(row, ("prompt", "completion"), where)
    turns = []
    for name, role in (("prompt", "user"), ("completion", "assistant")):
        part = row[name]
        turns += (
            _checked_turns(part, where, name) if type(part) is list else [{"role": role, "content": _text(part, where, name)}]
        )
    rest = {name: value for name, value in row.items() if name not in ("prompt", "completion", "messages")}
    return {"messages": turns, **rest}


_READERS = {
    "alpaca": _read_alpaca, "messages": _read_messages, "sharegpt": _read_sharegpt,
    "prompt-completion": _read_prompt_completion,
}  # fmt: skip
