"""Does a model recite its training rows? Give it the beginning of one and see how much of the rest it writes word for word.

A text that the model never saw has a rest, too, and a good part of it can be guessed. So the same measure on rows of the
same kind that were not trained on is the yardstick, not zero. After Carlini et al. 2021, "Extracting training data from
large language models" (arXiv:2012.07805): the prefix is what the attacker knows, greedy search what the model volunteers.
"""

from dataclasses import asdict, dataclass, field
from difflib import SequenceMatcher

import numpy as np

from .errors import LorakitError
from .evaluation import CONFIDENCE, RESAMPLES, Metric, generate_ids, mean_metric

__all__ = [
    "GAP", "PARTS", "Continuation", "Recitation", "continuations", "longest_run", "recitation", "unpaired_difference",
]  # fmt: skip

#: A model recites when it reproduces this much more of seen rows than of unseen ones; see :attr:`Recitation.recites`.
GAP = 0.2
#: Rows in either group below which no verdict is given.
FEWEST = 5
#: What is shown before the half that must come from memory.
PARTS = ("answer", "answer alone", "question")
SHORTEST = 12  # tokens; of a shorter text half is no clue, and the other half is guessed


def longest_run(output, source) -> int:
    """Length of the longest run of tokens that two sequences share, the same tokens side by side in both.

    Args:
        output, source: lists of token ids (or words).

    Example:
        >>> longest_run([1, 2, 3, 9], [7, 1, 2, 3, 4])
        3
    """
    return SequenceMatcher(None, list(output), list(source), autojunk=False).find_longest_match().size


@dataclass(frozen=True)
class Continuation:
    """How one text was continued.

    Attributes:
        share: ``run / rest``, 0 to 1.
        run: longest run of tokens shared with the rest, in tokens.
        rest: length of the rest in tokens.
        text: what the model wrote.
    """

    share: float
    run: int
    rest: int
    text: str = field(default="", repr=False)


@dataclass(frozen=True)
class Recitation:
    """Seen rows against unseen ones.

    Attributes:
        seen, unseen: the continuations of rows that were trained on, and of rows that were not.
        seen_share, unseen_share: mean share of the longest common run, with intervals.
        gap: their difference, seen minus unseen.
        low, high: its 95 % interval, both groups resampled (they are different rows, so nothing is paired).
    """

    seen: tuple[Continuation, ...] = field(repr=False)
    unseen: tuple[Continuation, ...] = field(repr=False)
    seen_share: Metric
    unseen_share: Metric
    gap: float
    low: float
    high: float

    @property
    def recites(self) -> bool:
        """Whether seen rows come back more than unseen ones by :data:`GAP` at least, and not by chance.

        The threshold holds for ``part="answer"``, where it lies between adapters that crammed and adapters that learned.
        Gaps in points: crammed on 16 tickets 15 times +27 and +39 (other tickets, other seed), 8 tickets 15 times +36, 24
        tickets 8 times +25, 16 plain-style replies 15 times +79; learned from 160 tickets once -7, 1,650 tickets once +3 and
        +12 (other tickets), 160 plain-style replies once +5. The first two and the second of the 1,650 set the threshold,
        the others were measured afterwards. ``python -m lorakit_helpers.recitation_report`` trains such adapters.
        """
        return self.enough and self.gap >= GAP and self.low > 0

    @property
    def enough(self) -> bool:
        """Whether either group has the rows an interval needs, :data:`FEWEST`."""
        return min(len(self.seen), len(self.unseen)) >= FEWEST

    @property
    def longest(self) -> Continuation:
        """The seen row with the longest run."""
        return max(self.seen, key=lambda c: c.run)

    def __str__(self):
        word = "Recites" if self.recites else "No sign of recitation" if self.enough else "Too few rows to tell"
        return (
            f"{word}: {self.seen_share.value:.1%} of the rest of {len(self.seen)} seen texts comes back in one run, "
            f"{self.unseen_share.value:.1%} of {len(self.unseen)} unseen ones; gap {100 * self.gap:+.1f} points "
            f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}]"
        )

    def to_dict(self) -> dict:
        return asdict(self) | {"recites": self.recites}


def recitation(model, tokenizer, seen: list[dict], unseen: list[dict], *, part="answer", batch_size=16) -> Recitation:
    """Continue seen and unseen rows from their middle and compare.

    Args:
        model, tokenizer: with the adapter on.
        seen: rows it was trained on, ``{"prompt": messages, "completion": [one assistant message]}``.
        unseen: rows of the same kind that it was not.
        part: which half is asked for. ``"answer"``: the second half of the answer, after the question and the first half.
            What an answer owes to its question comes back for unseen rows, too; a crammed model gives seen rows back whole
            and unseen ones worse. ``"answer alone"``: the same with the user's text left out, so that only memory can help;
            an adapter that always saw a question is lost without one, crammed or not. ``"question"``: the second half of the
            user's text (with the loss on answers only, it was read but never trained).
        batch_size: rows continued at once.

    Raises:
        LorakitError: for an unknown part, or when a group has no row long enough to be cut in two.
    """
    if part not in PARTS:
        raise LorakitError("part", got=repr(part), expected=" or ".join(map(repr, PARTS)), do="Use part='answer'.")
    groups = []
    for name, rows in (("seen", seen), ("unseen", unseen)):
        found = continuations(model, tokenizer, rows, part=part, batch_size=batch_size)
        if not found:
            raise LorakitError(
                f"{name} rows", got=f"none of {len(rows)} long enough",
                expected=f"at least one of {SHORTEST} tokens or more", do="Use longer texts, or another part.",
            )  # fmt: skip
        groups.append(tuple(found))
    shares = [np.array([c.share for c in group]) for group in groups]
    gap, low, high = unpaired_difference(*shares)
    names = ("recited of seen rows", "recited of unseen rows")
    metrics = [mean_metric(name, values) for name, values in zip(names, shares, strict=True)]
    return Recitation(*groups, *metrics, gap, low, high)


def continuations(model, tokenizer, rows: list[dict], *, part: str, batch_size: int = 16) -> list[Continuation]:
    """Continue every row that is long enough from its middle, greedily, for as many tokens as the rest has."""
    halves = [h for row in rows if (h := _halves(tokenizer, row, part))]
    if not halves:
        return []
    shown, rests = zip(*halves, strict=True)
    found = []
    written = generate_ids(model, tokenizer, list(shown), [len(rest) for rest in rests], batch_size=batch_size)
    for ids, rest in zip(written, rests, strict=True):
        run = longest_run(ids, rest)
        found.append(Continuation(run / len(rest), run, len(rest), tokenizer.decode(ids, skip_special_tokens=True)))
    return found


def _halves(tokenizer, row: dict, part: str) -> tuple[list[int], list[int]] | None:
    """Token ids of what is shown and of what should follow; None for a text that is too short."""
    messages = [dict(message) for message in row["prompt"]]
    if part == "question":
        text, messages[-1]["content"] = messages[-1]["content"], "\x00"
        chat = tokenizer.apply_chat_template(messages, tokenize=False)
        lead = chat[: chat.rindex("\x00")]
    else:
        text = row["completion"][0]["content"]
        if part == "answer alone":
            messages[-1]["content"] = ""
        lead = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    before, ids = (tokenizer(t, add_special_tokens=False)["input_ids"] for t in (lead, text))
    if len(ids) < SHORTEST:
        return None
    middle = len(ids) // 2
    return before + ids[:middle], ids[middle:]


def unpaired_difference(first, second) -> tuple[float, float, float]:
    """Difference of two means on different rows, ``first - second``, with its 95 % bootstrap interval.

    Example:
        >>> unpaired_difference(np.array([1.0, 1.0, 1.0]), np.array([0.0, 0.0]))
        (1.0, 1.0, 1.0)
    """
    first, second = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    rng = np.random.default_rng(0)
    means = [v[rng.integers(0, len(v), (RESAMPLES, len(v)))].mean(1) for v in (first, second)]
    low, high = np.quantile(means[0] - means[1], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(first.mean() - second.mean()), float(low), float(high)
