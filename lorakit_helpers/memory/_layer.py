"""Bytes that one decoder layer keeps for its backward pass."""

from .setup import BYTES
from .shape import ATTENTION

__all__ = ["LayerBytes"]

_QKV = (*ATTENTION[:3], "qkv_proj", "query_key_value")


class LayerBytes:
    """One layer. ``T`` tokens, ``b`` bytes of a computed value; ``saved``, ``backward`` and ``quantized_inputs`` in bytes."""

    def __init__(self, shape, setup):
        self.shape, self.setup = shape, setup
        self.full = setup.method == "full"
        self.targets = () if self.full else shape.adapted(setup.target_modules)
        self.T, self.b = setup.tokens, BYTES[setup.weights_dtype]
        self.sources = _sources(shape)

    @property
    def saved(self):
        """Everything the backward pass of the layer needs again."""
        return self.shape.norms_per_layer * self.norm + self._attention() + self._mlp() + self._inputs()

    @property
    def norm(self):
        """What one norm keeps: an RMSNorm its input in fp32, a LayerNorm as it is."""
        return self._norm(self.shape.hidden_size)

    @property
    def backward(self):
        """What the backward pass of the layer's last product holds beside that."""
        shape, T, b = self.shape, self.T, self.b
        weight = shape.hidden_size * shape.intermediate_size * b
        work = T * (shape.intermediate_size + 2 * shape.hidden_size) * b
        copies = {"full": 1, "lora": 0, "qlora": self.unpacked_copies}  # of the weight: its gradient, nothing, it unpacked
        return work + copies[self.setup.method] * weight

    @property
    def unpacked_copies(self):
        """bitsandbytes before 0.43.2 quantized from fp16 and unpacks to it; bf16 is then a second copy."""
        return 2 if self.setup.keeps_last_step and self.setup.weights_dtype == "bf16" else 1

    def _norm(self, width):
        if self.shape.norm_bias:
            return self.T * width * self.b
        normalized = (4 if self.shape.model_type.startswith("gemma") else self.b) * self.full  # for the weight's gradient
        return self.T * width * (4 + normalized)

    def _attention(self):
        """q, k, v, the output and its log-sum-exp (FlashAttention, arXiv:2205.14135); eager also the scores."""
        shape, T, b = self.shape, self.T, self.b
        q, kv = shape.q_size, shape.kv_size
        found = self._norm(q + kv) if shape.qk_norm else 0
        if self.setup.attention == "eager":
            return found + self._eager()
        grouped = shape.num_kv_heads < shape.num_heads
        repeated = grouped and self.setup.repeated_kv
        found += T * (2 * q + 2 * (q if repeated else kv)) * b + T * shape.num_heads * 4
        if (shape.fused_qkv or self.setup.fused_qkv) and not repeated:
            found += T * (q + kv) * b  # v is a view of the product that made all three
        return found

    def _eager(self):
        shape, T, b = self.shape, self.T, self.b
        scores = self.setup.micro_batch * shape.num_heads * self.setup.seq_len**2
        if shape.model_type == "falcon":  # one key head for all, softmax in the scores' own type
            return T * (2 * shape.q_size + 2 * shape.kv_size) * b + scores * b
        softcap = scores * b if shape.softcap else 0
        keys = 2 * shape.q_size if shape.num_kv_heads < shape.num_heads else 2 * shape.kv_size
        return T * (2 * shape.q_size + keys) * b + scores * (4 + (b if b < 4 else 0)) + softcap

    def _mlp(self):
        """The activation's input; with a gate also its output and the other factor."""
        shape = self.shape
        copies = 3 if shape.gated_mlp else _activation_copies(shape.activation)
        return self.T * shape.intermediate_size * self.b * copies

    def _inputs(self):
        """The inputs of the layers that are trained: shared by those that read the same, unless each makes its own copy."""
        setup = self.setup
        if self.full:
            return sum(self.T * width * self.b for source, width in set(self.sources.values()) if source != "attention output")
        total, seen, copied = 0, set(), set()
        for name in self.targets:
            if name == "lm_head":
                continue
            source, width = self.sources[name]
            total += self.T * setup.r * self.b
            if self.copies:
                if not (setup.fused_qkv and name in _QKV and source in copied):
                    total += self.T * width * (self.b + (setup.lora_dropout > 0))
                copied.add(source if name in _QKV else name)
            elif source not in seen and source != "attention output":
                total += self.T * width * self.b
            seen.add(source)
        if setup.keeps_last_step and setup.method == "qlora":
            total += self.fresh_quantized_inputs(seen)
        return total

    @property
    def copies(self):
        """Whether every adapter has its own copy of its input: dropout's result, or autocast's cast."""
        return self.setup.lora_dropout > 0 or (self.setup.autocast and self.setup.method == "lora")

    @property
    def quantized_inputs(self):
        """Inputs of all 4-bit products, each once."""
        return sum(self.T * width * self.b for _, width in set(self.sources.values()))

    def fresh_quantized_inputs(self, seen):
        """Those of them that nothing else keeps."""
        kept = set() if self.copies else set(seen)
        kept.add("attention output")
        return sum(self.T * width * self.b for source, width in set(self.sources.values()) if source not in kept)


def _sources(shape):
    """``{linear layer: (what it reads, width)}``."""
    found = {}
    for name, (width, _) in shape.linear_shapes().items():
        if name in _QKV:
            found[name] = ("attention input", width)
        elif name in ("o_proj", "dense"):
            found[name] = ("attention output", width)
        elif (width == shape.intermediate_size and "down" in name) or name in ("fc2", "dense_4h_to_h"):
            found[name] = ("product", width)
        else:
            found[name] = ("attention input" if shape.parallel_attention else "mlp input", width)
    return found


def _activation_copies(activation: str) -> int:
    """Values an activation without a gate keeps for each it puts out: transformers' ``gelu_new`` is written in Python."""
    return 4 if activation in ("gelu_new", "gelu_fast") else 1
