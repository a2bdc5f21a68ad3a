"""Memory on each GPU when several train together: what is shared out between them, and what each keeps whole."""

from dataclasses import asdict, dataclass

from ..errors import LorakitError, did_you_mean
from ..memory import GIB, MemoryEstimate, ModelShape, TrainSetup, estimate, simulate
from ..memory.estimate import CONTEXT_GIB, EIGHT_BIT, NF4_BYTES, SLACK, embedding_states, weight_bytes
from ..memory.setup import BYTES

__all__ = ["PARTS", "STRATEGIES", "ShardedMemory", "shard_memory"]

#: How the work is shared out.
STRATEGIES = {
    "ddp": "every GPU holds everything and sees other examples (DistributedDataParallel)",
    "zero2": "gradients and optimizer state are shared out (DeepSpeed stage 2)",
    "zero3": "weights, gradients and optimizer state are shared out (DeepSpeed stage 3)",
    "fsdp": "the same, layer by layer (PyTorch's fully sharded data parallel, FULL_SHARD)",
}
#: The parts of one GPU's peak, in the order they are drawn.
PARTS = ("weights", "scales", "gathered", "adapters", "gradients", "optimizer", "buckets", "activations", "logits")

_SHARED = {
    "ddp": (), "zero2": ("gradients", "optimizer"),
    "zero3": ("weights", "adapters", "gradients", "optimizer"), "fsdp": ("weights", "adapters", "gradients", "optimizer"),
}  # fmt: skip
#: DeepSpeed's ``stage3_max_live_parameters``: so many gathered elements may be there at once.
_LIVE = 1_000_000_000


@dataclass(frozen=True)
class ShardedMemory:
    """The peak on each of several GPUs in GiB (2^30 bytes), allocated; nothing here was measured.

    Attributes:
        strategy, gpus: one of :data:`STRATEGIES`, and on how many.
        weights_gib: this GPU's share of the base's weights, 4-bit scales left out.
        scales_gib: quantization scales. They are no parameters, so nobody shards them: each GPU holds all.
        gathered_gib: what is whole for a moment: the layer in work, the one fetched ahead, embedding and output layer.
        adapters_gib, gradients_gib, optimizer_gib: this GPU's share of what is trained (with DeepSpeed the optimizer has
            fp32 master copies).
        buckets_gib: buffers in which gradients are sent.
        activations_gib, logits_gib: of this GPU's own micro-batch; never shared out.
        cpu_gib: what waits in the computer's memory, of all GPUs together; 0 without offload.
        peak_at: the phase of the peak.
        provenance: "estimated" (closed form) or "simulated" (the real model's code without weights), for activations and
            logits; the rest is counted.
    """

    strategy: str
    gpus: int
    weights_gib: float
    scales_gib: float
    gathered_gib: float
    adapters_gib: float
    gradients_gib: float
    optimizer_gib: float
    buckets_gib: float
    activations_gib: float
    logits_gib: float
    cpu_gib: float
    peak_at: str
    provenance: str

    @property
    def parts(self) -> dict[str, float]:
        """``{part: GiB}``, in drawing order."""
        return {part: getattr(self, part + "_gib") for part in PARTS}

    @property
    def shared(self) -> tuple[str, ...]:
        """The parts that are shared out between the GPUs."""
        return _SHARED[self.strategy]

    @property
    def total_gib(self) -> float:
        """Peak allocated on each GPU, GiB."""
        return sum(self.parts.values())

    @property
    def needed_gib(self) -> float:
        """What each GPU must offer: peak, CUDA context and slack, GiB."""
        return self.total_gib * (1 + SLACK) + CONTEXT_GIB

    def to_dict(self) -> dict:
        return asdict(self) | {"total_gib": self.total_gib, "needed_gib": self.needed_gib, "shared": self.shared}

    def __str__(self):
        parts = ", ".join(f"{part} {gib:.2f}" for part, gib in self.parts.items() if gib >= 0.005)
        beside = f"; {self.cpu_gib:.1f} GiB wait in the computer's memory" if self.cpu_gib else ""
        return f"{self.strategy} on {self.gpus} GPUs: {self.total_gib:.2f} GiB each ({parts}; {self.provenance}){beside}"


def shard_memory(
    shape: ModelShape, setup: TrainSetup, gpus: int, strategy: str, *, cpu_offload: bool = False, simulated: bool = False
) -> ShardedMemory:
    """Peak memory on each GPU.

    Args:
        shape: the model's sizes.
        setup: how it is trained; its ``micro_batch`` is that of one GPU.
        gpus: how many train together.
        strategy: one of :data:`STRATEGIES`.
        cpu_offload: with "zero3" and "fsdp", shares of weights, gradients and optimizer wait in the computer's memory; with
            "zero2" the optimizer's state.
        simulated: activations and logits from ``memory.simulate`` (seconds) instead of the closed form.

    Raises:
        LorakitError: for an unknown strategy, a number of GPUs below 1, or offload with "ddp".

    Example:
        >>> from lorakit_helpers.memory import TrainSetup, find_model
        >>> setup = TrainSetup(seq_len=2048, gradient_checkpointing=True)
        >>> two, four = (shard_memory(find_model("Llama-2-13B").shape, setup, n, "fsdp") for n in (2, 4))
        >>> four.weights_gib == two.weights_gib / 2, four.activations_gib == two.activations_gib
        (True, True)
    """
    _check(gpus, strategy, cpu_offload)
    setup = setup.but(gradient_accumulation=True)
    whole = (simulate if simulated else estimate)(shape, setup)
    state = _state(shape, setup, strategy)
    shares = {part: size / (gpus if part in _SHARED[strategy] else 1) for part, size in state.items()}
    phase, gathered, transient, logits = _peak(whole, _gathered(shape, setup, strategy, gpus))
    waiting = _offloaded(strategy) if cpu_offload else ()
    cpu = sum(shares[part] for part in waiting) * gpus
    shares |= dict.fromkeys(waiting, 0.0)
    sizes = {f"{part}_gib": size / GIB for part, size in shares.items()}
    return ShardedMemory(
        strategy, gpus, **sizes, scales_gib=_scales(shape, setup) / GIB, gathered_gib=gathered / GIB,
        buckets_gib=_buckets(shape, setup, strategy, gpus) / GIB, activations_gib=transient - logits, logits_gib=logits,
        cpu_gib=cpu / GIB, peak_at=phase, provenance="simulated" if simulated else "estimated",
    )  # fmt: skip


def _scales(shape, setup) -> float:
    if setup.method != "qlora":
        return 0.0
    packed = shape.linear_params + setup.quantize_lm_head * shape.vocab_size * shape.hidden_size
    return packed * (NF4_BYTES[setup.double_quant] - 0.5)


def _trained(shape, setup) -> int:
    full = setup.method == "full"
    return shape.total_params if full else shape.trainable_params(setup.r, shape.adapted(setup.target_modules))


def _state(shape, setup, strategy) -> dict[str, float]:
    """Bytes of what stays for the whole step, over all GPUs once."""
    trained, full = _trained(shape, setup), setup.method == "full"
    deepspeed = strategy.startswith("zero")  # trains in 16 bits with fp32 master copies (arXiv:1910.02054, section 3.1)
    width = BYTES[setup.weights_dtype] if full or deepspeed else BYTES[setup.adapter_dtype]
    moments = {"sgd": 0, "adamw": 8 if deepspeed else 2 * width, "paged_adamw_32bit": 8}.get(setup.optimizer, EIGHT_BIT)
    return {
        "weights": weight_bytes(shape, setup) - _scales(shape, setup), "adapters": 0 if full else trained * width,
        "gradients": trained * width, "optimizer": trained * (moments + 4 * deepspeed) + embedding_states(shape, setup),
    }  # fmt: skip


def _gathered(shape, setup, strategy, gpus) -> dict[str, float]:
    """Bytes that are gathered whole from all GPUs, by phase."""
    if strategy in ("ddp", "zero2") or gpus == 1:
        return dict.fromkeys(("forward", "loss", "backward", "optimizer step"), 0.0)
    state = _state(shape, setup, strategy)
    ends = shape.embedding_params * BYTES[setup.weights_dtype]  # embedding and output layer
    layer = (state["weights"] - ends + state["adapters"]) / shape.num_layers
    if strategy == "zero3":  # elements, of which each takes 2 bytes in storage
        live = min(state["weights"] + state["adapters"], 2.0 * _LIVE)
        live = max(live, layer + ends)
        return {"forward": live, "loss": live, "backward": live, "optimizer step": 0.0}
    gradients = state["gradients"] / shape.num_layers
    two = 2 * layer + ends  # the next layer is fetched while this one works; ends stay from forward to backward
    return {"forward": two, "loss": ends, "backward": two + gradients, "optimizer step": 0.0}


def _peak(whole: MemoryEstimate, gathered) -> tuple[str, float, float, float]:
    """(phase, gathered bytes, activations with logits in GiB, logits in GiB) of the phase that needs the most."""
    lasting = whole.weights_gib + whole.adapters_gib + whole.gradients_gib + whole.optimizer_gib
    passing = {phase: max(0.0, total - lasting) for phase, total in whole.phases.items()}
    phase = max(passing, key=lambda name: passing[name] + gathered[name] / GIB)
    logits = whole.logits_gib if phase == whole.peak_at else 0.0
    return phase, gathered[phase], passing[phase], logits


def _buckets(shape, setup, strategy, gpus) -> float:
    """Buffers for sending gradients: DDP keeps a copy of all, DeepSpeed one bucket (hidden size squared, the Trainer's)."""
    if gpus == 1 or strategy == "fsdp":
        return 0.0
    gradients = _state(shape, setup, strategy)["gradients"]
    return gradients if strategy == "ddp" else min(gradients, 2.0 * shape.hidden_size**2)


def _offloaded(strategy) -> tuple[str, ...]:
    return ("optimizer",) if strategy == "zero2" else ("weights", "adapters", "gradients", "optimizer")


def _check(gpus, strategy, cpu_offload):
    if strategy not in STRATEGIES:
        raise LorakitError("strategy", got=repr(strategy), expected="one of " + ", ".join(STRATEGIES),
                           do=did_you_mean(strategy, STRATEGIES, "For example fsdp."))  # fmt: skip
    if isinstance(gpus, bool) or not isinstance(gpus, int) or not 1 <= gpus <= 1024:
        raise LorakitError("gpus", got=repr(gpus), expected="a whole number from 1 to 1024", do="For example gpus=2.")
    if cpu_offload and strategy == "ddp":
        raise LorakitError("cpu_offload", got="True with ddp", expected="zero2, zero3 or fsdp", do="Choose strategy='fsdp'.")
