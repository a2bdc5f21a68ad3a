"""How long rows are in tokens, and what a ``max_length`` costs: rows cut, padding computed for nothing, packing's gain."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from numbers import Integral

from ..errors import LorakitError

__all__ = ["LengthCost", "LengthStats", "length_cost", "length_stats", "pack_first_fit"]


def checked_lengths(lengths: Sequence[int]) -> list[int]:
    """The lengths as a list, or a LorakitError when there are none or one is below 1."""
    lengths = [int(length) for length in lengths]
    if not lengths or min(lengths) < 1:
        got = "none" if not lengths else repr(min(lengths))
        raise LorakitError("lengths", got=got, expected="at least one, each 1 or more", do="Count the tokens of every row.")
    return lengths


def _checked_size(name: str, value: int) -> None:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise LorakitError(name, got=repr(value), expected="a whole number of at least 1", do="Try 1024 for max_length.")


@dataclass(frozen=True)
class LengthStats:
    """Token lengths of rows: number, total, mean, and percentiles (the nearest length that occurs)."""

    rows: int
    tokens: int
    mean: float
    shortest: int
    p50: int
    p90: int
    p95: int
    p99: int
    longest: int

    def __str__(self) -> str:
        return (
            f"{self.rows} rows, {self.tokens:,} tokens; half have at most {self.p50}, 90 % {self.p90}, 95 % {self.p95}, "
            f"99 % {self.p99}, the longest {self.longest}"
        )

    def to_dict(self) -> dict:
        return asdict(self)


def length_stats(lengths: Sequence[int]) -> LengthStats:
    """Summarize token lengths.

    Example:
        >>> print(length_stats([10, 20, 30, 400]))
        4 rows, 460 tokens; half have at most 20, 90 % 400, 95 % 400, 99 % 400, the longest 400
    """
    lengths = sorted(checked_lengths(lengths))
    n = len(lengths)
    p50, p90, p95, p99 = (lengths[max(0, -(-n * percent // 100) - 1)] for percent in (50, 90, 95, 99))
    return LengthStats(n, sum(lengths), sum(lengths) / n, lengths[0], p50, p90, p95, p99, lengths[-1])


@dataclass(frozen=True)
class LengthCost:
    """What a ``max_length`` does to rows of given lengths, in order.

    Attributes:
        rows: number of rows.
        rows_cut, tokens_cut: rows longer than max_length, and their tokens beyond it.
        answers_cut, answers_lost: rows whose answer loses its end, and those of them whose answer is gone wholly (the
            prompt alone fills max_length; trl drops such rows without a word unless it packs); None when the prompts'
            lengths were not given.
        tokens_kept: tokens that are trained on or read.
        tokens_padded: tokens computed when each batch is padded to its longest row.
        tokens_padded_sorted: the same with rows sorted by length first.
        sequences_packed: sequences of max_length after first-fit-decreasing packing.
    """

    max_length: int
    batch_size: int
    rows: int
    rows_cut: int
    tokens_cut: int
    answers_cut: int | None
    answers_lost: int | None
    tokens_kept: int
    tokens_padded: int
    tokens_padded_sorted: int
    sequences_packed: int

    @property
    def padding_share(self) -> float:
        """Share of the computed tokens that are padding."""
        return 1 - self.tokens_kept / self.tokens_padded

    @property
    def padding_share_sorted(self) -> float:
        return 1 - self.tokens_kept / self.tokens_padded_sorted

    @property
    def packing_efficiency(self) -> float:
        """Tokens kept over the room of the packed sequences."""
        return self.tokens_kept / (self.sequences_packed * self.max_length)

    def __str__(self) -> str:
        answers = "" if self.answers_cut is None else f", {self.answers_cut} answers without their end"
        return (
            f"max_length {self.max_length}: {self.rows_cut} of {self.rows} rows cut{answers}; {100 * self.padding_share:.0f} % "
            f"padding in batches of {self.batch_size} ({100 * self.padding_share_sorted:.0f} % sorted by length); packed into "
            f"{self.sequences_packed} sequences, {100 * self.packing_efficiency:.0f} % full"
        )

    def to_dict(self) -> dict:
        shares = ("padding_share", "padding_share_sorted", "packing_efficiency")
        return asdict(self) | {name: getattr(self, name) for name in shares}


def length_cost(
    lengths: Sequence[int], max_length: int, *, batch_size: int = 8, prompt_lengths: Sequence[int] | None = None
) -> LengthCost:
    """What ``max_length`` cuts, and what padding and packing cost, for rows in their training order.

    Args:
        lengths: tokens of each row.
        prompt_lengths: tokens of each row before its answer; None leaves the answers uncounted.

    Raises:
        LorakitError: for no lengths, or sizes below 1.

    Example:
        >>> print(length_cost([2, 8, 2, 12], 8, batch_size=2))
        max_length 8: 1 of 4 rows cut; 38 % padding in batches of 2 (0 % sorted by length); packed into 3 sequences, 83 % full
    """
    lengths = checked_lengths(lengths)
    _checked_size("max_length", max_length)
    _checked_size("batch_size", batch_size)
    answers_cut = answers_lost = None
    if prompt_lengths is not None:
        prompts = list(prompt_lengths)
        if len(prompts) != len(lengths):
            raise LorakitError("prompt_lengths", got=f"{len(prompts)}", expected=f"{len(lengths)}", do="Give one for each row.")
        answers_cut = sum(length > max_length for length in lengths)
        answers_lost = sum(length > max_length <= prompt for length, prompt in zip(lengths, prompts, strict=True))
    cut = [min(length, max_length) for length in lengths]
    return LengthCost(
        max_length, batch_size, len(lengths), sum(length > max_length for length in lengths), sum(lengths) - sum(cut),
        answers_cut, answers_lost, sum(cut), _padded(cut, batch_size), _padded(sorted(cut), batch_size),
        _sequences(cut, max_length),
    )  # fmt: skip


def _padded(lengths: list[int], batch_size: int) -> int:
    batches = (lengths[i : i + batch_size] for i in range(0, len(lengths), batch_size))
    return sum(max(batch) * len(batch) for batch in batches)


def _sequences(lengths: list[int], room: int) -> int:
    """How many sequences :func:`pack_first_fit` needs, some ten times faster: rows of one length are placed together.

    Sequences next to each other with equal room left are one run, ``[room left, sequences]``.
    """
    runs: list[list[int]] = []
    for length, rows in sorted(Counter(lengths).items(), reverse=True):
        after = []
        for left, count in [*runs, [room, rows]]:  # the last run: as many new sequences as could be needed
            each = left // length
            full, over = divmod(min(rows, each * count), each or 1)
            rows -= full * each + over
            untouched = count - full - (over > 0)
            for part in ([left - each * length, full], [left - over * length, int(over > 0)], [left, untouched]):
                if part[1] and after and after[-1][0] == part[0]:
                    after[-1][1] += part[1]
                elif part[1]:
                    after.append(part)
        runs = after[:-1] if after[-1][0] == room else after  # sequences still empty are none
    return sum(count for _, count in runs)


def pack_first_fit(lengths: Sequence[int], max_length: int) -> list[list[int]]:
    """Pack rows into sequences of at most ``max_length`` by first-fit decreasing.

    It needs at most 11/9 of the best possible number, plus 6/9 (Dósa 2007).

    trl's ``packing=True`` uses best-fit decreasing (``packing_strategy="bfd"``), in each block of 1,000 rows by itself; over
    all rows at once the two need nearly the same number of sequences. Rows longer than max_length are cut by both. A packed
    batch has no padding, and fewer, fuller steps: the same epochs are fewer updates.

    Returns:
        For each sequence the indices of its rows, longest first.

    Example:
        >>> pack_first_fit([2, 8, 2, 12], 8)
        [[1], [3], [0, 2]]
    """
    lengths = checked_lengths(lengths)
    _checked_size("max_length", max_length)
    order = sorted(range(len(lengths)), key=lambda i: -min(lengths[i], max_length))
    size = 1 << (len(lengths) - 1).bit_length()  # a tournament tree over the room left: the first bin with room in log n
    room = [max_length] * (2 * size)
    bins: list[list[int]] = []
    for i in order:
        length, at = min(lengths[i], max_length), 1
        while at < size:
            at = 2 * at if room[2 * at] >= length else 2 * at + 1
        if at - size == len(bins):
            bins.append([])
        bins[at - size].append(i)
        room[at] -= length
        while at > 1:
            at //= 2
            room[at] = max(room[2 * at], room[2 * at + 1])
    return bins
