"""The closed form: what a training step needs, from the model's sizes, in microseconds."""

from ..errors import LorakitError
from .result import GIB, MemoryEstimate
from .setup import BYTES, TrainSetup
from .shape import ATTENTION, ModelShape

__all__ = ["CONTEXT_GIB", "SLACK", "estimate", "weight_bytes"]

#: Allowances for planning, not measurements of ours: a CUDA context with its libraries, and the share of the peak that a
#: fragmented allocator holds beside it.
CONTEXT_GIB, SLACK = 0.6, 0.05

#: Bytes of one NF4 weight: four bits, an fp32 scale for 64 weights; double-quantized scales take one byte, with an fp32
#: scale for 256 of them (arXiv:2305.14314, section 3).
NF4_BYTES = {False: 0.5 + 4 / 64, True: 0.5 + 1 / 64 + 4 / 64 / 256}


def estimate(shape: ModelShape, setup: TrainSetup) -> MemoryEstimate:
    """Peak memory of one training step.

    The peak is the highest of three moments: around the loss, in the backward pass of the last layer, and in the
    optimizer's step. What lies there the whole time is weights, adapters, gradients and the optimizer's state.

    Args:
        shape: the model's sizes.
        setup: how it is trained.

    Returns:
        The peak by part, in GiB; ``context_gib`` and ``slack_gib`` are allowances beside it.

    Raises:
        LorakitError: for an unknown target or a rank above the layer's size.

    Example:
        >>> from lorakit_helpers.memory import TrainSetup, estimate, find_model
        >>> found = estimate(find_model("Llama-3.1-8B").shape, TrainSetup(method="qlora", r=16, seq_len=512))
        >>> 7 < found.total_gib < 10, found.peak_at
        (True, 'loss')
    """
    if not isinstance(shape, ModelShape):
        raise LorakitError(
            "shape", got=type(shape).__name__, expected="a ModelShape",
            do="Use find_model(name).shape or ModelShape.from_config(config).",
        )  # fmt: skip
    step = _Step(shape, setup)
    resident = {"weights": step.weights, "adapters": step.adapters, "gradients": step.gradients, "optimizer": step.states}
    moments = {
        "loss": resident | {"activations": step.saved + step.at_loss, "logits": step.logits},
        "backward": resident | {"activations": step.saved + step.layer_work, "logits": 0.0},
        "optimizer step": resident | {"optimizer": step.states + step.update, "activations": 0.0, "logits": 0.0},
    }
    totals = {name: sum(parts.values()) for name, parts in moments.items()}
    peak_at = max(totals, key=totals.get)
    total = totals[peak_at] / GIB
    return MemoryEstimate(
        **{f"{part}_gib": size / GIB for part, size in moments[peak_at].items()},
        peak_at=peak_at, phases={name: size / GIB for name, size in totals.items()},
        context_gib=CONTEXT_GIB, slack_gib=SLACK * total,
    )  # fmt: skip


def weight_bytes(shape: ModelShape, setup: TrainSetup) -> float:
    """Bytes of the base model's weights as they are held."""
    width = BYTES[setup.weights_dtype]
    if setup.method != "qlora":
        return shape.total_params * width
    packed = shape.linear_params + setup.quantize_lm_head * shape.vocab_size * shape.hidden_size
    return packed * NF4_BYTES[setup.double_quant] + (shape.total_params - shape.linear_params) * width - (
        setup.quantize_lm_head * (not shape.tied_embeddings) * shape.vocab_size * shape.hidden_size * width
    )  # fmt: skip


class _Step:
    """Bytes of one step, part by part. ``T`` tokens, ``b`` bytes of a computed value, ``h`` hidden, ``i`` intermediate."""

    def __init__(self, shape, setup):
        self.shape, self.setup = shape, setup
        self.full = setup.method == "full"
        self.T, self.b = setup.tokens, BYTES[setup.weights_dtype]
        self.h, self.i = shape.hidden_size, shape.intermediate_size
        self.targets = () if self.full else shape.adapted(setup.target_modules)
        trained = shape.total_params if self.full else shape.trainable_params(setup.r, self.targets)
        width = self.b if self.full else BYTES[setup.adapter_dtype]
        self.weights = weight_bytes(shape, setup)
        self.adapters = 0 if self.full else trained * width
        self.states = trained * {"sgd": 0, "adamw": 2 * width}.get(setup.optimizer, 2 * (1 + 4 / 256))
        self.update = trained * width if setup.tensor_lists and setup.optimizer == "adamw" else 0
        self.gradients = trained * width
        self.casts = self.adapters / width * self.b if setup.autocast else 0
        self.layer = self._layer()
        self.saved = self._saved()

    # What the backward pass of one layer needs again -----------------------------------------------------------------

    def _layer(self):
        shape, T, b = self.shape, self.T, self.b
        q, kv, heads = shape.q_size, shape.kv_size, shape.num_heads
        attention = T * (2 * q + 2 * kv) * b + T * heads * 4  # q, k, v, output, log-sum-exp
        if self.setup.attention == "eager":
            attention = self._eager()
        if shape.qk_norm:
            attention += T * (q + kv) * (4 if b < 4 else 0)
        return self._norms() + attention + self._mlp() + self._inputs()

    def _eager(self):
        shape, T, b = self.shape, self.T, self.b
        scores = self.setup.micro_batch * shape.num_heads * self.setup.seq_len**2
        softcap = scores * b if shape.model_type == "gemma2" else 0
        keys = 2 * shape.q_size if shape.num_kv_heads < shape.num_heads else 2 * shape.kv_size
        return T * (2 * shape.q_size + keys) * b + scores * (4 + (b if b < 4 else 0)) + softcap

    def _norms(self):
        """An RMSNorm keeps its input in fp32; a LayerNorm as it is."""
        shape, T = self.shape, self.T
        each = T * self.h * (self.b if shape.norm_bias else 4)
        if self.full and not shape.norm_bias:
            each += T * self.h * self.b  # the normalized input, for the gradient of the norm's weight
        return shape.norms_per_layer * each

    def _mlp(self):
        """The activation's input; with a gate also its output and the other factor."""
        return self.T * self.i * self.b * (3 if self.shape.gated_mlp else _activation_copies(self.shape.activation))

    def _inputs(self):
        """The inputs of the layers that are trained: shared by those that read the same, unless each makes its own copy."""
        shape, setup = self.shape, self.setup
        sources = _sources(shape)
        if self.full:
            return sum(self.T * width * self.b for source, width in sources.values() if source != "attention output") - sum(
                self.T * sources[name][1] * self.b for name in _repeated(sources)
            )
        total, seen = 0, set()
        for name in self.targets:
            if name == "lm_head":
                continue
            source, width = sources[name]
            total += self.T * setup.r * self.b
            own = setup.lora_dropout > 0 or (setup.autocast and setup.method == "lora")
            if own:
                total += self.T * width * (self.b + (setup.lora_dropout > 0))
            elif source not in seen and source != "attention output":
                total += self.T * width * self.b
            seen.add(source)
        if setup.keeps_4bit_inputs and setup.method == "qlora":
            own = {} if setup.lora_dropout == 0 else dict.fromkeys(seen, 0)
            for source, width in dict(sources.values()).items():
                fresh = 0 if source == "attention output" or (source in seen and source not in own) else 1
                total += self.T * width * self.b * (1 + fresh)  # the step before keeps its own
        return total

    def _saved(self):
        shape, T = self.shape, self.T
        if self.setup.gradient_checkpointing:
            return shape.num_layers * T * self.h * self.b + self.casts
        return shape.num_layers * self.layer + T * self.h * self.b + self.casts

    # The moments -----------------------------------------------------------------------------------------------------

    @property
    def at_loss(self):
        """The last norm's input and output, and the gradient that leaves the loss."""
        return self.T * self.h * (4 + self.b)

    @property
    def logits(self):
        """Bytes of all copies of the logits that exist at once."""
        shape, setup = self.shape, self.setup
        values = self.T * shape.vocab_size
        if setup.fused_loss:
            return setup.loss_chunk(self.h, shape.vocab_size) * shape.vocab_size * self.b
        softcap = 2 * self.b if shape.model_type == "gemma2" else 0
        if setup.loss_dtype == "bf16":
            return values * (4 * self.b + softcap)
        return values * (12 + softcap)

    @property
    def layer_work(self):
        """What one layer's backward pass holds beside what was saved; with checkpointing the layer's own values too."""
        work = self.T * (2 * self.i + 2 * self.h) * self.b
        if self.setup.method == "qlora":
            work += self.h * self.i * self.b
        return work + (self.layer if self.setup.gradient_checkpointing else 0)


def _sources(shape):
    """``{linear layer: (what it reads, width)}``."""
    found = {}
    for name, (width, _) in shape.linear_shapes().items():
        if name in ATTENTION[:3] or name in ("qkv_proj", "query_key_value"):
            found[name] = ("attention input", width)
        elif width == shape.intermediate_size and name not in ("o_proj", "dense"):
            found[name] = ("product", width)
        elif name in ("o_proj", "dense"):
            found[name] = ("attention output", width)
        else:
            found[name] = ("attention input" if shape.parallel_attention else "mlp input", width)
    return found


def _repeated(sources):
    seen, again = set(), []
    for name, (source, _) in sources.items():
        if source in seen and source != "attention output":
            again.append(name)
        seen.add(source)
    return again


def _activation_copies(activation: str) -> int:
    """Values an activation without a gate keeps for each it puts out: transformers' ``gelu_new`` is written in Python."""
    return 8 if activation in ("gelu_new", "gelu_fast") else 1
