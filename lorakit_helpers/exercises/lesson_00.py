"""Exercises of notebook 00."""

import json

from ..tickets import KEYS
from .exercise import Exercise

__all__ = ["EXERCISES"]


def _judged(text, judge):
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return judge(value)


def _is_valid(text):
    return _judged(text, lambda value: isinstance(value, dict) and tuple(value) == KEYS)


def _uncaught(text):
    value = json.loads(text)
    return isinstance(value, dict) and tuple(value) == KEYS


_RIGHT = '{"order_id": null, "customer": "Ann", "product": "lamp", "intent": "refund", "urgency": "low"}'
_TEXTS = (
    _RIGHT, "Sure! Here is the JSON: " + _RIGHT, _RIGHT.replace('"low"}', '"low", "note": "x"}'), '["order_id"]',
    '{"customer": "Ann", "order_id": null, "product": "lamp", "intent": "refund", "urgency": "low"}', '{"product": "lamp"}', "",
    json.dumps(list(KEYS)), "7",
)  # fmt: skip


EXERCISES = {
    "0.1": Exercise(
        _is_valid, tuple((text,) for text in _TEXTS),
        (
            ("Text that parses is not enough: the object must have exactly the five keys of KEYS.",
             lambda text: _judged(text, lambda value: True)),
            ("A key too many is accepted: compare all keys, not only whether the five are there.",
             lambda text: _judged(text, lambda value: isinstance(value, dict) and set(KEYS) <= set(value))),
            ("The order of the keys is not checked: tuple(value) keeps it, set(value) loses it.",
             lambda text: _judged(text, lambda value: isinstance(value, dict) and set(value) == set(KEYS))),
            ("The order of the keys is not checked: tuple(value) keeps it, set(value) loses it.",
             lambda text: _judged(text, lambda value: set(value) == set(KEYS))),
            ("Text that is not JSON raises: catch ValueError and return False.", _uncaught),
            ("Text that is not JSON raises: catch ValueError and return False.", lambda t: tuple(json.loads(t)) == KEYS),
            ("A list of the five names, or a bare number, is JSON too: check isinstance(value, dict) first.",
             lambda text: _judged(text, lambda value: tuple(value) == KEYS)),
        ),
        ("json.loads raises ValueError for text that is not JSON.", "A dict keeps its order: compare tuple(value) with KEYS."),
    ),
    "0.2": Exercise(
        lambda flags: sum(flags) / len(flags) if flags else 0.0,
        (([True, False, True, True],), ([False],), ([True, True],), ([],)),
        (
            ("That is a percentage; a share lies between 0 and 1.",
             lambda flags: 100 * sum(flags) / len(flags) if flags else 0.0),
            ("That counts; divide by how many there are.", lambda flags: sum(flags)),
            ("An empty list divides by zero: return 0.0 for it.", lambda flags: sum(flags) / len(flags)),
        ),
        ("True counts as 1 in sum().", "sum(flags) / len(flags), with a way out for an empty list."),
    ),
}  # fmt: skip
