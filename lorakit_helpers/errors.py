"""The one error type of the course: what is wrong, what was got, what was expected, what to do."""

__all__ = ["LorakitError"]


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
