"""Claim C16, "1,000 examples at 2,048 tokens: 15-30 minutes on a 4090 with Unsloth", worked out."""

from dataclasses import asdict, dataclass

from ..memory import TrainSetup, find_model
from .cost import TimeEstimate, time_estimate

__all__ = ["C16_MODELS", "ClaimCase", "TimeClaim", "check_c16", "judge_minutes"]

#: Models that train in 4 bits on a 24 GB card, small to large; the course's claim is about an 8B one.
C16_MODELS = ("Llama-3.2-1B", "Llama-3.2-3B", "Llama-3.1-8B", "Qwen2.5-14B")


@dataclass(frozen=True)
class ClaimCase:
    """One model and number of epochs, beside the claim."""

    model: str
    epochs: int
    time: TimeEstimate
    verdict: str

    def __str__(self):
        low, high = self.time.minutes
        many = f"{self.epochs} epoch{'s' if self.epochs > 1 else ''}"
        return f"{self.model}, {many}: {low:.0f} to {high:.0f} minutes ({self.verdict})"


@dataclass(frozen=True)
class TimeClaim:
    """A claimed span of minutes, and what the counted operations make of it.

    Attributes:
        claimed: (low, high) minutes.
        verdict: "holds", "holds with a caveat" or "out of date", of the case the claim is about.
        case: that case: Llama 3.1 8B, one epoch.
        cases: the same for other models and for three epochs.
        depends_on: what moves the answer, one sentence.
    """

    claimed: tuple[float, float]
    verdict: str
    case: ClaimCase
    cases: tuple[ClaimCase, ...]
    depends_on: str

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self):
        low, high = self.case.time.minutes
        return (
            f"C16, {self.claimed[0]:g} to {self.claimed[1]:g} minutes: {self.verdict}. "
            f"Computed: {low:.0f} to {high:.0f} minutes ({self.case.time.provenance}). {self.depends_on}"
        )


def judge_minutes(computed: tuple[float, float], claimed: tuple[float, float]) -> str:
    """"holds" when all that was computed lies in the claim, "holds with a caveat" when they overlap, else "out of date".

    Example:
        >>> judge_minutes((16, 25), (15, 30)), judge_minutes((25, 40), (15, 30)), judge_minutes((40, 90), (15, 30))
        ('holds', 'holds with a caveat', 'out of date')
    """  # fmt: skip
    (low, high), (least, most) = computed, claimed
    if least <= low and high <= most:
        return "holds"
    return "holds with a caveat" if low <= most and high >= least else "out of date"


def check_c16(card: str = "RTX 4090", *, claimed: tuple[float, float] = (15, 30)) -> TimeClaim:
    """Work the claim out: full-length examples, rank 32 on all projections, gradient checkpointing as in the walkthrough.

    The time is estimated, not measured here: counted operations over the card's peak, at the utilization of published runs.
    """
    setup = TrainSetup(r=32, seq_len=2048, gradient_checkpointing=True)

    def case(model, epochs):
        time = time_estimate(find_model(model).shape, setup, 1000, card, epochs=epochs)
        return ClaimCase(model, epochs, time, judge_minutes(time.minutes, claimed))

    main = case("Llama-3.1-8B", 1)
    cases = tuple(case(model, epochs) for model in C16_MODELS for epochs in (1, 3))
    low, high = main.time.utilization
    depends = (
        f"It depends on the model's size, the epochs (three take three times as long), the examples' real length, and the "
        f"share of the card's peak that is reached ({low:.0%} to {high:.0%} in published runs)."
    )
    return TimeClaim(claimed, main.verdict, main, cases, depends)
