"""Read two models' answers to the same tickets side by side, and vote without knowing whose they are.

Reading finds what no metric was made for. Voting blind keeps the reader honest: who knows which answer is the new model's
likes it better. Everything here is a pure function of the answers, the seed and the votes.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from .errors import LorakitError
from .evaluation import CONFIDENCE, check_one_each
from .tickets import KEYS, Ticket, answer_text, parse_answer

__all__ = [
    "CHOICES", "Pair", "WinRate", "deal", "differing_fields", "pairs_of", "representative", "sentence", "side_by_side", "tally",
]  # fmt: skip

#: What a voter may say about a pair.
CHOICES = ("first", "second", "no difference")


@dataclass(frozen=True)
class Pair:
    """One ticket with the answers of two models.

    Attributes:
        ticket: what was asked, with the right answer.
        base, tuned: what the two models wrote.
    """

    ticket: Ticket
    base: str = field(repr=False)
    tuned: str = field(repr=False)

    def shown(self, tuned_first: bool) -> tuple[str, str]:
        """The two answers in the order dealt."""
        return (self.tuned, self.base) if tuned_first else (self.base, self.tuned)


def pairs_of(tickets: Sequence[Ticket], base: Sequence[str], tuned: Sequence[str]) -> list[Pair]:
    """Put tickets and both models' answers together.

    Raises:
        LorakitError: when there is not one answer of each model per ticket, or no ticket.
    """
    for outputs in (base, tuned):
        check_one_each(outputs, tickets, "ticket")
    return [Pair(*row) for row in zip(tickets, base, tuned, strict=True)]


def representative(tickets: Sequence[Ticket], n: int) -> list[Ticket]:
    """``n`` tickets that stand for all: sorted by intent, urgency and length, then taken at equal steps.

    So each intent and urgency has about the share it has in the whole, with short and long tickets of it.

    Raises:
        LorakitError: when ``n`` is not from 1 to the number of tickets.

    Example:
        >>> from lorakit_helpers.tickets import load_split
        >>> sorted({t.answer["intent"] for t in representative(load_split("test"), 24)})
        ['cancel', 'exchange', 'question', 'refund', 'shipping']
    """
    if n != int(n) or not 1 <= n <= len(tickets):
        raise LorakitError("n", got=n, expected=f"a whole number from 1 to {len(tickets)}", do="Take fewer, or another split.")
    ranked = sorted(tickets, key=lambda t: (t.answer["intent"], t.answer["urgency"], len(t.ticket), t.id))
    return [ranked[int((i + 0.5) * len(ranked) / n)] for i in range(n)]


def differing_fields(first: str, second: str) -> tuple[str, ...]:
    """The fields in which two answers differ; all of them when only one answer, or neither, can be read.

    Example:
        >>> one = {"order_id": None, "customer": "Bo", "product": "lamp", "intent": "refund", "urgency": "low"}
        >>> differing_fields(answer_text(one), answer_text(one | {"urgency": "high"}))
        ('urgency',)
    """
    if first == second:
        return ()
    a, b = (parse_answer(text)[0] for text in (first, second))
    if a is None or b is None:
        return KEYS
    return tuple(key for key in KEYS if a[key] != b[key])


def side_by_side(pair: Pair) -> str:
    """One ticket, both answers and the wanted one as plain text, with a sentence on where the two models differ."""
    fields = differing_fields(pair.base, pair.tuned)
    return (
        f"{pair.ticket.ticket}\n  base   {' '.join(pair.base.split())}\n  tuned  {' '.join(pair.tuned.split())}\n"
        f"  wanted {answer_text(pair.ticket.answer)}\n  differ in: {', '.join(fields) or 'nothing'}"
    )


def deal(n: int, seed: int = 0) -> tuple[bool, ...]:
    """For each of ``n`` pairs, whether the tuned model's answer is shown first: coins tossed once, before any vote.

    Example:
        >>> deal(4) == deal(4)
        True
    """
    rng = random.Random(seed)
    return tuple(rng.random() < 0.5 for _ in range(n))


@dataclass(frozen=True)
class WinRate:
    """The outcome of a vote.

    Attributes:
        wins, losses: votes for the tuned and for the base model.
        ties: votes for no difference; they decide nothing and are left out of the rate.
        rate: ``wins / (wins + losses)``; None when nothing was decided.
        low, high: exact 95 % interval of the rate (Clopper-Pearson); 0 and 1 when nothing was decided.
    """

    wins: int
    losses: int
    ties: int
    rate: float | None
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``"the tuned model"``, ``"the base model"`` or ``"neither"``: whose side of one half the whole interval is on."""
        return "the tuned model" if self.low > 0.5 else "the base model" if self.high < 0.5 else "neither"

    def __str__(self):
        votes = f"{self.wins} votes for the tuned model, {self.losses} for the base model, {self.ties} for no difference"
        if self.rate is None:
            return f"{votes}; nothing is decided."
        return f"{votes}: win rate {self.rate:.0%} [{self.low:.0%}, {self.high:.0%}]; preferred: {self.verdict}."


def tally(votes: dict[int, str], dealt: Sequence[bool]) -> WinRate:
    """Count votes on hidden answers.

    Args:
        votes: from a pair's place to one of :data:`CHOICES`; pairs without a vote do not count.
        dealt: as :func:`deal` gave it.

    Raises:
        LorakitError: for a place that was not dealt, or a vote of another name.

    Example:
        >>> print(tally({0: "first", 1: "second", 2: "no difference"}, (True, False, True)))
        2 votes for the tuned model, 0 for the base model, 1 for no difference: win rate 100% [16%, 100%]; preferred: neither.
    """
    from scipy.stats import binomtest

    for place, vote in votes.items():
        if vote not in CHOICES or place not in range(len(dealt)):
            raise LorakitError(
                "vote", got=f"{vote!r} on pair {place}", expected=f"{', '.join(CHOICES)}, on pairs 0 to {len(dealt) - 1}",
                do="Vote on pairs that were shown.",
            )  # fmt: skip
    decided = [(vote == "first") == dealt[place] for place, vote in votes.items() if vote != "no difference"]
    wins, n = sum(decided), len(decided)
    if not n:
        return WinRate(0, 0, len(votes), None, 0.0, 1.0)
    interval = binomtest(wins, n).proportion_ci(CONFIDENCE, method="exact")
    return WinRate(wins, n - wins, len(votes) - n, wins / n, float(interval.low), float(interval.high))


def sentence(
    pairs: Sequence[Pair], place: int, *, blind: bool = False, votes: dict | None = None, dealt: Sequence[bool] = (),
    revealed: bool = False,
) -> str:  # fmt: skip
    """What is to be seen of one pair, in words that give nothing away before the reveal.

    Args:
        place: of the pair, counted from 0.
        blind, votes, dealt, revealed: the state of the vote.
    """
    votes, pair = votes or {}, pairs[place]
    fields = differing_fields(pair.base, pair.tuned)
    differ = f"The answers differ in {', '.join(fields)}." if fields else "The answers are the same."
    where = f"Ticket {place + 1} of {len(pairs)}. {differ}"
    if not blind:
        right = [name for name, text in (("base", pair.base), ("tuned", pair.tuned)) if _exact(text, pair.ticket)]
        return f"{where} Exactly right: {' and '.join(right) or 'neither'}."
    if revealed:
        return f"{where} First was {'tuned' if dealt[place] else 'base'}. {tally(votes, dealt)}"
    return f"{where} Your vote: {votes.get(place, 'none yet')}. {len(votes)} of {len(pairs)} voted on."


def _exact(text: str, ticket: Ticket) -> bool:
    return parse_answer(text)[0] == ticket.answer
