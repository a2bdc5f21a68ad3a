"""The closed form: what a training step needs, from the model's sizes, in microseconds."""

from ..errors import LorakitError
from ._layer import LayerBytes
from .result import GIB, MemoryEstimate
from .setup import BYTES, TrainSetup
from .shape import ModelShape

__all__ = ["CONTEXT_GIB", "SLACK", "estimate", "weight_bytes"]

#: Allowances for planning, not measurements of ours: a CUDA context with its libraries, and the share of the peak that a
#: fragmented allocator holds beside it.
CONTEXT_GIB, SLACK = 0.6, 0.05

#: Bytes of one NF4 weight: four bits, an fp32 scale for 64 weights; double-quantized scales take one byte, with an fp32
#: scale for 256 of them (arXiv:2305.14314, section 3).
NF4_BYTES = {False: 0.5 + 4 / 64, True: 0.5 + 1 / 64 + 4 / 64 / 256}


def estimate(shape: ModelShape, setup: TrainSetup) -> MemoryEstimate:
    """Peak memory of one training step.

    The peak is the highest of a few moments: around the output layer and the loss, in the backward pass of the last layer
    and of the embedding, and in the optimizer's step. What lies there the whole time is weights, adapters, gradients and
    the optimizer's state.

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
    moments = _Step(shape, setup).moments()
    totals = {name: sum(parts.values()) / GIB for name, parts in moments.items()}
    highest = max(totals, key=totals.get)
    phases = {}
    for name, total in totals.items():
        phase = name.split(",")[0]
        phases[phase] = max(phases.get(phase, 0.0), total)
    return MemoryEstimate(
        **{f"{part}_gib": size / GIB for part, size in moments[highest].items()},
        peak_at=highest.split(",")[0], phases=phases, context_gib=CONTEXT_GIB, slack_gib=SLACK * totals[highest],
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


#: Bytes a trained value of 8-bit AdamW: two of one byte, and an fp32 scale for 256 of them.
EIGHT_BIT = 2 * (1 + 4 / 256)


def embedding_states(shape: ModelShape, setup: TrainSetup) -> float:
    """Bytes that 8-bit AdamW takes more than elsewhere: transformers' Trainer keeps a trained embedding's states in fp32."""
    full = setup.method == "full" and setup.optimizer.endswith("8bit")
    return full * shape.vocab_size * shape.hidden_size * (8 - EIGHT_BIT)


class _Step:
    """Bytes of one step, part by part. ``T`` tokens, ``b`` bytes of a computed value, ``h`` hidden, ``V`` vocabulary."""

    def __init__(self, shape, setup):
        self.shape, self.setup = shape, setup
        self.full = setup.method == "full"
        self.T, self.b, self.h, self.V = setup.tokens, BYTES[setup.weights_dtype], shape.hidden_size, shape.vocab_size
        self.layer = LayerBytes(shape, setup)
        trained = shape.total_params if self.full else shape.trainable_params(setup.r, self.layer.targets)
        width = self.b if self.full else BYTES[setup.adapter_dtype]
        self.weights, self.trained = weight_bytes(shape, setup), trained * width
        values = {"sgd": 0, "adamw": 2 * width, "paged_adamw_32bit": 8}  # else 8 bits and an fp32 scale for 256 of them
        self.states = trained * values.get(setup.optimizer, EIGHT_BIT) + embedding_states(shape, setup)
        self.update = self.trained if setup.tensor_lists and setup.optimizer == "adamw" else 0
        self.casts = self.trained / width * self.b if setup.autocast else 0
        self.head_weight = self.V * self.h * self.b

    def moments(self):
        """``{moment: {part: bytes}}``."""
        lasting = {"weights": self.weights, "adapters": 0 if self.full else self.trained, "optimizer": self.states}
        before = self.trained if self.setup.gradient_accumulation else 0  # gradients of an earlier micro-batch
        found = {
            name: lasting | {"gradients": before, "activations": activations, "logits": logits}
            for name, (activations, logits) in (self._loss() | self._head() | self._backward()).items()
        }
        rest = {"gradients": self.trained, "logits": 0}
        if self.full:  # the embedding's gradient is the last; tied, it is added to the output layer's, which has waited
            copies = (
                1 + 2 * self.shape.tied_embeddings - (not self.setup.gradient_accumulation)
            )  # the last becomes the gradient
            made = copies * self.head_weight
            found["backward, embedding"] = lasting | rest | {"activations": made}
        found["optimizer step"] = lasting | rest | {"optimizer": self.states + self.update, "activations": 0}
        return found

    @property
    def saved(self):
        """What the backward pass needs again at its start: of the layers, the last norm and the output layer's adapter."""
        setup, layer, layers = self.setup, self.layer, self.shape.num_layers
        if setup.gradient_checkpointing:
            kept = layers * self.T * self.h * self.b
        else:  # before the first adapter nothing needs a gradient
            kept = layers * layer.saved + self.casts - (0 if self.full else layer.norm)
        head = self.T * self.h * self.b * self.full
        if "lm_head" in layer.targets:
            head = self.T * (self.h * (self.b + (setup.lora_dropout > 0)) + setup.r * self.b)
        return kept + layer.norm + head

    @property
    def last_step(self):
        """Inputs of 4-bit products that the step before still holds."""
        kept = self.setup.keeps_last_step and self.setup.method == "qlora"
        return self.shape.num_layers * self.layer.quantized_inputs if kept else 0

    def _loss(self):
        """The logits, and what the loss makes of them."""
        setup, values = self.setup, self.T * self.V
        if setup.fused_loss:
            chunk = setup.loss_chunk(self.h, self.V) * self.V * self.b
            return {"loss": (self.saved + 2 * self.T * self.h * self.b + self.last_step, chunk)}
        wide = 4 if setup.loss_dtype == "fp32" else self.b
        softcap = self.b * bool(self.shape.softcap)
        if setup.loss_chunks == 1 and wide == 4:
            cached = self.casts if setup.gradient_checkpointing else 0  # autocast's, until the forward pass ends
            return {
                "loss": (self.saved, values * (3 * wide + softcap)),  # log-probabilities and two gradients
                "loss, forward": (self.saved + cached, values * (2 * wide + softcap + self.b % 4)),
            }
        forward = values * (2 * wide + softcap)  # logits and log-probabilities of all pieces
        return {
            "loss": (self.saved + self.last_step, forward),
            "loss, backward": (self.saved, forward + 2 * wide * values / setup.loss_chunks),
        }

    def _head(self):
        """The output layer: a 4-bit one is unpacked for it; a trained one gets its gradient."""
        setup, found, values = self.setup, {}, self.T * self.V
        if setup.keeps_last_step or setup.quantize_lm_head:
            unpacked = self.head_weight * setup.quantize_lm_head * self.layer.unpacked_copies
            old = values * (4 if setup.loss_dtype == "fp32" else self.b) * setup.keeps_last_step
            found["loss, output layer"] = (self.saved + unpacked + self.last_step, old + values * self.b)
        if self.full:
            logits = 0 if setup.fused_loss else values * self.b
            found["backward, output layer"] = (self.saved + self.head_weight + self.T * self.h * self.b, logits)
        return found

    def _backward(self):
        """The last layer; with checkpointing it is computed again first."""
        again = self.layer.saved + self.casts / self.shape.num_layers if self.setup.gradient_checkpointing else 0
        waiting = self.head_weight if self.full and self.shape.tied_embeddings else 0
        return {"backward": (self.saved + again + self.layer.backward + waiting, 0)}
