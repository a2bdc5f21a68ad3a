"""Which model on which card: the method that gives up least and fits, with the memory model's own error as the margin."""

from dataclasses import asdict, dataclass

from ..errors import LorakitError
from ..memory import GPUS, TrainSetup, estimate, find_model, plan
from ..memory.estimate import CONTEXT_GIB, SLACK
from ..memory.report import published_rows

__all__ = ["CARDS", "METHODS", "MODELS", "Cell", "Matrix", "card_gib", "model_matrix", "trust_interval"]

#: The methods, from the one that gives up least to the one that needs least.
METHODS = ("full", "lora", "qlora")
#: Cards by the number on the box, GB.
CARDS = (8, 12, 16, 24, 48, 80)
MODELS = ("Qwen2.5-0.5B", "Llama-3.2-1B", "Llama-3.2-3B", "Llama-3.1-8B", "Qwen2.5-14B", "Gemma-2-27B", "Qwen2.5-32B",
          "Llama-3.3-70B")  # fmt: skip
#: Rungs of ``memory.plan`` that keep model, data and method: what a cell may still change.
_ALLOWED = ("sequences of", "rank 8")


@dataclass(frozen=True)
class Cell:
    """One model on one card.

    Attributes:
        model, card_gb: which.
        method: "full", "lora", "qlora", or "" when none fits.
        change: what of ``memory.plan``'s ladder it takes for QLoRA to fit, "" for nothing.
        sure: whether it fits at the upper end of the interval, too.
        needed_gib: (low, best, high): what the card must offer by the interval of trust, GiB; of QLoRA where nothing fits.
        card_gib: what the card offers, GiB.
    """

    model: str
    card_gb: int
    method: str
    change: str
    sure: bool
    needed_gib: tuple[float, float, float]
    card_gib: float

    @property
    def text(self) -> str:
        """What is written in the table."""
        if not self.method:
            return "–"
        name = {"full": "full", "lora": "LoRA", "qlora": "QLoRA"}[self.method]
        return name + (f", {self.change}" if self.change else "") + ("" if self.sure else " ?")

    def __str__(self):
        low, best, high = self.needed_gib
        return (
            f"{self.model} on {self.card_gb} GB: {self.text} ({best:.1f} GiB, {low:.1f} to {high:.1f}, of {self.card_gib:.1f})"
        )


@dataclass(frozen=True)
class Matrix:
    """Models by cards.

    Attributes:
        models, cards: rows, and columns (GB on the box).
        cells: ``{(model, card): Cell}``.
        setup: what was asked for.
        trust: measured over predicted, (lowest, highest) of the published peaks.
        rows: how many published peaks that is.
    """

    models: tuple[str, ...]
    cards: tuple[int, ...]
    cells: dict[tuple[str, int], Cell]
    setup: TrainSetup
    trust: tuple[float, float]
    rows: int

    def markdown(self) -> str:
        """The table, with a sentence on what "?" and the setup mean."""
        s, (low, high) = self.setup, self.trust
        lines = ["| model | " + " | ".join(f"{card} GB" for card in self.cards) + " |", "|---" * (len(self.cards) + 1) + "|"]
        lines += [f"| {m} | " + " | ".join(self.cells[m, c].text for c in self.cards) + " |" for m in self.models]
        parts = ["gradient checkpointing" * s.gradient_checkpointing, "fused loss" * s.fused_loss, f"optimizer {s.optimizer}"]
        note = (
            f"Estimated, one card: batch {s.micro_batch} × {s.seq_len:,} tokens, rank {s.r}, {', '.join(filter(None, parts))}. "
            f'Without "?": fits even where the estimate errs as far as it did on {self.rows} published peaks (measured '
            f'{low:.2f} to {high:.2f} times predicted); with "?": only by the estimate.'
        )
        return "\n".join([*lines, "", note]) + "\n"

    def to_dict(self) -> dict:
        cells = [asdict(cell) | {"text": cell.text} for cell in self.cells.values()]
        return {"setup": self.setup.to_dict(), "trust": self.trust, "rows": self.rows, "cells": cells}

    def __str__(self):
        fit = sum(bool(cell.method) for cell in self.cells.values())
        return f"{fit} of {len(self.cells)} pairs of model and card can be trained, {self.trust[1] - 1:.0%} margin at most"


def trust_interval() -> tuple[float, float, int]:
    """(lowest, highest, rows): measured over predicted peak, of the published rows that say enough to be compared.

    Raises:
        LorakitError: when the course folder is not there.
    """
    ratios = [1 / (1 + error) for _, error, _ in published_rows(simulated=False)]
    return min(ratios), max(ratios), len(ratios)


def card_gib(card_gb: int) -> float:
    """What PyTorch finds on a card of so many GB on the box: the least of those listed, GiB.

    Raises:
        LorakitError: for a size no listed card has.

    Example:
        >>> card_gib(24)
        21.99
    """
    found = [gpu.memory_gib for gpu in GPUS.values() if gpu.sold_as_gb == card_gb]
    if not found:
        known = sorted({gpu.sold_as_gb for gpu in GPUS.values()})
        near = min(known, key=lambda size: abs(size - card_gb)) if isinstance(card_gb, int) else 24
        raise LorakitError("card", got=f"{card_gb!r} GB", expected="one of " + ", ".join(map(str, known)), do=f"Try {near}.")
    return min(found)


def model_matrix(models=MODELS, cards=CARDS, *, setup: TrainSetup | None = None) -> Matrix:
    """For each model and card the method that gives up least and fits.

    Args:
        models: catalogue names.
        cards: GB on the box.
        setup: batch, length, rank and so on; the method in it is not used. None: one sequence of 2,048 tokens, rank 16,
            gradient checkpointing, fused loss and 8-bit AdamW, as Unsloth trains.

    Raises:
        LorakitError: for an unknown model or card.
    """
    setup = setup or TrainSetup(seq_len=2048, gradient_checkpointing=True, fused_loss=True, optimizer="adamw_8bit")
    low, high, rows = trust_interval()
    names = tuple(find_model(model).name for model in models)
    sizes = {card: card_gib(card) for card in cards}
    cells = {(m, card): _cell(m, card, size, setup, (low, high)) for m in names for card, size in sizes.items()}
    return Matrix(names, tuple(cards), cells, setup, (low, high), rows)


def _cell(model, card, size, setup, trust) -> Cell:
    """The first that surely fits; else the first that fits by the estimate; else nothing."""
    ways = list(_ways(find_model(model).shape, size, setup, trust))
    for sure in (True, False):
        for method, change, needed in ways:
            if needed[2 if sure else 1] <= size:
                return Cell(model, card, method, change, sure, needed, size)
    return Cell(model, card, "", "", True, ways[-1][2], size)


def _ways(shape, size, setup, trust):
    """(method, change, needed) from the one that gives up least; at last QLoRA with the rungs of the plan's ladder."""
    for method in METHODS:
        yield method, "", _needed(estimate(shape, setup.but(method=method)), trust)
    changes = []
    for rung in plan(shape, size, setup.but(method="qlora")).ladder:
        if rung.action.startswith(_ALLOWED):
            changes.append(rung.action.removeprefix("sequences of "))  # "1024 tokens"
            # the ladder's rungs stand on one another: only what is named here is changed
            own = setup.but(method="qlora", seq_len=rung.setup.seq_len, r=rung.setup.r)
            yield "qlora", ", ".join(changes), _needed(estimate(shape, own), trust)


def _needed(found, trust) -> tuple[float, float, float]:
    def offer(factor):
        return found.total_gib * factor * (1 + SLACK) + CONTEXT_GIB

    return offer(trust[0]), offer(1.0), offer(trust[1])
