"""Low rank and LoRA: what a rank-r matrix can hold, LoRA written by hand, and how large an adapter is.

``svd`` and ``adapter`` are NumPy and plain arithmetic; ``layer`` and ``toy`` need torch and load it when first used.
"""

import importlib

from .adapter import AdapterSize, adapter_factors, adapter_size, lora_scaling
from .svd import (
    Compression,
    Decomposition,
    decompose,
    effective_rank,
    energy_curve,
    picture,
    product_singular_values,
    rank_for_energy,
)

_LAZY = {"LoRALinear": "layer", "ToyRun": "toy", "toy_target": "toy", "train_toy": "toy"}

__all__ = [
    "AdapterSize", "Compression", "Decomposition", "LoRALinear", "ToyRun", "adapter_factors",
    "adapter_size", "decompose", "effective_rank", "energy_curve", "lora_scaling", "picture",
    "product_singular_values", "rank_for_energy", "toy_target", "train_toy",
]  # fmt: skip


def __getattr__(name):
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
