"""The running example: a support ticket in, strict JSON out. Reading, checking and prompting."""

import json
from dataclasses import dataclass

from .errors import LorakitError
from .files import project_root
from .rows import KeyTwiceError, load_rows, no_key_twice, schema_validator

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
    rows = load_rows(path, "tickets", noun="ticket", check=_check_order)
    return [Ticket(row["id"], row["ticket"], row["answer"], row.get("voice", "")) for row in rows]


def _check_order(row: dict, where: str) -> None:
    if tuple(row["answer"]) != KEYS:
        raise LorakitError(
            f"{where}, answer", got="the keys " + ", ".join(row["answer"]), expected="the order " + ", ".join(KEYS),
            do="Put the keys in that order.",
        )  # fmt: skip


def load_split(name: str) -> list[Ticket]:
    """The course's own: ``"train"``, ``"validation"``, ``"test"`` or ``"examiner"`` (a second test, by another writer)."""
    return load_tickets(project_root() / "data" / "tickets" / f"{name}.jsonl")


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
        answer = json.loads(text.strip(), object_pairs_hook=no_key_twice)
    except KeyTwiceError as error:
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
    problem = next(schema_validator("tickets", "answer").iter_errors(answer), None)
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
