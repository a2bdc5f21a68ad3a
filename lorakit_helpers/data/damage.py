"""The mistakes that people make with training data, each as a function, so that a lesson can make one and measure it.

Every function takes rows of messages whose last turn is an answer in JSON (a conversation about one ticket), leaves them
as they are, and gives as many new rows. The same seed gives the same rows.
"""

import json
import random
import re
from collections.abc import Callable, Sequence
from copy import deepcopy

from ..errors import LorakitError, did_you_mean

__all__ = [
    "MISTAKES", "add_copies", "answer_of", "cut_short", "damage", "make_homogeneous", "make_noisy", "remove_system_prompt",
    "sort_by_label",
]  # fmt: skip

_NAMED = ("order_id", "customer")  # fields whose value stands in the ticket word for word and can be exchanged


def answer_of(row: dict) -> dict:
    """The JSON of a row's last turn.

    Raises:
        LorakitError: when the row has no answer, or it is no JSON object.

    Example:
        >>> answer_of({"messages": [{"role": "assistant", "content": '{"intent": "refund"}'}]})
        {'intent': 'refund'}
    """
    try:
        last = row["messages"][-1]
        answer = json.loads(last["content"]) if last["role"] == "assistant" else None
    except (KeyError, IndexError, TypeError, ValueError):
        answer = None
    if not isinstance(answer, dict):
        do = "Damage clean rows: read them with as_messages, lint them first."
        raise LorakitError("row to damage", got="no JSON answer in the last turn", expected='{"messages": [...]}', do=do)
    return answer


def _with_answer(row: dict, text: str) -> dict:
    row = deepcopy(row)
    row["messages"][-1]["content"] = text
    return row


def _chosen(rows: Sequence[dict], share: float, rng: random.Random) -> list[int]:
    if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 <= share <= 1:
        raise LorakitError("share of rows to damage", got=repr(share), expected="from 0 to 1", do="Try 0.4.")
    return sorted(rng.sample(range(len(rows)), round(share * len(rows))))


def make_homogeneous(rows: Sequence[dict], seed: int = 0, *, patterns: int = 4) -> list[dict]:
    """As many rows, all made from a few of them: only names and order numbers change, as in a template that was filled in.

    Args:
        patterns: how many different tickets are left. Those with an order number or a name are taken first.

    Raises:
        LorakitError: for fewer than one pattern, or rows without JSON answers.
    """
    if not isinstance(patterns, int) or isinstance(patterns, bool) or patterns < 1:
        raise LorakitError("patterns", got=repr(patterns), expected="a whole number of at least 1", do="Try 4.")
    rng = random.Random(seed)
    answers = [answer_of(row) for row in rows]
    order = rng.sample(range(len(rows)), len(rows))
    order.sort(key=lambda i: -sum(bool(answers[i].get(name)) for name in _NAMED))  # stable: chance decides among equals
    values = {name: sorted({answer[name] for answer in answers if answer.get(name)}) for name in _NAMED}
    made = []
    for number in range(len(rows)):
        row = deepcopy(rows[order[number % min(patterns, len(rows))]])
        answer, user = answer_of(row), row["messages"][-2]
        for name in _NAMED:
            old, new = answer.get(name), rng.choice(values[name] or [None])
            whole = re.compile(rf"(?<!\w){re.escape(old or '')}(?!\w)")  # Bo, but not the beginning of Bottle
            if old and whole.search(user["content"]):
                answer[name], user["content"] = new, whole.sub(lambda _, new=new: new, user["content"])
        made.append(_with_answer(row, json.dumps(answer, ensure_ascii=False)))
    return made


def make_noisy(rows: Sequence[dict], seed: int = 0, *, share: float = 0.4) -> list[dict]:
    """A share of the rows spoilt, in turn: a wrong label, JSON cut off, a misspelt label, a prompt answered in two ways.

    Args:
        share: how many of the rows, from 0 to 1.

    Raises:
        LorakitError: for a share outside 0 to 1, or rows without JSON answers.
    """
    rng = random.Random(seed)
    answers = [answer_of(row) for row in rows]
    intents = sorted({answer["intent"] for answer in answers if "intent" in answer})
    made = [deepcopy(row) for row in rows]
    for number, i in enumerate(_chosen(rows, share, rng)):
        answer = dict(answers[i])
        others = [intent for intent in intents if intent != answer.get("intent")] or ["unknown"]
        kind = number % 4
        if kind == 1:
            text = json.dumps(answer, ensure_ascii=False)
            made[i] = _with_answer(made[i], text[: rng.randrange(len(text) // 3, len(text))])
            continue
        if kind == 2:
            word = str(answer.get("intent", "label"))
            at = rng.randrange(1, max(2, len(word) - 1))
            answer["intent"] = word[:at] + word[at + 1 :]
        else:
            answer["intent"] = rng.choice(others)
            if "urgency" in answer:
                answer["urgency"] = rng.choice([level for level in ("low", "normal", "high") if level != answer["urgency"]])
        if kind == 3:  # in the place of the next row: the same prompt again, answered otherwise
            made[(i + 1) % len(rows)] = _with_answer(rows[i], json.dumps(answer, ensure_ascii=False))
        else:
            made[i] = _with_answer(made[i], json.dumps(answer, ensure_ascii=False))
    return made


def cut_short(rows: Sequence[dict], seed: int = 0, *, share: float = 0.5) -> list[dict]:
    """A share of the answers reduced to two words, the intent and the urgency, as by somebody in a hurry.

    Example:
        >>> answer = '{"order_id": null, "intent": "refund", "urgency": "high"}'
        >>> row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]}
        >>> cut_short([row], share=1)[0]["messages"][1]["content"]
        'refund, high'
    """
    rng, made = random.Random(seed), [deepcopy(row) for row in rows]
    for i in _chosen(rows, share, rng):
        answer = answer_of(rows[i])
        made[i] = _with_answer(made[i], f"{answer.get('intent')}, {answer.get('urgency')}")
    return made


def remove_system_prompt(rows: Sequence[dict], seed: int = 0) -> list[dict]:
    """The rows without their system turns; ``seed`` is not used."""
    return [{**deepcopy(row), "messages": [dict(t) for t in row["messages"] if t["role"] != "system"]} for row in rows]


def sort_by_label(rows: Sequence[dict], seed: int = 0, *, field: str = "intent") -> list[dict]:
    """The rows sorted by one field of their answers, otherwise in the order given; ``seed`` is not used."""
    return sorted((deepcopy(row) for row in rows), key=lambda row: str(answer_of(row).get(field)))


def add_copies(rows: Sequence[dict], copies: int, seed: int = 0) -> list[dict]:
    """The rows and ``copies`` more, drawn from them with repetition, in random order."""
    rng = random.Random(seed)
    made = [deepcopy(row) for row in [*rows, *(rng.choice(rows) for _ in range(copies))]]
    rng.shuffle(made)
    return made


#: The five mistakes of the lesson by name.
MISTAKES: dict[str, Callable[..., list[dict]]] = {
    "too homogeneous": make_homogeneous,
    "too noisy": make_noisy,
    "too short": cut_short,
    "no system prompt": remove_system_prompt,
    "not shuffled": sort_by_label,
}


def damage(rows: Sequence[dict], mistake: str, seed: int = 0) -> list[dict]:
    """Rows with one mistake of :data:`MISTAKES` in them.

    Raises:
        LorakitError: for an unknown mistake, no rows, or rows without JSON answers.
    """
    if mistake not in MISTAKES:
        fix = did_you_mean(mistake, MISTAKES, "Choose one.")
        raise LorakitError("mistake", got=repr(mistake), expected="one of " + ", ".join(MISTAKES), do=fix)
    if not rows:
        raise LorakitError("rows to damage", got="none", expected="at least one", do="Load a split first.")
    return MISTAKES[mistake](rows, seed)
