"""How many parameters an adapter has and how many bytes they take. Plain arithmetic, exact."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import LorakitError, did_you_mean
from ..memory import PROJECTIONS

__all__ = ["TARGETS", "AdapterSize", "adapter_factors", "adapter_size", "lora_scaling"]

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


def adapter_size(shape, r: int, target_modules=PROJECTIONS) -> AdapterSize:
    """Count an adapter: ``r · (in + out)`` for each target in each layer.

    Args:
        shape: a :class:`lorakit_helpers.memory.ModelShape`.
        r: rank, at most the smaller side of every target.
        target_modules: names of projections, such as ``("q_proj", "v_proj")``.

    Raises:
        LorakitError: for an unknown target (the nearest name is offered) or a rank above a layer's size.

    Example:
        >>> from lorakit_helpers.memory import find_model
        >>> print(adapter_size(find_model("Llama-3.1-8B").shape, 32))
        83,886,080 trainable parameters, 1.04% of the base, 335.5 MB in fp32
    """
    return AdapterSize(shape.trainable_params(r, target_modules), shape.total_params)


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
            raise LorakitError("module", got=repr(module), expected=f"one of the adapter's {len(known)} layers",
                               do=did_you_mean(module, known, "Check the name."))  # fmt: skip
        left, right = (file.get_tensor(names[name]) for name in wanted)
    return left, right, lora_scaling(config["lora_alpha"], right.shape[0], config.get("use_rslora", False))
