"""Exercises that check themselves: name the mistake, never stop a Run All, raise in strict mode."""

import copy
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass

from .errors import LorakitError
from .tickets import KEYS

__all__ = ["EXERCISES", "Exercise", "check", "diagnose", "hint"]


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        reference: a right solution.
        cases: argument tuples it is tried on.
        mistakes: likely wrong solutions, each with the sentence that names what is wrong with it.
        hints: from a nudge to nearly the answer.
    """

    reference: Callable
    cases: tuple[tuple, ...]
    mistakes: tuple[tuple[str, Callable], ...]
    hints: tuple[str, str]


def _outcome(function, arguments):
    given = copy.deepcopy(arguments)
    try:
        value = function(*given)
    except Exception as error:  # the learner's code may raise anything; that is an outcome like any other
        return f"{type(error).__name__}: {error}"
    if given != arguments:
        return f"changed its arguments to {given!r}"
    return round(value, 9) if isinstance(value, float) else value


def diagnose(identifier: str, function) -> str:
    """What is wrong with ``function`` as a solution, or ``""`` when it is right."""
    exercise = _find(identifier)
    wanted = [_outcome(exercise.reference, case) for case in exercise.cases]
    found = [_outcome(function, case) for case in exercise.cases]
    if _same(found, wanted):
        return ""
    if all(value is None or value is ... for value in found):
        return "Nothing is returned yet: write the body and end it with `return`."
    for sentence, wrong in exercise.mistakes:
        if _same(found, [_outcome(wrong, case) for case in exercise.cases]):
            return sentence
    case, want, got = next((c, w, f) for c, w, f in zip(exercise.cases, wanted, found, strict=True) if not _same(w, f))
    return f"For {', '.join(map(repr, case))}: expected {want!r}, got {got!r}."


def _same(a, b) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    try:
        return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)
    except Exception:  # a learner's array or tensor may refuse to be compared
        return False


def check(identifier: str, function):
    """Check a solution and say so; returns a function that works either way.

    With the environment variable ``LORAKIT_STRICT`` set, a wrong solution raises instead.

    Returns:
        ``function`` when it is right, else the reference, so that the cells below run.

    Raises:
        LorakitError: for an unknown exercise, or in strict mode for a wrong solution.
    """
    problem = diagnose(identifier, function)
    if not problem:
        print(f"Exercise {identifier}: right.")
        return function
    if os.environ.get("LORAKIT_STRICT"):
        raise LorakitError(f"exercise {identifier}", got=problem, expected="a right solution", do="Mend it.")
    print(f"Exercise {identifier}: not yet. {problem}\nStuck? Run hint({identifier!r}). The cells below use the reference.")
    return _find(identifier).reference


def hint(identifier: str, step: int = 1) -> None:
    """Print hint 1 or 2 of an exercise."""
    hints = _find(identifier).hints
    print(hints[min(max(step, 1), len(hints)) - 1] + ("" if step >= len(hints) else f"  (More: hint({identifier!r}, 2))"))


def _find(identifier: str) -> Exercise:
    if identifier not in EXERCISES:
        raise LorakitError("exercise", got=repr(identifier), expected="one of " + ", ".join(EXERCISES), do="Check the number.")
    return EXERCISES[identifier]


def _is_valid(text):
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and tuple(value) == KEYS


def _has_keys(text):
    try:
        value = json.loads(text)
    except ValueError:
        return False
    return isinstance(value, dict) and set(KEYS) <= set(value)


def _any_order(text):
    return _has_keys(text) and len(json.loads(text)) == len(KEYS)


def _parses(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


_RIGHT = '{"order_id": null, "customer": "Ann", "product": "lamp", "intent": "refund", "urgency": "low"}'
_TEXTS = (
    _RIGHT, "Sure! Here is the JSON: " + _RIGHT, _RIGHT.replace('"low"}', '"low", "note": "x"}'), '["order_id"]',
    '{"customer": "Ann", "order_id": null, "product": "lamp", "intent": "refund", "urgency": "low"}', '{"product": "lamp"}', "",
)  # fmt: skip


def _mask(ids, n):
    return [-100] * n + ids[n:]


EXERCISES = {
    "0.1": Exercise(
        _is_valid, tuple((text,) for text in _TEXTS),
        (
            ("Text that parses is not enough: the object must have exactly the five keys of KEYS.", _parses),
            ("A key too many is accepted: compare all keys, not only whether the five are there.", _has_keys),
            ("The order of the keys is not checked: tuple(value) keeps it, set(value) loses it.", _any_order),
            ("Text that is not JSON raises: catch ValueError and return False.", lambda t: tuple(json.loads(t)) == KEYS),
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
    "7.1": Exercise(
        lambda alpha, r: alpha / r, ((32, 32), (32, 16), (16, 64)),
        (
            ("It is upside down: alpha is divided by r.", lambda alpha, r: r / alpha),
            ("`//` drops the fraction: use `/`.", lambda alpha, r: alpha // r),
            ("alpha multiplies, r divides.", lambda alpha, r: alpha * r),
        ),
        ("LoRA adds (alpha / r) · B A x.", "return alpha / r"),
    ),
    "7.2": Exercise(
        lambda d_in, d_out, r: r * (d_in + d_out), ((576, 576, 32), (576, 192, 32), (1536, 576, 8)),
        (
            ("That is the size of the full matrix B A; LoRA stores A and B, not their product.",
             lambda d_in, d_out, r: d_in * d_out),
            ("That multiplies the two sides; A has r·d_in values and B has d_out·r: add them.",
             lambda d_in, d_out, r: r * d_in * d_out),
            ("Only one of the two matrices is counted.", lambda d_in, d_out, r: r * d_in),
        ),
        ("A is r × d_in, B is d_out × r.", "return r * d_in + d_out * r"),
    ),
    "7.3": Exercise(
        lambda n, batch, accumulation, epochs: math.ceil(math.ceil(n / batch) / accumulation) * epochs,
        ((1000, 8, 1, 1), (1001, 8, 1, 2), (100, 4, 2, 3), (101, 4, 4, 1)),
        (
            ("A last, smaller batch is a batch too: round up, not down.",
             lambda n, batch, accumulation, epochs: n // batch // accumulation * epochs),
            ("Accumulation is missing: that many batches share one optimizer step.",
             lambda n, batch, accumulation, epochs: math.ceil(n / batch) * epochs),
            ("Epochs are missing.", lambda n, batch, accumulation, epochs: math.ceil(math.ceil(n / batch) / accumulation)),
        ),
        ("First batches per epoch, then steps per epoch, then times epochs.", "math.ceil rounds up; use it twice."),
    ),
    "7.4": Exercise(
        _mask, (([5, 6, 7, 8], 2), ([1, 2, 3], 1), ([9, 9], 0)),
        (
            ("That hides the answer and trains the prompt: mask the first n, keep the rest.",
             lambda ids, n: ids[:n] + [-100] * (len(ids) - n)),
            ("The prompt was cut away; labels must be as long as the input.", lambda ids, n: ids[n:]),
            ("-100 is what the loss ignores; 0 is a real token.", lambda ids, n: [0] * n + ids[n:]),
        ),
        ("Labels are a copy of the ids in which the first n say -100.", "return [-100] * n + ids[n:]"),
    ),
}  # fmt: skip
