"""The sizes of a decoder-only transformer, and every parameter count that follows from them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from numbers import Integral

from ..errors import LorakitError, did_you_mean
from ..recipes import PROJECTIONS
from . import _families as families

__all__ = ["ATTENTION", "MLP", "PROJECTIONS", "ModelShape"]

#: The attention projections and the MLP projections, by their usual names.
ATTENTION, MLP = PROJECTIONS[:4], PROJECTIONS[4:]

_LIMITS = {
    "hidden_size": 1_000_000, "intermediate_size": 10_000_000, "num_layers": 10_000, "num_heads": 10_000,
    "num_kv_heads": 10_000, "head_dim": 100_000, "vocab_size": 100_000_000,
}  # fmt: skip


@dataclass(frozen=True)
class ModelShape:
    """The sizes that decide how many parameters a decoder-only transformer has, exact to the parameter.

    One layer has attention (q, k, v, o), an MLP (gate, up, down) and norms; around the layers lie the token embedding, a
    last norm and the language-model head.

    Attributes:
        hidden_size: width of the residual stream.
        intermediate_size: width inside the MLP.
        num_layers: decoder layers.
        num_heads, num_kv_heads: query heads, and key/value heads (fewer with grouped-query attention).
        head_dim: width of one head; None means ``hidden_size / num_heads``. Gemma and Qwen3 choose it freely.
        vocab_size: rows of the embedding, padding rows included.
        tied_embeddings: whether the head is the embedding matrix itself.
        gated_mlp: gate, up and down projections (SwiGLU, GeGLU); False means up and down only.
        attention_bias: q, k and v have a bias, as in Qwen2 (o only with ``o_bias``).
        qk_norm: an RMSNorm over ``head_dim`` on queries and one on keys, shared by the heads (Qwen3, Gemma 3).
        norms_per_layer: norms of width ``hidden_size`` in a layer: 2, in Gemma 2 and 3 four, in Falcon 7B and Phi-2 one.
        norm_bias: LayerNorm with weight and bias, instead of RMSNorm with a weight only.
        o_bias, mlp_bias, lm_head_bias: whether these have a bias.
        parallel_attention: attention and MLP read the same input (Falcon, Phi-2, GPT-NeoX).
        model_type: the family's name in transformers; it decides what the linear layers are called.
        activation: the MLP's activation as transformers names it.

    Raises:
        LorakitError: for sizes that are no whole numbers, below 1 or absurdly large, and for heads that do not divide.

    Example:
        >>> llama2 = ModelShape(4096, 11008, 32, 32, 32, 128, 32000, tied_embeddings=False)
        >>> llama2.total_params, llama2.trainable_params(8, ["q_proj", "v_proj"])
        (6738415616, 4194304)
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int | None
    vocab_size: int
    tied_embeddings: bool
    gated_mlp: bool = True
    attention_bias: bool = False
    qk_norm: bool = False
    norms_per_layer: int = 2
    norm_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    lm_head_bias: bool = False
    parallel_attention: bool = False
    model_type: str = "llama"
    activation: str = "silu"

    def __post_init__(self):
        if self.head_dim is None:
            _check_size("hidden_size", self.hidden_size)
            _check_size("num_heads", self.num_heads)
            _check_divides("hidden_size", self.hidden_size, "num_heads", self.num_heads)
            object.__setattr__(self, "head_dim", self.hidden_size // self.num_heads)
        for name in _LIMITS:
            _check_size(name, getattr(self, name))
            object.__setattr__(self, name, int(getattr(self, name)))
        _check_divides("num_heads", self.num_heads, "num_kv_heads", self.num_kv_heads)
        families.check(self.model_type)

    @property
    def q_size(self) -> int:
        """Width of all query heads together."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key heads together (the value heads have the same)."""
        return self.num_kv_heads * self.head_dim

    @property
    def fused_qkv(self) -> bool:
        """Whether q, k and v are one linear layer (Phi-3, Falcon, GPT-NeoX)."""
        return "qkv" in families.names(self.model_type)

    @property
    def softcap(self) -> bool:
        """Whether attention scores and logits go through a tanh (Gemma 2)."""
        return self.model_type == "gemma2"

    @property
    def fused_gate_up(self) -> bool:
        """Whether gate and up are one linear layer (Phi-3)."""
        return self.gated_mlp and "gate_up" in families.names(self.model_type)

    def linear_shapes(self) -> dict[str, tuple[int, int]]:
        """``{module name: (in_features, out_features)}`` of one layer's linear layers, in the order they run."""
        h, f, q, kv = self.hidden_size, self.intermediate_size, self.q_size, self.kv_size
        sizes = {"qkv": (h, q + 2 * kv)} if self.fused_qkv else {"q": (h, q), "k": (h, kv), "v": (h, kv)}
        sizes["o"] = (q, h)
        if self.fused_gate_up:
            sizes["gate_up"] = (h, 2 * f)
        else:
            sizes |= {"gate": (h, f), "up": (h, f)} if self.gated_mlp else {"up": (h, f)}
        sizes["down"] = (f, h)
        names = families.names(self.model_type)
        return {names[part]: size for part, size in sizes.items()}

    @property
    def all_linear(self) -> tuple[str, ...]:
        """The names of every linear layer in a decoder layer: what QLoRA's "all linear layers" means."""
        return tuple(self.linear_shapes())

    @property
    def linear_params(self) -> int:
        """Weights of the linear layers of all decoder layers (no biases): what 4-bit loading quantizes."""
        return self.num_layers * sum(i * o for i, o in self.linear_shapes().values())

    @property
    def layer_params(self) -> int:
        """Parameters of one decoder layer."""
        biases = self.attention_bias * (self.q_size + 2 * self.kv_size) + self.o_bias * self.hidden_size
        biases += self.mlp_bias * ((1 + self.gated_mlp) * self.intermediate_size + self.hidden_size)
        norms = self.norms_per_layer * self._norm_params + self.qk_norm * 2 * self.head_dim
        return self.linear_params // self.num_layers + biases + norms

    @property
    def embedding_params(self) -> int:
        """Parameters of the token embedding and the language-model head (one matrix when tied)."""
        return self.vocab_size * (self.hidden_size * (2 - bool(self.tied_embeddings)) + self.lm_head_bias)

    @property
    def total_params(self) -> int:
        """Every parameter of the model."""
        return self.num_layers * self.layer_params + self.embedding_params + self._norm_params

    @property
    def _norm_params(self) -> int:
        return self.hidden_size * (1 + self.norm_bias)

    def target_shapes(self, target_modules: str | Iterable[str]) -> dict[str, tuple[int, int, int]]:
        """``{name: (in_features, out_features, how often)}`` of the targeted linear layers.

        Raises:
            LorakitError: for a name this model does not have, with the nearest ones.
        """
        known = {name: (i, o, self.num_layers) for name, (i, o) in self.linear_shapes().items()}
        known["lm_head"] = (self.hidden_size, self.vocab_size, 1)
        asked = (target_modules,) if isinstance(target_modules, str) else tuple(target_modules)
        if not asked:
            raise LorakitError("target_modules", got="none", expected=_names(known), do="Name at least one.")
        for name in asked:
            if name not in known:
                raise LorakitError(
                    "target module", got=repr(name), expected="one of " + _names(known),
                    do=did_you_mean(name, known, "Use the names in this list.", n=2, cutoff=0.5),
                )  # fmt: skip
        return {name: known[name] for name in dict.fromkeys(asked)}

    def adapted(self, target_modules: str | Iterable[str]) -> tuple[str, ...]:
        """This model's own names of the targets: "all-linear", or the usual names translated to the layer that holds them.

        Raises:
            LorakitError: for a name that means nothing here.

        Example:
            >>> from lorakit_helpers.memory import find_model
            >>> find_model("Phi-3-mini").shape.adapted(["q_proj", "v_proj", "up_proj"])
            ('qkv_proj', 'gate_up_proj')
        """
        if target_modules == "all-linear":
            return self.all_linear
        own = families.names(self.model_type)
        usual = {name: own.get(part) for part, name in families.USUAL.items()}
        for parts, fused in ((("q_proj", "k_proj", "v_proj"), "qkv"), (("gate_proj", "up_proj"), "gate_up")):
            usual |= dict.fromkeys(parts, own[fused]) if fused in own else {}
        known = self.linear_shapes()
        asked = (target_modules,) if isinstance(target_modules, str) else tuple(target_modules)
        if not self.gated_mlp:  # a plain MLP has no gate: the seven usual names then mean all it has
            asked = tuple(name for name in asked if name != "gate_proj") or asked
        found = [name if name in known or name == "lm_head" else usual.get(name) or name for name in asked]
        return tuple(self.target_shapes(found))

    def trainable_params(self, r: int, target_modules: str | Iterable[str]) -> int:
        """LoRA's parameters: ``r * (in + out)`` for each targeted layer (arXiv:2106.09685, section 4.2).

        Args:
            r: rank, from 1 to the smallest side of any targeted layer.
            target_modules: names from ``linear_shapes()``, or ``lm_head``.

        Raises:
            LorakitError: for a rank out of range or an unknown target.
        """
        shapes = self.target_shapes(target_modules)
        largest = min(min(i, o) for i, o, _ in shapes.values())
        if isinstance(r, bool) or not isinstance(r, Integral) or not 1 <= r <= largest:
            tightest = min(shapes, key=lambda name: min(shapes[name][:2]))
            raise LorakitError(
                "rank", got=repr(r),
                expected=f"a whole number from 1 to {largest}, the smaller side of {tightest} {shapes[tightest][:2]}",
                do=f"For example r={min(16, largest)}.",
            )  # fmt: skip
        return sum(int(r) * (i + o) * times for i, o, times in shapes.values())

    @classmethod
    def from_config(cls, config) -> "ModelShape":
        """The shape of a transformers configuration (only its attributes are read).

        Raises:
            LorakitError: for a family that is not known here, naming the known ones.
        """
        return cls(**families.read(config))

    def to_config(self, **extra):
        """A transformers configuration of this shape (imports transformers); ``extra`` goes to its class."""
        return families.build(self, **extra)

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self):
        return f"{self.model_type}: {self.total_params / 1e9:.2f}e9 parameters, {self.num_layers} layers of {self.hidden_size}"


def _names(known) -> str:
    return ", ".join(known)


def _check_size(name, value):
    if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= value <= _LIMITS[name]:
        raise LorakitError(
            f"model shape, {name}", got=repr(value), expected=f"a whole number from 1 to {_LIMITS[name]:,}",
            do="Take the value from the model's config.json.",
        )  # fmt: skip


def _check_divides(whole_name, whole, part_name, part):
    if whole % part:
        divisors = [n for n in range(1, whole + 1) if whole % n == 0]
        near = min(divisors, key=lambda n: (abs(n - part), n))
        raise LorakitError(
            f"model shape, {part_name}", got=f"{part} ({whole} / {part} = {whole / part:.2f})",
            expected=f"a divisor of {whole_name} = {whole}", do=f"The nearest that divides is {near}.",
        )  # fmt: skip
