"""What every answer about memory looks like, whether computed, simulated or measured."""

from dataclasses import asdict, dataclass, field

__all__ = ["GIB", "PARTS", "MemoryEstimate"]

GIB = 2**30

#: The parts of the peak, in the order they are drawn.
PARTS = ("weights", "adapters", "gradients", "optimizer", "activations", "logits")


@dataclass(frozen=True)
class MemoryEstimate:
    """The peak of one training step in GiB (2^30 bytes): what PyTorch's allocator would report as peak *allocated*.

    The six parts are what is in memory at the moment of the peak; they add up to ``total_gib``.

    Attributes:
        weights_gib: the base model's weights, with quantization scales (frozen or trained).
        adapters_gib: LoRA's A and B.
        gradients_gib: of every trained parameter.
        optimizer_gib: the optimizer's state, and what its step needs at the peak.
        activations_gib: what the backward pass needs again, and working buffers.
        logits_gib: the logits and everything of their size around the loss.
        peak_at: where in the step the peak falls: "loss", "backward" or "optimizer step".
        phases: the highest allocation in GiB within each of these phases.
        context_gib: an allowance for what the driver and CUDA libraries take before the first tensor. Not in the total.
        slack_gib: an allowance for memory the allocator holds and cannot use (fragments). Not in the total.
        how: "closed form", "simulation" or "measurement".
        timeline: (phase, GiB) in the order of the step; empty for the closed form.
        notes: what a reader must know about this answer.
    """

    weights_gib: float
    adapters_gib: float
    gradients_gib: float
    optimizer_gib: float
    activations_gib: float
    logits_gib: float
    peak_at: str
    phases: dict[str, float] = field(default_factory=dict)
    context_gib: float = 0.0
    slack_gib: float = 0.0
    how: str = "closed form"
    timeline: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, float]:
        """``{part: GiB}``, in drawing order."""
        return {part: getattr(self, part + "_gib") for part in PARTS}

    @property
    def total_gib(self) -> float:
        """Peak allocated, GiB."""
        return sum(self.parts.values())

    @property
    def needed_gib(self) -> float:
        """What a GPU must offer: peak allocated, context and slack, GiB."""
        return self.total_gib + self.context_gib + self.slack_gib

    def room_gib(self, gpu_gib: float) -> float:
        """What a card of ``gpu_gib`` GiB has left; negative is what it lacks."""
        return gpu_gib - self.needed_gib

    def verdict(self, gpu_gib: float) -> str:
        """One sentence: whether it fits on a card of ``gpu_gib`` GiB, and by how much."""
        room = self.room_gib(gpu_gib)
        beside = f"{self.total_gib:.2f} GiB of tensors, {self.context_gib + self.slack_gib:.2f} GiB beside them"
        if room >= 0:
            return f"Fits: {room:.2f} of {gpu_gib:.2f} GiB stay free ({beside})."
        return f"Does not fit: {-room:.2f} GiB more than the {gpu_gib:.2f} GiB there are ({beside})."

    def to_dict(self) -> dict:
        """Everything but the timeline, for JSON."""
        found = asdict(self)
        del found["timeline"]
        return found | {"total_gib": self.total_gib, "needed_gib": self.needed_gib}

    def __str__(self):
        parts = ", ".join(f"{part} {gib:.2f}" for part, gib in self.parts.items())
        return f"{self.total_gib:.2f} GiB at the {self.peak_at} ({parts}; {self.how})"
