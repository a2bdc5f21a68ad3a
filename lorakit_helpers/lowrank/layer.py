"""LoRA written out: a frozen linear layer plus two thin trainable matrices."""

import math

import torch
from torch import nn
from torch.nn import functional

from ..errors import LorakitError
from .adapter import lora_scaling

__all__ = ["LoRALinear"]


class LoRALinear(nn.Module):
    r"""``y = x Wᵀ + b + s · dropout(x) Aᵀ Bᵀ`` with W and b frozen (arXiv:2106.09685, section 4.1).

    A starts Kaiming-uniform (a = √5) and B at zero, as in peft 0.21.2, so a new adapter changes nothing. The scale s is
    ``lora_alpha / r``, or ``lora_alpha / √r`` with rsLoRA (arXiv:2312.03732). The adapter's weights are float32, as peft
    keeps them; the input is cast to them and the result cast back to the base layer's type.

    Args:
        base_layer: the layer to adapt, weight of shape (out_features, in_features); it is frozen in place.
        r: rank, 1 to min(in_features, out_features).
        lora_alpha: numerator of the scale, above 0.
        lora_dropout: probability of dropping an input of A while training, 0 to below 1.
        use_rslora: scale by √r instead of r.

    Attributes:
        lora_A: shape (r, in_features).
        lora_B: shape (out_features, r).
        scaling: s.
        merged: whether s B A is in the base weight at the moment.

    Raises:
        LorakitError: for a rank, alpha or dropout outside its range, or a layer that is not linear.

    Example:
        >>> layer = LoRALinear(nn.Linear(8, 4), r=2, lora_alpha=4)
        >>> layer.scaling, [tuple(p.shape) for p in layer.parameters() if p.requires_grad]
        (2.0, [(2, 8), (4, 2)])
    """

    def __init__(self, base_layer: nn.Linear, r: int = 16, lora_alpha: float = 16, lora_dropout: float = 0.0, use_rslora=False):
        super().__init__()
        if not isinstance(base_layer, nn.Linear):
            raise LorakitError("base_layer", got=type(base_layer).__name__, expected="torch.nn.Linear", do="Pick a projection.")
        self.scaling = lora_scaling(lora_alpha, r, use_rslora)
        most = min(base_layer.in_features, base_layer.out_features)
        if r > most:
            raise LorakitError("rank", got=r, expected=f"between 1 and min(in, out) = {most}",
                               do=f"Choose r ≤ {most}, for example r={min(16, most)}.")  # fmt: skip
        if not 0 <= lora_dropout < 1:
            raise LorakitError("lora_dropout", got=repr(lora_dropout), expected="from 0 to below 1", do="For example 0.05.")
        self.base_layer, self.r, self.lora_alpha, self.use_rslora = base_layer.requires_grad_(False), r, lora_alpha, use_rslora
        self.lora_dropout, self.merged = nn.Dropout(lora_dropout), False
        device = base_layer.weight.device
        self.lora_A = nn.Parameter(torch.empty(r, base_layer.in_features, device=device))
        self.lora_B = nn.Parameter(torch.zeros(base_layer.out_features, r, device=device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Shape (…, in_features) to (…, out_features), in the base layer's type."""
        result = self.base_layer(x)
        if self.merged:
            return result
        low = functional.linear(self.lora_dropout(x.to(self.lora_A.dtype)), self.lora_A)
        return (result + functional.linear(low, self.lora_B) * self.scaling).to(result.dtype)

    def delta_weight(self) -> torch.Tensor:
        """``s · B A``, shape (out_features, in_features): what the adapter adds to the weight."""
        return self.lora_B @ self.lora_A * self.scaling

    @torch.no_grad()
    def merge(self) -> "LoRALinear":
        """Add the update to the base weight in place: the same outputs (but for rounding) at no extra cost.

        Raises:
            LorakitError: when it is merged already, or the sum is not finite; the weight then stays as it was.
        """
        if self.merged:
            raise LorakitError("merge", got="a layer that is merged already", expected="an unmerged one", do="Call unmerge().")
        weight = self.base_layer.weight + self.delta_weight().to(self.base_layer.weight.dtype)
        if not torch.isfinite(weight).all():
            raise LorakitError("merge", got="nan or infinity in the sum", expected="finite weights", do="Check the training.")
        self.base_layer.weight.copy_(weight)
        self.merged = True
        return self

    @torch.no_grad()
    def unmerge(self) -> "LoRALinear":
        """Subtract the update again. In 16 bit the rounding of the merge remains; keep a copy when it matters.

        Raises:
            LorakitError: when it is not merged.
        """
        if not self.merged:
            raise LorakitError("unmerge", got="a layer that is not merged", expected="a merged one", do="Call merge() first.")
        self.base_layer.weight -= self.delta_weight().to(self.base_layer.weight.dtype)
        self.merged = False
        return self

    def extra_repr(self) -> str:
        return f"r={self.r}, lora_alpha={self.lora_alpha}, scaling={self.scaling:g}, merged={self.merged}"
