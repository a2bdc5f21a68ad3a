"""The running example: a support ticket in, strict JSON out. Reading, checking and prompting."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .errors import LorakitError
from .files import project_root

__all__ = [
    "BASELINE_PROMPTS", "INTENTS", "KEYS", "SYSTEM_PROMPT", "Ticket", "URGENCIES", "answer_text", "load_split",
    "load_tickets", "parse_answer", "to_conversation", "to_messages",
]  # fmt: skip

KEYS = ("order_id", "customer", "product", "intent", "urgency")
INTENTS = ("refund", "exchange", "shipping", "question", "cancel")
URGENCIES = ("low", "normal", "high")

#: What the tuned model is told. Short on purpose: fine-tuning moves the instructions into the weights.
SYSTEM_PROMPT = "Ticket to JSON."

#: Prompts for a model that was not tuned, from the tuned model's own to full instructions.
BASELINE_PROMPTS = {
    "short": SYSTEM_PROMPT,
    "instructions": (
        "You turn a customer's support ticket into one line of JSON and write nothing else. Use exactly these keys in "
        "this order: order_id (the order number or null), customer (the name the ticket is signed with, or null), "
        "product (the thing it is about), intent (refund, exchange, shipping, question or cancel), urgency (low, normal "
        "or high)."
    ),
    "instructions and format": (
        "You turn a customer's support ticket into one line of JSON and write nothing else. The form is exactly "
        '{"order_id": "12345", "customer": "Ann Lee", "product": "red lamp", "intent": "refund", "urgency": "normal"} '
        "with the values taken from the ticket. order_id and customer are null when the ticket has none. intent is one "
        "of refund, exchange, shipping, question, cancel. urgency is one of low, normal, high."
    ),
}


@cache
def _schema() -> dict:
    path = project_root() / "data" / "tickets" / "schema.json"
    return json.loads(path.read_text(encoding="utf-8"))


@cache
def _validator(part: str):
    from jsonschema import Draft202012Validator

    schema = _schema()
    return Draft202012Validator(schema if part == "row" else schema["properties"]["answer"])


@dataclass(frozen=True)
class Ticket:
    """One ticket with its right answer.

    Attributes:
        id: unique in the course's data, for example ``"test-004"``.
        ticket: the customer's text.
        answer: the five fields of :data:`KEYS`.
        voice: who writes and through what channel, for reading; never shown to the model.
    """

    id: str
    ticket: str
    answer: dict
    voice: str = ""


def load_tickets(path) -> list[Ticket]:
    """Read and check a JSON-lines file of tickets.

    Raises:
        LorakitError: with file and line for anything that is not a right row; nothing is skipped silently.
    """
    path = Path(path)
    if not path.is_file():
        raise LorakitError(f"ticket file {path}", got="no such file", expected="a JSON-lines file", do="Check the path.")
    rows, seen = [], {}
    for number, raw in enumerate(path.read_bytes().splitlines(), 1):
        if not raw.strip():
            continue
        row = _checked_row(raw, f"{path}, line {number}")
        if row["id"] in seen:
            raise LorakitError(
                f"{path}, line {number}, id", got=repr(row["id"]), expected=f"a new id (line {seen[row['id']]} has it)",
                do="Give every ticket its own id.",
            )  # fmt: skip
        seen[row["id"]] = number
        rows.append(Ticket(row["id"], row["ticket"], row["answer"], row.get("voice", "")))
    if not rows:
        raise LorakitError(f"ticket file {path}", got="no rows", expected="at least one", do="Is it the right file?")
    return rows


def load_split(name: str) -> list[Ticket]:
    """The course's own tickets: ``"train"``, ``"validation"``, ``"test"`` or ``"examiner"`` (a second test, by another writer)."""
    return load_tickets(project_root() / "data" / "tickets" / f"{name}.jsonl")


class _KeyTwiceError(ValueError):
    """A JSON object names a key twice; json alone would keep the last one silently."""


def _no_key_twice(pairs: list[tuple]) -> dict:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise _KeyTwiceError(name)
    return dict(pairs)


def _checked_row(raw: bytes, where: str) -> dict:
    try:
        row = json.loads(raw.decode("utf-8"), object_pairs_hook=_no_key_twice)
    except UnicodeDecodeError as error:
        raise LorakitError(
            f"{where}, byte {error.start + 1}", got=f"byte 0x{raw[error.start]:02x}", expected="UTF-8 text",
            do="Save the file as UTF-8.",
        ) from error  # fmt: skip
    except _KeyTwiceError as error:
        raise LorakitError(f"{where}, {error}", got="the key twice", expected="once", do="Remove one of them.") from error
    except (ValueError, RecursionError) as error:
        column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise LorakitError(
            where + column, got=getattr(error, "msg", None) or str(error), expected="one whole JSON object on the line",
            do="Check for a missing quote or brace, or a line break inside the object.",
        ) from error  # fmt: skip
    problem = next(iter(sorted(_validator("row").iter_errors(row), key=lambda e: (len(e.path), str(e.path)))), None)
    if problem:
        raise _schema_error(where, problem)
    if tuple(row["answer"]) != KEYS:
        raise LorakitError(
            f"{where}, answer", got="the keys " + ", ".join(row["answer"]), expected="the order " + ", ".join(KEYS),
            do="Put the keys in that order.",
        )  # fmt: skip
    return row


def _schema_error(where: str, problem) -> LorakitError:
    place = ".".join(str(part) for part in problem.absolute_path) or "row"
    rule, value = problem.validator, problem.instance
    if rule in ("required", "additionalProperties"):
        allowed = list(problem.schema["properties"])
        missing = [key for key in problem.schema["required"] if key not in value]
        extra = [key for key in value if key not in allowed]
        got = f"no {missing[0]!r}" if rule == "required" else f"the extra key {extra[0]!r}"
        fix = "Add the key; use null where the ticket has none." if rule == "required" else "Remove the key."
        return LorakitError(f"{where}, {place}", got=got, expected="the keys " + ", ".join(allowed), do=fix)
    wanted = {
        "enum": lambda v: "one of " + ", ".join(v),
        "type": lambda v: " or ".join(v) if isinstance(v, list) else v,
        "pattern": lambda v: "some text",
    }
    expected = wanted.get(rule, str)(problem.validator_value)
    return LorakitError(f"{where}, {place}", got=repr(value)[:80], expected=expected, do="See data/tickets/README.md.")


def answer_text(answer: dict) -> str:
    """The one right spelling of an answer: the keys in order, default JSON separators."""
    return json.dumps({key: answer[key] for key in KEYS}, ensure_ascii=False)


def parse_answer(text: str) -> tuple[dict | None, str]:
    """Read a model's output strictly.

    Returns:
        ``(answer, "")`` when the text is exactly one JSON object of the schema with the keys in order, else
        ``(None, reason)`` where the reason begins with ``"not JSON"``, ``"extra key"``, ``"missing key"``,
        ``"wrong value"`` or ``"wrong order"``.
    """
    try:
        answer = json.loads(text.strip(), object_pairs_hook=_no_key_twice)
    except _KeyTwiceError as error:
        return None, f"extra key: {error} twice"
    except (ValueError, RecursionError) as error:
        return None, f"not JSON: {error}"
    if not isinstance(answer, dict):
        return None, f"not JSON: an object was expected, got {type(answer).__name__}"
    extra, missing = [k for k in answer if k not in KEYS], [k for k in KEYS if k not in answer]
    if extra:
        return None, "extra key: " + ", ".join(extra)
    if missing:
        return None, "missing key: " + ", ".join(missing)
    problem = next(_validator("answer").iter_errors(answer), None)
    if problem:
        return None, f"wrong value: {problem.message}"
    if tuple(answer) != KEYS:
        return None, "wrong order: " + ", ".join(answer)
    return answer, ""


def to_messages(text: str, system_prompt: str = SYSTEM_PROMPT) -> list[dict]:
    """The chat a model is asked with: a system turn and the ticket as the user's turn."""
    return [{"role": "system", "content": system_prompt}, {"role": "user", "content": text}]


def to_conversation(ticket: Ticket) -> dict:
    """One training row in trl's conversational prompt-completion form."""
    return {
        "prompt": to_messages(ticket.ticket),
        "completion": [{"role": "assistant", "content": answer_text(ticket.answer)}],
    }
