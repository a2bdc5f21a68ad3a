"""How many parameters an adapter has and how many bytes they take. Plain arithmetic, exact."""

import difflib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import LorakitError
from ..recipes import PROJECTIONS

__all__ = [
    "SHAPES",
    "AdapterSize",
    "BlockShape",
    "adapter_factors",
    "adapter_size",
    "find_shape",
    "lora_scaling",
    "projection_shapes",
]


@dataclass(frozen=True)
class BlockShape:
    """The sizes of a Llama-style decoder that LoRA's counts depend on; names as in :mod:`lorakit_helpers.memory`.

    Attributes:
        total_params: all parameters of the base model.
    """

    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    total_params: int


#: Models of this lesson, as their published configurations say (the same figures as in lorakit_helpers.memory.CATALOGUE).
SHAPES = {
    "SmolLM2-135M": BlockShape(576, 1536, 30, 9, 3, 64, 134_515_008),
    "Llama-2-7B": BlockShape(4096, 11008, 32, 32, 32, 128, 6_738_415_616),
    "Llama-3.1-8B": BlockShape(4096, 14336, 32, 32, 8, 128, 8_030_261_248),
    "Llama-3.3-70B": BlockShape(8192, 28672, 80, 64, 8, 128, 70_553_706_496),
}

#: Groups of projections to try: the LoRA paper adapted q and v, later practice all seven.
TARGETS = {
    "q and v": ("q_proj", "v_proj"),
    "attention (q, k, v, o)": PROJECTIONS[:4],
    "MLP (gate, up, down)": PROJECTIONS[4:],
    "all seven": PROJECTIONS,
}


@dataclass(frozen=True)
class AdapterSize:
    """Counts of one adapter, exact; GB = 1e9 bytes, MB = 1e6 bytes.

    Attributes:
        trainable_params: values in all A and B.
        base_params: values of the frozen model.
    """

    trainable_params: int
    base_params: int

    @property
    def trainable_share(self) -> float:
        """Trainable over base parameters, 0 to 1 and above."""
        return self.trainable_params / self.base_params

    def file_mb(self, dtype: str = "fp32") -> float:
        """The adapter's file in MB (without its header of some kilobytes), saved in fp32, bf16 or fp16."""
        return self.trainable_params * _width(dtype) / 1e6

    def training_gb(self, dtype: str = "fp32") -> float:
        """GB that training needs for the adapter alone: weights, gradients and AdamW's two moments, all in ``dtype``."""
        return 4 * self.trainable_params * _width(dtype) / 1e9

    def to_dict(self) -> dict:
        return asdict(self) | {"trainable_share": self.trainable_share}

    def __str__(self) -> str:
        count = f"{self.trainable_params:,} trainable parameters"
        return f"{count}, {self.trainable_share:.2%} of the base, {self.file_mb():.1f} MB in fp32"


def _width(dtype: str) -> int:
    widths = {"fp32": 4, "bf16": 2, "fp16": 2}
    if dtype not in widths:
        raise LorakitError("dtype", got=repr(dtype), expected="one of " + ", ".join(widths), do="For example fp32.")
    return widths[dtype]


def lora_scaling(lora_alpha: float, r: int, use_rslora: bool = False) -> float:
    """The factor on B A: ``lora_alpha / r``, or ``lora_alpha / √r`` with rsLoRA (arXiv:2312.03732).

    Raises:
        LorakitError: for a rank below 1 or an alpha that is not above 0.

    Example:
        >>> lora_scaling(16, 64), lora_scaling(16, 64, use_rslora=True)
        (0.25, 2.0)
    """
    if isinstance(r, bool) or not isinstance(r, int) or r < 1:
        raise LorakitError("rank", got=repr(r), expected="a whole number of at least 1", do="For example r=16.")
    if isinstance(lora_alpha, bool) or not isinstance(lora_alpha, int | float) or not 0 < lora_alpha < math.inf:
        raise LorakitError("lora_alpha", got=repr(lora_alpha), expected="a number above 0", do="For example lora_alpha=r.")
    return lora_alpha / (math.sqrt(r) if use_rslora else r)


def find_shape(name: str) -> BlockShape:
    """The shape called ``name``.

    Raises:
        LorakitError: for an unknown name, with the nearest known one.
    """
    if name in SHAPES:
        return SHAPES[name]
    near = difflib.get_close_matches(str(name), SHAPES, n=1, cutoff=0.4)
    raise LorakitError("model", got=repr(name), expected="one of " + ", ".join(SHAPES),
                       do=f"Did you mean {near[0]}?" if near else "Choose one of them.")  # fmt: skip


def projection_shapes(shape) -> dict[str, tuple[int, int]]:
    """(in_features, out_features) of one block's seven projections, for anything with :class:`BlockShape`'s attributes."""
    hidden, inner = shape.hidden_size, shape.intermediate_size
    queries, keys = shape.num_heads * shape.head_dim, shape.num_kv_heads * shape.head_dim
    sizes = (
        (hidden, queries),
        (hidden, keys),
        (hidden, keys),
        (queries, hidden),
        (hidden, inner),
        (hidden, inner),
        (inner, hidden),
    )
    return dict(zip(PROJECTIONS, sizes, strict=True))


def adapter_size(shape, r: int, target_modules=PROJECTIONS) -> AdapterSize:
    """Count an adapter: ``r · (in + out)`` for each target in each layer.

    Args:
        shape: a :class:`BlockShape`, or any object with its attributes.
        r: rank, at most the smaller side of every target.
        target_modules: names of projections, such as ``("q_proj", "v_proj")``.

    Raises:
        LorakitError: for an unknown target (the nearest name is offered) or a rank above a layer's size.

    Example:
        >>> print(adapter_size(find_shape("Llama-3.1-8B"), 32))
        83,886,080 trainable parameters, 1.04% of the base, 335.5 MB in fp32
    """
    lora_scaling(1, r)  # the same check of r everywhere
    sizes = projection_shapes(shape)
    targets = (target_modules,) if isinstance(target_modules, str) else tuple(dict.fromkeys(target_modules))
    if not targets:
        raise LorakitError(
            "target_modules", got="none", expected="at least one of " + ", ".join(sizes), do="For example q_proj."
        )
    for name in targets:
        if name not in sizes:
            near = difflib.get_close_matches(str(name), sizes, n=1)
            raise LorakitError("target module", got=repr(name), expected="one of " + ", ".join(sizes),
                               do=f"Did you mean {near[0]}?" if near else "Use the layers' own names.")  # fmt: skip
        if r > min(sizes[name]):
            raise LorakitError("rank", got=r, expected=f"between 1 and min(in, out) = {min(sizes[name])} of {name}",
                               do=f"Choose r ≤ {min(sizes[name])}.")  # fmt: skip
    count = shape.num_layers * sum(r * (sizes[name][0] + sizes[name][1]) for name in targets)
    return AdapterSize(count, shape.total_params)


def adapter_factors(folder, module: str):
    """B and A of one layer of a saved peft adapter, and the factor on their product.

    Args:
        folder: as written by ``save_pretrained`` (``adapter_config.json`` and ``adapter_model.safetensors``).
        module: the layer's name in the base model, for example ``"model.layers.28.self_attn.q_proj"``.

    Returns:
        ``(B, A, scaling)``: tensors of shapes (out, r) and (r, in), and a number.

    Raises:
        LorakitError: when there is no adapter, or it has no such layer.
    """
    from safetensors import safe_open

    folder = Path(folder)
    if not (folder / "adapter_config.json").is_file() or not (folder / "adapter_model.safetensors").is_file():
        raise LorakitError(
            f"adapter {folder}", got="no adapter there", expected="a folder of save_pretrained", do="Run notebook 07."
        )
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        names = {name.removeprefix("base_model.model."): name for name in file.keys()}  # noqa: SIM118
        wanted = [f"{module}.lora_{side}.weight" for side in "BA"]
        if not set(wanted) <= set(names):
            known = sorted({name.split(".lora_")[0] for name in names})
            near = difflib.get_close_matches(module, known, n=1)
            raise LorakitError("module", got=repr(module), expected=f"one of the adapter's {len(known)} layers",
                               do=f"Did you mean {near[0]}?" if near else "Check the name.")  # fmt: skip
        left, right = (file.get_tensor(names[name]) for name in wanted)
    return left, right, lora_scaling(config["lora_alpha"], right.shape[0], config.get("use_rslora", False))
