"""A ``max_length`` weighed: what it cuts, what it wastes, and what memory and time it takes."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import LorakitError
from .lengths import LengthCost, checked_lengths, length_cost

__all__ = ["LengthChoice", "length_choice"]


@dataclass(frozen=True)
class LengthChoice:
    """What a ``max_length`` means for a data set, a model and a way to train it.

    Attributes:
        cost: rows and answers cut, padding, packing.
        memory: estimated peak of a step (a :class:`~lorakit_helpers.memory.MemoryEstimate`) at the widest batch there is.
        model: whose memory that is.
        width: tokens of the widest row in any batch, after cutting.
        tokens_per_s: tokens a second, padding included, as measured by the caller; None when nothing was measured.
    """

    cost: LengthCost
    memory: object
    model: str
    width: int
    tokens_per_s: float | None = None

    @property
    def answers_whole(self) -> int:
        """Rows whose answer keeps its end."""
        return self.cost.rows - self.cost.answers_cut

    @property
    def answers_cut_in_part(self) -> int:
        """Rows whose answer loses its end but not its beginning, a cut of only a last line break included."""
        return self.cost.answers_cut - self.cost.answers_lost

    @property
    def epoch_s(self) -> float | None:
        """Seconds for all rows once, in batches as they come."""
        return self.cost.tokens_padded / self.tokens_per_s if self.tokens_per_s else None

    @property
    def epoch_sorted_s(self) -> float | None:
        """The same with batches of similar length."""
        return self.cost.tokens_padded_sorted / self.tokens_per_s if self.tokens_per_s else None

    def to_dict(self) -> dict:
        own = ("model", "width", "tokens_per_s", "answers_whole", "answers_cut_in_part", "epoch_s", "epoch_sorted_s")
        found = {name: getattr(self, name) for name in own}
        return found | {"cost": self.cost.to_dict(), "memory": self.memory.to_dict()}

    def __str__(self) -> str:
        cost = self.cost
        time = ""
        if self.tokens_per_s:
            time = f" Epoch at {self.tokens_per_s:.0f} tokens/s: {self.epoch_s:.0f} s, by length {self.epoch_sorted_s:.0f} s."
        added, added_sorted = (100 * (n / cost.tokens_kept - 1) for n in (cost.tokens_padded, cost.tokens_padded_sorted))
        return (
            f"max_length {cost.max_length}: {cost.rows_cut} of {cost.rows} rows are cut; {self.answers_cut_in_part} answers "
            f"lose their end, {cost.answers_lost} are lost whole. Padding adds {added:.1f}% in batches of {cost.batch_size} as "
            f"they come, {added_sorted:.1f}% in batches of similar length; packing would make {cost.sequences_packed} "
            f"sequences, {cost.packing_efficiency:.1%} full. {self.model}, {cost.batch_size} rows of {self.width} tokens: "
            f"{self.memory.needed_gib:.2f} GiB (estimated).{time}"
        )


def length_choice(
    lengths: Sequence[int], answer_lengths: Sequence[int], max_length: int, *, batch_size: int = 8,
    model: str = "Llama-3.1-8B", setup=None, tokens_per_s: float | None = None,
) -> LengthChoice:  # fmt: skip
    """What ``max_length`` cuts, wastes and needs.

    Args:
        lengths: tokens of each row, in training order.
        answer_lengths: how many of them are trained: the answer and what the template writes after it.
        max_length, batch_size: in tokens and rows.
        model: a name of :data:`lorakit_helpers.memory.CATALOGUE`.
        setup: a :class:`lorakit_helpers.memory.TrainSetup`, whose batch and length are set here; None is QLoRA's default.
        tokens_per_s: a measured speed, padding included.

    Raises:
        LorakitError: for lists that do not fit together, sizes below 1, a speed of 0 or less, or an unknown model.

    Example:
        >>> choice = length_choice([20, 30, 90], [5, 5, 40], 60, batch_size=2, tokens_per_s=10)
        >>> choice.answers_whole, choice.answers_cut_in_part, choice.epoch_s
        (2, 1, 12.0)
    """
    from ..memory import TrainSetup, estimate, find_model

    lengths, answers = checked_lengths(lengths), list(answer_lengths)
    if len(answers) != len(lengths) or any(not 0 < a <= n for a, n in zip(answers, lengths, strict=False)):
        raise LorakitError(
            "answer_lengths", got=f"{len(answers)} for {len(lengths)} rows",
            expected="one for each row, from 1 to the row's own length",
            do="Count the trained tokens of every row, for example tokenize_row(row, tokenizer).n_trained.",
        )  # fmt: skip
    if tokens_per_s is not None and not tokens_per_s > 0:
        raise LorakitError("tokens_per_s", got=repr(tokens_per_s), expected="above 0", do="Measure a step, or leave it out.")
    prompts = [n - a for n, a in zip(lengths, answers, strict=True)]
    cost = length_cost(lengths, max_length, batch_size=batch_size, prompt_lengths=prompts)
    width, found = min(max_length, max(lengths)), find_model(model)
    memory = estimate(found.shape, (setup or TrainSetup()).but(micro_batch=batch_size, seq_len=width))
    return LengthChoice(cost, memory, found.name, width, tokens_per_s)
