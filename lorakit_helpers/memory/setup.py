"""How a model is trained, as far as memory is concerned."""

from dataclasses import asdict, dataclass, replace
from numbers import Integral, Real

from ..errors import LorakitError, did_you_mean
from ..recipes import PROJECTIONS

__all__ = ["BYTES", "TrainSetup"]

#: Bytes of one value.
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}

_CHOICES = {
    "method": ("full", "lora", "qlora"),
    "optimizer": ("adamw", "adamw_8bit", "paged_adamw_8bit", "paged_adamw_32bit", "sgd"),
    "weights_dtype": ("bf16", "fp16", "fp32"),
    "adapter_dtype": ("fp32", "bf16"),
    "loss_dtype": ("fp32", "bf16"),
    "attention": ("flash", "sdpa", "eager"),
}
_SIZES = {"micro_batch": 100_000, "seq_len": 100_000_000, "loss_chunks": 1_000_000}
_SWITCHES = (
    "gradient_checkpointing", "double_quant", "fused_loss", "gradient_accumulation", "quantize_lm_head", "tensor_lists",
    "keeps_last_step", "fused_qkv", "repeated_kv",
)  # fmt: skip


@dataclass(frozen=True)
class TrainSetup:
    """Everything besides the model's shape that decides a training step's memory.

    Attributes:
        method: "full" trains every weight; "lora" trains adapters on 16-bit weights; "qlora" on NF4 weights.
        r: rank of the adapters (not used with "full").
        target_modules: names of the adapted layers, or "all-linear". The usual names (``q_proj`` ... ``down_proj``) are
            understood for every family: in Phi-3 ``q_proj`` means ``qkv_proj``, which holds it.
        micro_batch: sequences in one forward pass on one device.
        seq_len: tokens of each sequence, padding included.
        gradient_checkpointing: keep each layer's input only and compute the layer again in the backward pass.
        optimizer: AdamW keeps two values per trained parameter, in its dtype; the 8-bit ones two bytes and block scales (of
            a trained embedding two fp32 values, as transformers' Trainer has it);
            the paged ones may move to the CPU's memory under pressure and are counted as if they stayed, the 32-bit one with
            two fp32 values; SGD keeps nothing.
        weights_dtype: of the weights and the computation. "fp32" computes in fp32 without autocast.
        adapter_dtype: of A and B. "fp32" on 16-bit weights trains under autocast, as transformers' Trainer does with bf16.
        double_quant: QLoRA's second quantization, of the scales (4.127 instead of 4.5 bits a weight).
        fused_loss: the loss is computed in chunks, so the logits of the batch never exist at once (Liger, Unsloth).
        attention: "eager" keeps seq_len x seq_len scores; "flash" and "sdpa" (fused, no padding mask) do not.
        lora_dropout: above 0, every adapter keeps its own copy of its input, and a mask.
        loss_dtype: transformers computes the loss in fp32; "bf16" in the logits' own type.
        loss_chunks: the loss is computed in so many pieces, one after the other; all logits exist (LitGPT, torchtune).
        gradient_accumulation: gradients of an earlier micro-batch are already there in the forward pass.
        quantize_lm_head: whether the output layer is in 4 bits too (bitsandbytes through transformers leaves it out).
        tensor_lists: PyTorch's ``foreach`` AdamW, which works on all tensors at once and needs a copy of the trained
            values while it does (PyTorch's choice on a GPU unless ``fused`` is set, as transformers' Trainer does).
        keeps_last_step: the graph and logits of the step before live until this step's loss takes their name, and with them
            the inputs of all 4-bit products (a training loop written out, and bitsandbytes before 0.43.2).
        fused_qkv: q, k and v come out of one product with one adapter input (LitGPT), whatever the family does.
        repeated_kv: keys and values are copied for every query head: grouped-query attention with PyTorch's kernel where
            there is a padding mask, and in LitGPT.

    Raises:
        LorakitError: for a value that cannot be, naming the field and the nearest choice.

    Example:
        >>> TrainSetup(method="qlora", r=8, micro_batch=2).tokens
        1024
    """

    method: str = "qlora"
    r: int = 16
    target_modules: str | tuple[str, ...] = PROJECTIONS
    micro_batch: int = 1
    seq_len: int = 512
    gradient_checkpointing: bool = False
    optimizer: str = "adamw"
    weights_dtype: str = "bf16"
    adapter_dtype: str = "fp32"
    double_quant: bool = True
    fused_loss: bool = False
    attention: str = "flash"
    lora_dropout: float = 0.0
    loss_dtype: str = "fp32"
    loss_chunks: int = 1
    gradient_accumulation: bool = True
    quantize_lm_head: bool = False
    tensor_lists: bool = False
    keeps_last_step: bool = False
    fused_qkv: bool = False
    repeated_kv: bool = False

    def __post_init__(self):
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise LorakitError(
                    f"training setup, {name}", got=repr(value), expected="one of " + ", ".join(choices),
                    do=did_you_mean(value, choices, f"For example {name}={choices[0]!r}.", cutoff=0.5),
                )  # fmt: skip
        for name, limit in _SIZES.items():
            right = _whole(getattr(self, name)) and 1 <= getattr(self, name) <= limit
            example = 512 if name == "seq_len" else 1
            self._check(name, right, f"a whole number from 1 to {limit:,}", f"For example {name}={example}.")
        for name in _SWITCHES:
            self._check(name, isinstance(getattr(self, name), bool), "True or False", "Say which.")
        if self.method != "full":
            self._check("r", _whole(self.r) and self.r >= 1, "a whole number of at least 1", "For example r=16.")
        dropout = self.lora_dropout
        right = isinstance(dropout, Real) and not isinstance(dropout, bool) and 0 <= dropout < 1
        self._check("lora_dropout", right, "from 0 to below 1", "For example lora_dropout=0.05.")
        targets = self.target_modules
        if targets != "all-linear":
            names = (targets,) if isinstance(targets, str) else tuple(targets or ())
            self._check("target_modules", names and all(isinstance(n, str) for n in names), "module names or 'all-linear'",
                        'For example ("q_proj", "v_proj").')  # fmt: skip
            object.__setattr__(self, "target_modules", names)

    def _check(self, name, right, expected, do):
        if not right:
            raise LorakitError(f"training setup, {name}", got=repr(getattr(self, name)), expected=expected, do=do)

    @property
    def tokens(self) -> int:
        """Tokens in one forward pass."""
        return self.micro_batch * self.seq_len

    @property
    def autocast(self) -> bool:
        """Whether fp32 adapters compute in 16 bits, as under ``torch.autocast``."""
        return self.method != "full" and self.adapter_dtype == "fp32" and self.weights_dtype != "fp32"

    def loss_chunk(self, hidden_size: int, vocab_size: int) -> int:
        """Tokens whose logits exist at once in a fused loss: Liger's rule, about as many values as the hidden states have."""
        chunk = -(-self.tokens // -(-vocab_size // hidden_size))
        return min(self.tokens, 1 << (chunk - 1).bit_length())

    def to_dict(self) -> dict:
        return asdict(self)

    def but(self, **changes) -> "TrainSetup":
        """A copy with some fields changed; an unknown field is a TypeError."""
        return replace(self, **changes)


def _whole(value) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)
