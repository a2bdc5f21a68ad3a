"""How long a training takes and what it costs: operations counted, divided by what cards reached in published runs."""

from dataclasses import asdict, dataclass
from numbers import Real

from ..errors import LorakitError
from ..memory import ModelShape, TrainSetup
from .operations import find_peak, token_operations

__all__ = ["UTILIZATION", "Cost", "Throughput", "TimeEstimate", "throughput_of", "time_estimate"]


#: The share of the peak that published runs on one card, or on two that shared nothing but gradients, reached;
#: recomputation counts as work. The lowest is PEFT's own comparison (batches of 4, 210 tokens on average, one L40S), the
#: highest Answer.AI's two RTX 3090 with full batches: ``data/published/single_card_runs.json`` and ``sharded_runs.json``. A
#: test computes both ends from them.
UTILIZATION = (0.24, 0.72)


@dataclass(frozen=True)
class Cost:
    """Money for a training, in the learner's own currency; ``low`` and ``high`` go with the hours."""

    low: float
    high: float
    per_hour: float

    def __str__(self):
        return f"{self.low:.2f} to {self.high:.2f} (at {self.per_hour:.4g} an hour)"


@dataclass(frozen=True)
class TimeEstimate:
    """Hours for a training, from low to high.

    Attributes:
        tokens: computed in all epochs, padding included.
        operations: for them.
        card, gpus: on what, and how many of them (work divides evenly; waiting for each other is in the utilization).
        low_hours, high_hours: at the highest and at the lowest utilization.
        utilization: (lowest, highest) share of the peak.
        provenance: "estimated", or "measured" and "scaled from a measurement".
    """

    tokens: int
    operations: float
    card: str
    gpus: int
    low_hours: float
    high_hours: float
    utilization: tuple[float, float]
    provenance: str = "estimated"

    @property
    def minutes(self) -> tuple[float, float]:
        """(low, high) in minutes."""
        return 60 * self.low_hours, 60 * self.high_hours

    def cost(self, *, rent: float | None = None, watts: float | None = None, per_kwh: float | None = None) -> Cost:
        """What it costs at the learner's prices: rent of one GPU for an hour, or electricity, or both.

        Args:
            rent: price of one GPU for one hour.
            watts, per_kwh: power of the whole computer, and price of a kilowatt-hour.

        Raises:
            LorakitError: when no price is given, one of the two electricity figures is missing, or one is not above 0.
        """
        prices = {"rent": rent, "watts": watts, "per_kwh": per_kwh}
        for name, value in prices.items():
            if value is not None:
                _above_zero(name, value, "For example rent=0.40.")
        if rent is None and (watts is None or per_kwh is None):
            raise LorakitError(
                "price", got="none" if watts is per_kwh is None else "half of the electricity's",
                expected="rent, or watts and per_kwh", do="Pass your own prices; none are built in.",
            )  # fmt: skip
        power = watts / 1000 * per_kwh if watts and per_kwh else 0.0
        hour = (rent or 0.0) * self.gpus + power
        return Cost(self.low_hours * hour, self.high_hours * hour, hour)

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self):
        low, high = self.minutes
        span = f"{low:.0f} to {high:.0f} minutes" if high < 120 else f"{low / 60:.1f} to {high / 60:.1f} hours"
        if low == high:
            span = f"{high:.3g} minutes" if high < 120 else f"{high / 60:,.1f} hours"
        many = f"{self.gpus} × " if self.gpus > 1 else ""
        return f"{self.tokens:,} tokens on {many}{self.card}: {span} ({self.provenance})"


def time_estimate(
    shape: ModelShape, setup: TrainSetup, examples: int, card: str, *, epochs: float = 1.0, gpus: int = 1,
    tflops: float | None = None, utilization: tuple[float, float] = UTILIZATION,
) -> TimeEstimate:  # fmt: skip
    """How long training on ``examples`` sequences of ``setup.seq_len`` tokens takes.

    Args:
        shape, setup: the model, and how it is trained. Shorter examples without padding need less: use their mean length.
        examples, epochs: sequences, and passes over them.
        card: a card's name; with ``tflops`` any name.
        gpus: how many train together.
        tflops: the card's peak, where :data:`PEAK_TFLOPS` has none.
        utilization: (lowest, highest) share of the peak to reckon with.

    Raises:
        LorakitError: for sizes or shares that cannot be, or a card without a figure.
    """  # fmt: skip
    for name, value in (("examples", examples), ("epochs", epochs), ("gpus", gpus)):
        _above_zero(name, value, f"For example {name}=1.")
    low, high = utilization
    if not 0 < low <= high <= 1:
        raise LorakitError("utilization", got=repr(utilization), expected="two shares, 0 < low ≤ high ≤ 1",
                           do=f"For example {UTILIZATION}.")  # fmt: skip
    peak = (tflops if tflops is not None else find_peak(card).tflops) * 1e12 * gpus
    _above_zero("tflops", peak, "For example tflops=71.")
    tokens = round(examples * epochs * setup.seq_len)
    operations = tokens * token_operations(shape, setup).total
    hours = operations / peak / 3600
    return TimeEstimate(tokens, operations, card, gpus, hours / high, hours / low, (low, high))


@dataclass(frozen=True)
class Throughput:
    """A measured training speed, and what follows from it.

    Attributes:
        tokens_per_s: as measured, on ``machine``.
        shape, setup: what was trained.
        machine: where, for the record.
        provenance: always "measured".
    """

    tokens_per_s: float
    shape: ModelShape
    setup: TrainSetup
    machine: str = "this machine"
    provenance: str = "measured"

    @property
    def flop_per_s(self) -> float:
        """Operations a second behind the measured speed."""
        return self.tokens_per_s * token_operations(self.shape, self.setup).total

    def utilization(self, tflops: float) -> float:
        """The share of a peak of ``tflops`` (1e12 operations a second)."""
        return self.flop_per_s / (tflops * 1e12)

    def time_for(self, examples: int, *, shape: ModelShape | None = None, setup: TrainSetup | None = None, epochs: float = 1.0):
        """A :class:`TimeEstimate` on the same machine, for the same model or, by operations, for another."""
        shape, setup = shape or self.shape, setup or self.setup
        _above_zero("examples", examples, "For example examples=1000.")
        _above_zero("epochs", epochs, "For example epochs=1.")
        tokens = round(examples * epochs * setup.seq_len)
        operations = tokens * token_operations(shape, setup).total
        hours = operations / self.flop_per_s / 3600
        same = shape == self.shape and setup == self.setup
        kind = "measured" if same else "scaled from a measurement"
        return TimeEstimate(tokens, operations, self.machine, 1, hours, hours, (1.0, 1.0), kind)

    def __str__(self):
        return f"{self.tokens_per_s:,.0f} tokens/s on {self.machine}, {self.flop_per_s / 1e12:.3g}e12 operations/s (measured)"


def throughput_of(tokens_per_s: float, shape: ModelShape, setup: TrainSetup, *, machine: str = "this machine") -> Throughput:
    """A measured speed, such as ``TrainingLog.tokens_per_s``, ready to be scaled.

    Raises:
        LorakitError: for a speed that is not above 0.
    """
    _above_zero("tokens_per_s", tokens_per_s, "Take it from a run's log.")
    return Throughput(float(tokens_per_s), shape, setup, machine)


def _above_zero(name, value, do):
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 < value < float("inf"):
        raise LorakitError(name, got=repr(value), expected="a number above 0", do=do)
