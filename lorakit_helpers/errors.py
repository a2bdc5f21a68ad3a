"""The one error type of the course: what is wrong, what was got, what was expected, what to do."""

import difflib

__all__ = ["LorakitError", "did_you_mean"]


class LorakitError(ValueError):
    """A problem the reader can act on, said in one sentence.

    Args:
        what: the thing that is wrong, for example ``"rank"`` or ``"data/x.jsonl, line 3"``.
        got: what was found there (shown with ``repr`` unless it is a string of prose).
        expected: what would have been right.
        do: the next step to take, a full sentence.

    Example:
        >>> print(LorakitError("rank", got=0, expected="a whole number of at least 1", do="Use r=16."))
        rank: expected a whole number of at least 1, got 0. Use r=16.
    """

    def __init__(self, what, *, got=None, expected=None, do=""):
        self.what, self.got, self.expected, self.do = what, got, expected, do
        detail = ", ".join(
            part
            for part in (
                f"expected {expected}" if expected is not None else "",
                f"got {got}" if got is not None else "",
            )
            if part
        )
        text = f"{what}: {detail}." if detail else f"{what}."
        super().__init__(f"{text} {do}".strip())

    def __reduce__(self):  # whole from one process to another
        return _again, (type(self), self.what, {"got": self.got, "expected": self.expected, "do": self.do})


def _again(kind, what, details):
    return kind(what, **details)


def did_you_mean(name, known, otherwise: str, *, n: int = 1, cutoff: float = 0.6, show=str) -> str:
    """The next step after an unknown name: the nearest known ones, or ``otherwise`` when none is near.

    Args:
        name: what was given.
        known: the names there are.
        n, cutoff: at most so many, at least so alike (as in ``difflib.get_close_matches``).
        show: how a name is written, for example ``repr``.

    Example:
        >>> did_you_mean("q_porj", ["q_proj", "v_proj"], "Choose one.")
        'Did you mean q_proj?'
    """
    near = difflib.get_close_matches(str(name), list(known), n=n, cutoff=cutoff)
    return f"Did you mean {' or '.join(map(show, near))}?" if near else otherwise
