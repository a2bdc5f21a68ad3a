"""Split so that near-copies stay on one side, shuffle with a seed, and say whether there are enough rows for a goal."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

from ..errors import LorakitError, did_you_mean
from .formats import detect_format, reader_for
from .rules.base import Example
from .similarity import near_duplicate_groups

__all__ = ["GOALS", "SizeAdvice", "Split", "shuffle_rows", "size_advice", "split_rows"]

#: Rows that the course's source recommends by goal: at least, and up to (None: more is better).
GOALS = {
    "style": (100, 500, "a tone or a format"),
    "task": (500, 5_000, "one task with a checkable answer"),
    "domain": (5_000, 50_000, "knowledge of a domain"),
    "general": (10_000, None, "general instructions"),
}


@dataclass(frozen=True)
class Split:
    """Three parts of the rows given; every row is in exactly one.

    Attributes:
        groups: how many groups of near-copies (or given groups) there were; no group is in two parts.
    """

    train: list
    validation: list
    test: list
    groups: int
    seed: int

    def __str__(self) -> str:
        return (
            f"{len(self.train)} train, {len(self.validation)} validation, {len(self.test)} test rows; "
            f"{self.groups} groups kept whole (seed {self.seed})"
        )


def shuffle_rows(rows: Sequence, seed: int = 0) -> list:
    """The rows in a random order that the seed decides; the list given is left as it is.

    Example:
        >>> shuffle_rows([1, 2, 3, 4], seed=0) == shuffle_rows([1, 2, 3, 4], seed=0)
        True
    """
    rows = list(rows)
    random.Random(seed).shuffle(rows)
    return rows


def _share(name: str, value: float) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1:
        raise LorakitError(f"share for {name}", got=repr(value), expected="from 0 to less than 1", do="Try 0.1.")
    return float(value)


def split_rows(
    rows: Sequence[dict],
    *,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    groups: Sequence | None = None,
    threshold: float = 0.7,
) -> Split:
    """Split rows at random into train, validation and test, groups kept whole (scikit-learn's GroupShuffleSplit).

    Args:
        rows: in any known format; with ``groups`` anything.
        validation, test: shares of the groups; 0 leaves a part empty.
        groups: one value for each row, rows of one value stay together (a customer, a document); None makes groups of
            prompts that are near-copies by MinHash with a Jaccard similarity of at least ``threshold``.

    Raises:
        LorakitError: for shares of 1 or more together, too few groups for them, or groups that do not fit the rows.

    Example:
        >>> rows = [{"instruction": f"word {i} " * 9, "output": "x"} for i in range(10)]
        >>> print(split_rows(rows, validation=0.2, test=0.2))
        6 train, 2 validation, 2 test rows; 10 groups kept whole (seed 0)
    """
    rows = list(rows)
    held_out = {"validation": _share("validation", validation), "test": _share("test", test)}
    if sum(held_out.values()) >= 1:
        raise LorakitError(
            "shares held out", got=f"{validation} + {test}", expected="less than 1 together", do="Leave some rows to train on."
        )
    groups = _prompt_groups(rows, threshold) if groups is None else list(groups)
    if len(groups) != len(rows):
        raise LorakitError("groups", got=f"{len(groups)}", expected=f"one for each of {len(rows)} rows", do="Give one a row.")
    kinds = len(set(groups))
    needed = 1 + sum(share > 0 for share in held_out.values())
    if kinds < needed:
        raise LorakitError(
            "rows to split", got=f"{kinds} group{'s' * (kinds != 1)} of near-copies", expected=f"at least {needed}",
            do="Collect rows that differ more.",
        )  # fmt: skip
    left, parts = list(range(len(rows))), {"validation": [], "test": []}
    share_left, later = 1.0, needed
    for name, share in held_out.items():
        if share:
            later -= 1  # groups that the parts to come need
            left, parts[name] = _cut(left, groups, share / share_left, seed, later)
            share_left -= share
    chosen = {name: [rows[i] for i in part] for name, part in parts.items()}
    return Split([rows[i] for i in left], chosen["validation"], chosen["test"], kinds, seed)


def _cut(indices: list[int], groups: Sequence, share: float, seed: int, later: int) -> tuple[list[int], list[int]]:
    from sklearn.model_selection import GroupShuffleSplit

    of_each = [groups[i] for i in indices]
    kinds = len(set(of_each))
    size = min(kinds - later, max(1, round(share * kinds)))
    numbers = {group: number for number, group in enumerate(dict.fromkeys(of_each))}  # any hashable value may be a group
    splitter = GroupShuffleSplit(n_splits=1, test_size=size, random_state=seed)
    kept, cut = next(splitter.split(indices, groups=[numbers[group] for group in of_each]))
    return [indices[i] for i in kept], [indices[i] for i in cut]


def _prompt_groups(rows: list[dict], threshold: float) -> list[int]:
    read = reader_for(detect_format(rows).format)
    examples = (Example(i, read(row, f"row {i}")) for i, row in enumerate(rows, 1))
    return near_duplicate_groups((example.prompt or example.answer for example in examples), threshold)


@dataclass(frozen=True)
class SizeAdvice:
    """Whether there are enough rows for a goal.

    Attributes:
        verdict: ``"too few"``, ``"enough"`` or ``"more than needed"``.
    """

    goal: str
    rows: int
    least: int
    most: int | None
    verdict: str
    advice: str

    def __str__(self) -> str:
        span = f"{self.least:,}–{self.most:,}" if self.most else f"{self.least:,} or more"
        return f"{self.rows:,} rows for {GOALS[self.goal][2]} ({span} recommended): {self.verdict}. {self.advice}"


def size_advice(goal: str, rows: int) -> SizeAdvice:
    """Compare a number of rows with what is recommended for a goal; rules of thumb, not laws.

    Args:
        goal: ``"style"``, ``"task"``, ``"domain"`` or ``"general"``.

    Example:
        >>> print(size_advice("style", 40))
        40 rows for a tone or a format (100–500 recommended): too few. Write 60 more careful ones before tuning anything.
    """
    if goal not in GOALS:
        fix = did_you_mean(goal, GOALS, "Choose the nearest.")
        raise LorakitError("goal", got=repr(goal), expected="one of " + ", ".join(GOALS), do=fix)
    if not isinstance(rows, Integral) or isinstance(rows, bool) or rows < 0:
        raise LorakitError("rows", got=repr(rows), expected="a whole number of at least 0", do="Pass len(rows).")
    least, most, _ = GOALS[goal]
    if rows < least:
        verdict, advice = "too few", f"Write {least - rows:,} more careful ones before tuning anything."
    elif most is None or rows <= most:
        verdict, advice = "enough", "Now quality counts more than number: lint them."
    elif goal == "domain":
        verdict, advice = "enough", "For knowledge, more is better as long as it is clean; compare with retrieval (RAG)."
    else:
        verdict, advice = "more than needed", f"Try the best {most:,} first and compare on the same test."
    return SizeAdvice(goal, rows, least, most, verdict, advice)
