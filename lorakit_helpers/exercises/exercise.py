"""What an exercise is made of."""

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Exercise"]


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
