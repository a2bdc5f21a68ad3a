"""From any format to any other: lossless where the target can say it, and every loss named where it cannot."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from ..errors import LorakitError
from .formats import FORMATS, SHAREGPT_ROLES, detect_format, reader_for
from .reading import reject

__all__ = ["ConversionWarning", "Converted", "Loss", "convert", "from_messages"]

_LABELS = {"system": "System", "user": "User", "assistant": "Assistant", "tool": "Tool"}
_WRITTEN_AS = {role: next(name for name, known in SHAREGPT_ROLES.items() if known == role) for role in _LABELS}
#: Kinds of loss, and what happened to the row.
_KINDS = {
    "system": "Alpaca has no system prompt: it was put in front of the instruction",
    "multi-turn": "Alpaca holds one exchange: the earlier turns became labelled text in the instruction",
    "tool": "the format has no agreed tool turns: trainers may drop or misread them",
    "order": "the turns are not question, then answer: their roles became labels in the text, or an empty turn was added",
    "no-answer": "there is no answer: output is empty",
    "joined": "instruction and input became one turn: the border between them is not kept",
    "speaker": "another spelling of a speaker's name was replaced by the usual one",
    "content": "content that is null became empty text",
    "turn-key": "extra keys of a turn were left out",
    "column": "a column was left out, since the format uses its name",
}


class ConversionWarning(UserWarning):
    """Rows were converted, but not all of what they said could be kept as it was."""


@dataclass(frozen=True)
class Loss:
    """One thing that one row lost.

    Attributes:
        row: counted from 1.
        kind: a short name, for example ``"system"``.
        detail: what happened, one phrase.
    """

    row: int
    kind: str
    detail: str


@dataclass(frozen=True)
class Converted:
    """Converted rows, and what could not be kept.

    Attributes:
        rows: in the order given; ``len(rows) + len(refused)`` is the number of rows given.
        losses: what was changed or left out, by row.
        refused: one error for each row that was not converted.
    """

    rows: list[dict]
    source: str
    target: str
    losses: tuple[Loss, ...] = ()
    refused: tuple[LorakitError, ...] = ()

    def summary(self) -> list[str]:
        """One line for each kind of loss, with its rows; nothing when the conversion is lossless."""
        lines = []
        for kind, text in _KINDS.items():
            rows = sorted({loss.row for loss in self.losses if loss.kind == kind})
            if rows:
                shown = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
                lines.append(f"{kind}: {text} ({len(rows)} row{'s' * (len(rows) > 1)}: {shown})")
        return lines

    def __str__(self) -> str:
        given = len(self.rows) + len(self.refused)
        lossy = len({loss.row for loss in self.losses})
        return (
            f"{self.source} to {self.target}: {given} row{'s' * (given != 1)} in, {len(self.rows)} out ({lossy} with a loss), "
            f"{len(self.refused)} refused"
        )


def convert(
    rows: Iterable[dict], to: str, *, source: str | None = None, strict: bool = False, problems: list | None = None
) -> Converted:
    """Convert rows; a :class:`ConversionWarning` says what was lost.

    Args:
        rows: in any one of the formats.
        to: ``"alpaca"``, ``"messages"`` or ``"sharegpt"``.
        source: the format of ``rows``; None detects it.
        strict: refuse rows that would lose something rather than change them.
        problems: where errors of unreadable and refused rows are put; None raises the first unreadable one.

    Raises:
        LorakitError: for an unknown format, or a row that is not in it.

    Example:
        >>> convert([{"instruction": "Add.", "input": "", "output": "2"}], "sharegpt").rows[0]["conversations"]
        [{'from': 'human', 'value': 'Add.'}, {'from': 'gpt', 'value': '2'}]
    """
    if to not in FORMATS:
        raise LorakitError("target format", got=repr(to), expected="one of " + ", ".join(FORMATS), do="Choose one.")
    rows = list(rows)
    source = source or detect_format(rows).format
    read, done, losses, refused = reader_for(source), [], [], []
    for number, row in enumerate(rows, 1):
        try:
            if not isinstance(row, dict):
                raise LorakitError(f"row {number}", got=type(row).__name__, expected="a dict", do="Pass one dict for each row.")
            made, lost = from_messages(read(row, f"row {number}"), to)
            made, lost = (made, lost) if source != to or to == "messages" else (row, [])
        except LorakitError as error:
            reject(error, problems)
            refused.append(error)
            continue
        lost = _lost_reading(row, source, to) + lost
        if strict and lost:
            fix = "Keep it in another format, or convert with strict=False."
            refused.append(LorakitError(f"row {number}", got=lost[0][1], expected="nothing lost", do=fix))
            if problems is not None:
                problems.append(refused[-1])
            continue
        done.append(made)
        losses += [Loss(number, kind, detail) for kind, detail in lost]
    result = Converted(done, source, to, tuple(losses), tuple(refused))
    if result.losses or result.refused:
        warnings.warn("\n".join([str(result), *result.summary()]), ConversionWarning, stacklevel=2)
    return result


def _lost_reading(row: dict, source: str, to: str) -> list[tuple[str, str]]:
    if source == to:
        return []
    if source == "alpaca":
        lost = [("joined", _KINDS["joined"])] if row["instruction"] and row.get("input") else []
        return lost + ([("column", "messages")] if "messages" in row else [])
    if source != "sharegpt":
        return [("column", "messages")] if source == "prompt-completion" and "messages" in row else []
    turns = row.get("conversations", row.get("messages"))
    lost = [("speaker", turn["from"]) for turn in turns if turn["from"] not in _WRITTEN_AS.values()]
    lost += [("turn-key", name) for turn in turns for name in ("role", "content") if name in turn]
    return lost + ([("column", "messages")] if "conversations" in row and "messages" in row else [])


def from_messages(row: dict, to: str) -> tuple[dict, list[tuple[str, str]]]:
    """One row of messages in another format, with ``(kind, detail)`` of each thing lost on the way.

    Example:
        >>> turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"},
        ...          {"role": "assistant", "content": "Hello!"}]
        >>> row, lost = from_messages({"messages": turns}, "alpaca")
        >>> row["instruction"], lost[0][0]
        ('Be kind.\\n\\nHi', 'system')
    """
    return _WRITERS[to](row)


def _same(row: dict) -> tuple[dict, list]:
    return row, []


def _to_sharegpt(row: dict) -> tuple[dict, list]:
    lost = [("tool", _KINDS["tool"])] if any(t["role"] == "tool" or t.get("tool_calls") for t in row["messages"]) else []
    turns = []
    for turn in row["messages"]:
        rest = {}
        for name, value in turn.items():
            if name in ("from", "value"):
                lost.append(("turn-key", name))
            elif name not in ("role", "content"):
                rest[name] = value
        if turn.get("content") is None:
            lost.append(("content", _KINDS["content"]))
        turns.append({"from": _WRITTEN_AS[turn["role"]], "value": turn.get("content") or "", **rest})
    others, gone = _other_columns(row, ("conversations",))
    return {"conversations": turns, **others}, lost + gone


def _other_columns(row: dict, used: tuple) -> tuple[dict, list]:
    others = {name: value for name, value in row.items() if name != "messages" and name not in used}
    return others, [("column", name) for name in row if name in used]


def _to_alpaca(row: dict) -> tuple[dict, list]:
    turns = row["messages"]
    lost = [("turn-key", name) for turn in turns for name in turn if name not in ("role", "content")]
    lost += [("content", _KINDS["content"]) for turn in turns if turn.get("content") is None]
    roles = [turn["role"] for turn in turns]
    texts = [turn.get("content") or "" for turn in turns]
    if "tool" in roles:
        lost.append(("tool", _KINDS["tool"]))
    output, start = "", 0
    if roles[-1] == "assistant":
        output = texts.pop()
        roles.pop()
    else:
        lost.append(("no-answer", _KINDS["no-answer"]))
    before = ""
    if roles[:1] == ["system"]:
        before, start = texts[0], 1
        lost.append(("system", _KINDS["system"]))
    if roles[start:] == ["user"]:
        asked = texts[start]
    else:
        in_pairs = roles[start:] and all(role == ("user", "assistant")[i % 2] for i, role in enumerate(roles[start:]))
        kind = "multi-turn" if in_pairs and len(roles[start:]) % 2 else "order"
        lost.append((kind, _KINDS[kind]))
        asked = "\n\n".join(f"{_LABELS[role]}: {text}" for role, text in zip(roles[start:], texts[start:], strict=True))
    others, gone = _other_columns(row, ("instruction", "input", "output"))
    instruction = f"{before}\n\n{asked}" if before and asked else before or asked
    return {"instruction": instruction, "input": "", "output": output, **others}, lost + gone


_WRITERS = {"messages": _same, "sharegpt": _to_sharegpt, "alpaca": _to_alpaca}
