"""What fits on a card, and what to change first when it does not."""

from dataclasses import dataclass, field
from numbers import Real

from ..errors import LorakitError
from .estimate import estimate
from .result import MemoryEstimate
from .setup import TrainSetup
from .shape import ModelShape

__all__ = ["Plan", "Rung", "fits", "plan"]


@dataclass(frozen=True)
class Rung:
    """One step down the ladder: a change on top of all the changes before it.

    Attributes:
        action: what to change.
        cost: what it costs.
        setup: the setup after it.
        estimate: the memory after it.
        saves_gib: how much less the card must offer than one rung higher, GiB.
        fits: whether it fits now.
    """

    action: str
    cost: str
    setup: TrainSetup
    estimate: MemoryEstimate = field(repr=False)
    saves_gib: float
    fits: bool

    def __str__(self):
        return f"{self.action}: saves {self.saves_gib:.2f} GiB, needs {self.estimate.needed_gib:.2f} GiB ({self.cost})"


@dataclass(frozen=True)
class Plan:
    """What fits on a card of ``gpu_gib`` GiB.

    Attributes:
        gpu_gib: the card's memory as PyTorch reports it, GiB.
        setup: the setup that was asked for.
        estimate: its memory.
        largest: for ``micro_batch``, ``seq_len`` and ``r``, the largest value that fits when nothing else changes; 0 when
            none does.
        ladder: the rungs, cheapest first, each on top of the ones before; rungs that are taken already are left out.
    """

    gpu_gib: float
    setup: TrainSetup
    estimate: MemoryEstimate
    largest: dict[str, int]
    ladder: tuple[Rung, ...]

    @property
    def fits(self) -> bool:
        """Whether the setup fits as it was asked for."""
        return self.estimate.needed_gib <= self.gpu_gib

    @property
    def answer(self) -> TrainSetup | None:
        """The setup that fits with the fewest changes, or None."""
        return self.setup if self.fits else next((rung.setup for rung in self.ladder if rung.fits), None)

    @property
    def changes(self) -> tuple[Rung, ...]:
        """The rungs down to the first that fits (all of them when none does)."""
        if self.fits:
            return ()
        last = next((i for i, rung in enumerate(self.ladder) if rung.fits), len(self.ladder))
        return self.ladder[: last + 1]

    def __str__(self):
        return self.estimate.verdict(self.gpu_gib)


def fits(shape: ModelShape, setup: TrainSetup, gpu_gib: float) -> bool:
    """Whether a training step fits on a card, with the allowances for CUDA's context and for fragments.

    Args:
        shape: the model's sizes.
        setup: how it is trained.
        gpu_gib: the card's memory as PyTorch reports it, in GiB: ``find_gpu(name).memory_gib``.

    Raises:
        LorakitError: for a card of no or negative memory, an unknown target or a rank above the layer's size.

    Example:
        >>> from lorakit_helpers.memory import find_gpu, find_model
        >>> llama, card = find_model("Llama-3.1-8B").shape, find_gpu("RTX 3060").memory_gib
        >>> fits(llama, TrainSetup(method="qlora"), card), fits(llama, TrainSetup(method="lora"), card)
        (True, False)
    """
    return estimate(shape, setup).needed_gib <= _card(gpu_gib)


def plan(shape: ModelShape, gpu_gib: float, setup: TrainSetup | None = None, **changes) -> Plan:
    """The largest batch, sequence and rank that fit, and the ladder to climb down when the setup does not.

    The ladder is the course's for "out of memory": batch 1 with more accumulation, gradient checkpointing, shorter
    sequences, a free card; then what needs another library, optimizer or method.

    Args:
        shape: the model's sizes.
        gpu_gib: the card's memory as PyTorch reports it, in GiB.
        setup: what is wanted; None means ``TrainSetup()``.
        **changes: fields of ``TrainSetup`` to change in it.

    Raises:
        LorakitError: as ``fits``.

    Example:
        >>> from lorakit_helpers.memory import find_model
        >>> found = plan(find_model("Llama-3.1-8B").shape, 11.7, method="qlora", micro_batch=8, seq_len=2048)
        >>> found.fits, [rung.action for rung in found.changes][0]
        (False, 'batch 1, gradient accumulation 8')
    """
    card = _card(gpu_gib)
    setup = (setup or TrainSetup()).but(**changes)
    ladder, before = [], estimate(shape, setup)
    first = before
    for action, cost, after in _rungs(setup):
        now = estimate(shape, after)
        ladder.append(Rung(action, cost, after, now, before.needed_gib - now.needed_gib, now.needed_gib <= card))
        before = now
    return Plan(card, setup, first, _largest(shape, setup, card), tuple(ladder))


def _rungs(setup: TrainSetup):
    """(action, cost, setup) of every rung that changes something."""
    if setup.micro_batch > 1:
        text = f"batch 1, gradient accumulation {setup.micro_batch}"
        setup = setup.but(micro_batch=1, gradient_accumulation=True)
        yield text, "the same updates, fewer tokens at once", setup
    if not setup.gradient_checkpointing:
        setup = setup.but(gradient_checkpointing=True)
        yield "gradient checkpointing", "the same result; each layer's forward pass runs twice", setup
    if setup.seq_len > 256:
        setup = setup.but(seq_len=max(256, setup.seq_len // 2))
        yield f"sequences of {setup.seq_len} tokens", "longer examples are cut: look at your lengths first", setup
    yield "free the GPU", "restart other kernels and programs; this answer assumes an empty card already", setup
    if not setup.fused_loss:
        setup = setup.but(fused_loss=True)
        yield "fused loss", "the same result; needs Unsloth or Liger", setup
    if setup.optimizer == "adamw":
        setup = setup.but(optimizer="adamw_8bit")
        yield "8-bit optimizer", "nearly the same result; needs bitsandbytes", setup
    if setup.method == "full":
        setup = setup.but(method="lora")
        yield f"LoRA of rank {setup.r}", "only adapters learn", setup
    if setup.method == "lora":
        setup = setup.but(method="qlora")
        yield "QLoRA", "weights are rounded to 4 bits; each product unpacks them first", setup
    if setup.r > 8:
        setup = setup.but(r=8)
        yield "rank 8", "less room to learn", setup


def _largest(shape, setup, card):
    def ok(**change):
        return estimate(shape, setup.but(**change)).needed_gib <= card

    found = {"micro_batch": _bisect(lambda n: ok(micro_batch=n), 65_536), "seq_len": _bisect(lambda n: ok(seq_len=n), 2**20)}
    if setup.method == "full":
        return found | {"r": 0}
    sides = (min(i, o) for i, o, _ in shape.target_shapes(shape.adapted(setup.target_modules)).values())
    return found | {"r": _bisect(lambda n: ok(r=n), min(sides))}


def _bisect(ok, top: int) -> int:
    """The largest n from 0 to ``top`` with ``ok(n)``; ok(0) is taken for granted."""
    low, high = 0, top
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if ok(middle) else (low, middle - 1)
    return low


def _card(gpu_gib) -> float:
    if isinstance(gpu_gib, bool) or not isinstance(gpu_gib, Real) or not 0 < gpu_gib < 1e6:
        raise LorakitError(
            "gpu_gib", got=repr(gpu_gib), expected="the card's memory in GiB, above 0",
            do="For example find_gpu('RTX 3060').memory_gib.",
        )  # fmt: skip
    return float(gpu_gib)
