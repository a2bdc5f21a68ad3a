"""A task small enough to train in a blink: learn an update of known rank, and see what a smaller rank cannot learn."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from ..errors import LorakitError
from .layer import LoRALinear
from .svd import decompose

__all__ = ["ToyRun", "toy_target", "train_toy"]

SIZE, ROWS = 32, 128  #: the layer is 32 × 32; 128 inputs, white (XᵀX / n is the identity), so the floor is exact


@dataclass(frozen=True)
class ToyRun:
    """One training of a :class:`LoRALinear` on the toy task.

    Attributes:
        r, target_rank: rank of the adapter and of the update it should learn.
        scaling: the factor on B A.
        losses: ``‖target − s B A‖²_F`` as a share of ``‖target‖²_F`` before each step and at the end; 1 is where it starts.
        floor: the least any matrix of rank r can reach (Eckart and Young), the same share.
        trainable_params: values in A and B.
    """

    r: int
    target_rank: int
    scaling: float
    losses: tuple[float, ...]
    floor: float
    trainable_params: int

    def __str__(self) -> str:
        return f"rank {self.r}: loss {self.losses[-1]:.4f} after {len(self.losses) - 1} steps, floor {self.floor:.4f}"


def toy_target(target_rank: int = 8, seed: int = 0) -> np.ndarray:
    """A 32 × 32 update of exactly this rank, with singular values falling from 4 by equal steps.

    Raises:
        LorakitError: for a rank outside 1 to 32.
    """
    if isinstance(target_rank, bool) or not isinstance(target_rank, int) or not 1 <= target_rank <= SIZE:
        raise LorakitError(
            "target_rank", got=repr(target_rank), expected=f"a whole number from 1 to {SIZE}", do="For example 8."
        )
    rng = np.random.default_rng(seed)
    u, v = (np.linalg.qr(rng.normal(size=(SIZE, target_rank)))[0] for _ in range(2))
    return (u * np.linspace(4, 4 / target_rank, target_rank)) @ v.T


def _white_inputs(seed: int) -> torch.Tensor:
    rows = np.random.default_rng(seed + 1).normal(size=(ROWS, SIZE))
    return torch.tensor(np.linalg.qr(rows)[0] * np.sqrt(ROWS), dtype=torch.float32)


def train_toy(
    r: int, *, target_rank: int = 8, lora_alpha: float | None = None, use_rslora: bool = False, lora_dropout: float = 0.0,
    learning_rate: float = 0.02, steps: int = 300, seed: int = 0,
) -> ToyRun:  # fmt: skip
    """Train a real :class:`LoRALinear` with Adam (cosine schedule) towards outputs of ``W + target``.

    Because the inputs are white, the mean squared error is ``‖target − s B A‖²_F / n`` exactly, and rank r cannot bring
    it below the sum of the squared singular values it leaves out.

    Args:
        r: rank of the adapter, 1 to 32.
        target_rank: rank of the update to learn.
        lora_alpha: None means r, so that the scale is 1.
        learning_rate: where the cosine starts; it ends at 0.
        steps: optimizer steps on all 128 rows.
        seed: of the target, the inputs, the frozen weight and A.

    Raises:
        LorakitError: for a rank, alpha or dropout outside its range.
    """
    target = toy_target(target_rank, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base = nn.Linear(SIZE, SIZE)
        inputs, update = _white_inputs(seed), torch.tensor(target, dtype=torch.float32)
        wanted = (base(inputs) + inputs @ update.T).detach()
        layer = LoRALinear(base, r, r if lora_alpha is None else lora_alpha, lora_dropout, use_rslora)
        losses = _fit(layer, inputs, wanted, update, learning_rate, steps)
    floor = decompose(target).relative_error(r) ** 2
    return ToyRun(r, target_rank, layer.scaling, tuple(losses), floor, layer.lora_A.numel() + layer.lora_B.numel())


def _fit(layer, inputs, wanted, update, learning_rate, steps) -> list[float]:
    optimizer = torch.optim.Adam([layer.lora_A, layer.lora_B], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses, size = [], (update**2).sum()

    def measure():
        with torch.no_grad():
            losses.append(float(((update - layer.delta_weight()) ** 2).sum() / size))

    for _ in range(steps):
        measure()
        loss = ((layer(inputs) - wanted) ** 2).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    measure()
    return losses
