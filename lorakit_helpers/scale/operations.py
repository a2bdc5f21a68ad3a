"""The operations of training on one token, counted, and what cards' tensor cores can do at most."""

from dataclasses import asdict, dataclass

from ..errors import LorakitError
from ..memory import ModelShape, TrainSetup, find_gpu

__all__ = ["PEAK_TFLOPS", "Peak", "TokenOperations", "find_peak", "token_operations"]


@dataclass(frozen=True)
class Peak:
    """What a card's tensor cores can do at most in 16 bits with fp32 sums, without sparsity, in 1e12 operations a second."""

    card: str
    tflops: float
    source: str


_GA102, _ADA = "NVIDIA GA102 white paper v2", "NVIDIA Ada white paper v2.1"
_BLACKWELL = "NVIDIA RTX Blackwell white paper"
_TWICE = "twice its FP32 rate, as for its generation's cards in NVIDIA's white paper"
_SHEET = "NVIDIA data sheet, half of the figure with sparsity"
#: (card of ``memory.GPUS``, TFLOPS, source). Cards without bf16 (T4, V100) compute in fp16. The P100 has no tensor cores, and
#: for the A10G no figure with fp32 sums was found.
_ROWS = (
    ("RTX 3060 12 GB", 25.5, _TWICE), ("RTX 3070 8 GB", 40.6, _GA102), ("RTX 3080 10 GB", 59.5, _GA102),
    ("RTX 3090", 71.0, _GA102), ("RTX 4060 8 GB", 30.2, _TWICE), ("RTX 4060 Ti 16 GB", 44.1, _TWICE),
    ("RTX 4070 12 GB", 58.3, _TWICE), ("RTX 4080 16 GB", 97.5, _ADA), ("RTX 4090", 165.2, _ADA),
    ("RTX 5080 16 GB", 112.6, _BLACKWELL), ("RTX 5090", 209.5, _BLACKWELL), ("T4", 65.0, "NVIDIA T4 data sheet, fp16"),
    ("V100 16 GB", 125.0, "NVIDIA V100 data sheet, fp16, SXM2"), ("L4", 121.0, _SHEET), ("RTX A6000", 154.8, _GA102),
    ("L40S", 362.0, _SHEET), ("A100 40 GB", 312.0, "NVIDIA A100 data sheet"), ("A100 80 GB", 312.0, "NVIDIA A100 data sheet"),
    ("H100 80 GB", 989.5, _SHEET + ", SXM"), ("H200", 989.5, _SHEET + ", SXM"),
)  # fmt: skip

PEAK_TFLOPS = {card: Peak(card, tflops, source) for card, tflops, source in _ROWS}


@dataclass(frozen=True)
class TokenOperations:
    """Operations (a multiplication and an addition are two) for one trained token.

    Attributes:
        frozen_forward: products with the base's weights, output layer included.
        frozen_backward: the gradient that flows back through them; frozen weights need none of their own.
        weight_gradients: of the base's weights; 0 with adapters.
        adapters: the adapters' forward pass, and two products backward.
        attention: scores and their sums, forward and backward (half of them, where the mask leaves half).
        recomputed: the layers' forward pass again, with gradient checkpointing.
    """

    frozen_forward: float
    frozen_backward: float
    weight_gradients: float
    adapters: float
    attention: float
    recomputed: float

    @property
    def total(self) -> float:
        return sum(asdict(self).values())

    def to_dict(self) -> dict:
        return asdict(self) | {"total": self.total}

    def __str__(self):
        parts = ", ".join(f"{name.replace('_', ' ')} {value / 1e9:.2f}" for name, value in asdict(self).items() if value)
        return f"{self.total / 1e9:.2f}e9 operations a token ({parts})"


def token_operations(shape: ModelShape, setup: TrainSetup, *, masked: bool = True, loss_share: float = 1.0) -> TokenOperations:
    """Count the operations of training on one token of a sequence of ``setup.seq_len``.

    A weight costs 2 operations forward and 2 for the gradient that flows on (arXiv:2001.08361, section 2.1); trained ones 2
    more. Attention costs ``4 * seq_len * q_size`` a layer forward, twice that backward; a causal mask halves it.

    Args:
        shape, setup: the model, and how it is trained (method, r, targets, length, checkpointing).
        masked: whether the kernel leaves out what the causal mask hides (FlashAttention does).
        loss_share: for which share of the tokens, 0 to 1, the base's output layer is computed: those that have a loss.

    Raises:
        LorakitError: for a share outside 0 to 1, or targets the model does not have.

    Example:
        >>> from lorakit_helpers.memory import TrainSetup, find_model
        >>> setup = TrainSetup(r=32, seq_len=2048, gradient_checkpointing=True)
        >>> found = token_operations(find_model("Llama-3.1-8B").shape, setup)
        >>> f"{found.total:.2e}", f"{found.recomputed / found.total:.0%}"
        ('4.68e+10', '31%')
    """
    if not 0 <= loss_share <= 1:
        raise LorakitError("loss_share", got=repr(loss_share), expected="a share from 0 to 1", do="Use 1 for every token.")
    head = loss_share * shape.vocab_size * shape.hidden_size
    weights, full = shape.linear_params + head, setup.method == "full"
    adapters = 0 if full else shape.trainable_params(setup.r, shape.adapted(setup.target_modules))
    attention = (2 if masked else 4) * setup.seq_len * shape.q_size * shape.num_layers
    again = 2 * shape.linear_params + 2 * adapters + attention
    if full:  # PyTorch stops before a layer's last product, whose result the backward pass does not need
        down_in, down_out = list(shape.linear_shapes().values())[-1]
        again -= 2 * down_in * down_out * shape.num_layers
    again *= setup.gradient_checkpointing
    return TokenOperations(2 * weights, 2 * weights, 2 * weights * full, 6 * adapters, 3 * attention, again)


def find_peak(card: str) -> Peak:
    """The card's published peak.

    Raises:
        LorakitError: for an unknown card, or one without a published figure.
    """
    name = find_gpu(card).name
    if name not in PEAK_TFLOPS:
        raise LorakitError(f"peak of {name}", got="no published figure for 16-bit tensor operations with fp32 sums",
                           expected="one of " + ", ".join(PEAK_TFLOPS), do="Pass tflops= yourself.")  # fmt: skip
    return PEAK_TFLOPS[name]
