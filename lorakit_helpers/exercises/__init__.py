"""Exercises that check themselves: name the mistake, never stop a Run All, raise in strict mode.

Each lesson's exercises are in a module of their own, ``lesson_07`` for notebook 07; a new module is found by its name.
"""

import copy
import importlib
import math
import os
import pkgutil
from numbers import Real

import numpy as np

from ..errors import LorakitError
from ..progress import record_check
from .exercise import Exercise

__all__ = ["EXERCISES", "Exercise", "check", "diagnose", "hint"]

_LESSONS = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name.startswith("lesson_"))
EXERCISES = {
    key: exercise for name in _LESSONS for key, exercise in importlib.import_module(f".{name}", __name__).EXERCISES.items()
}
_EMPTY = "Nothing is returned yet: write the body and end it with `return`."


def _outcome(function, arguments):
    given = copy.deepcopy(arguments)
    try:
        value = function(*given)
    except Exception as error:  # the learner's code may raise anything; that is an outcome like any other
        return f"{type(error).__name__}: {error}"
    if not _same(given, arguments):
        return f"changed its arguments to {given!r}"
    if getattr(value, "ndim", None) == 0:  # a NumPy or torch number
        value = value.item()
    if isinstance(value, Real) and not isinstance(value, int):  # a float or a fraction
        value = float(value)
    return round(value, 9) if isinstance(value, float) else value


def diagnose(identifier: str, function) -> str:
    """What is wrong with ``function`` as a solution, or ``""`` when it is right."""
    exercise = _find(identifier)
    wanted = [_outcome(exercise.reference, case) for case in exercise.cases]
    found = [_outcome(function, case) for case in exercise.cases]
    if _same(found, wanted):
        return ""
    if all(value is None or value is ... for value in found):
        return _EMPTY
    for sentence, wrong in exercise.mistakes:
        if _same(found, [_outcome(wrong, case) for case in exercise.cases]):
            return sentence
    case, want, got = next((c, w, f) for c, w, f in zip(exercise.cases, wanted, found, strict=True) if not _same(w, f))
    return f"For {', '.join(map(_short, case))}: expected {_short(want)}, got {_short(got)}."


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]} … {text[-40:]}"


def _same(a, b) -> bool:
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(_same(x, y) for x, y in zip(a, b, strict=True))
    try:
        if getattr(a, "ndim", 0) or getattr(b, "ndim", 0):  # arrays or tensors: same kind and shape, equal but for rounding
            return type(a) is type(b) and a.shape == b.shape and np.allclose(a.tolist(), b.tolist(), rtol=1e-6, atol=1e-9)
        if isinstance(a, float) and isinstance(b, float):  # computed in float32, a right answer is right
            return math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)
        return bool(a == b) and isinstance(a, bool) == isinstance(b, bool)
    except Exception:  # a learner's array or tensor may refuse to be compared
        return False


def check(identifier: str, function):
    """Check a solution, say so, and record it (:mod:`lorakit_helpers.progress`); returns a function that works either way.

    With the environment variable ``LORAKIT_STRICT`` set, a wrong solution raises instead.

    Returns:
        ``function`` when it is right, else the reference, so that the cells below run.

    Raises:
        LorakitError: for an unknown exercise, or in strict mode for a wrong solution.
    """
    problem = diagnose(identifier, function)
    record_check(identifier, answered=problem != _EMPTY, right=not problem)
    if not problem:
        print(f"Exercise {identifier}: right.")
        return function
    if os.environ.get("LORAKIT_STRICT"):
        raise LorakitError(f"exercise {identifier}", got=problem.rstrip("."), expected="a right solution", do="Mend it.")
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
