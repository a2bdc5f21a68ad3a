"""What a recipe means before anything is trained: trainable parameters, memory, updates, learning rates, time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from .errors import LorakitError
from .lowrank import AdapterSize, adapter_size
from .recipes import Recipe

__all__ = ["RunPlan", "learning_rates", "plan_run", "setup_of", "update_count"]


def update_count(rows: int, recipe: Recipe) -> int:
    """Optimizer updates of a run on one device, counted as transformers' ``Trainer`` does.

    The last batch of an epoch may be smaller, and so may its last group of accumulated batches; ``max_steps`` above 0
    decides alone.

    Raises:
        LorakitError: when there are no rows.

    Example:
        >>> update_count(100, Recipe(per_device_train_batch_size=8, gradient_accumulation_steps=2, num_train_epochs=3))
        21
    """
    if rows < 1:
        raise LorakitError("rows", got=rows, expected="at least one", do="Load a split first.")
    if recipe.max_steps > 0:
        return recipe.max_steps
    batches = math.ceil(rows / recipe.per_device_train_batch_size)
    return math.ceil(recipe.num_train_epochs * max(1, math.ceil(batches / recipe.gradient_accumulation_steps)))


def learning_rates(recipe: Recipe, updates: int) -> np.ndarray:
    """The learning rate of every update, from transformers' own ``get_scheduler``; shape ``(updates,)``.

    Example:
        >>> learning_rates(Recipe(learning_rate=0.1, lr_scheduler_type="constant"), 3).tolist()
        [0.1, 0.1, 0.1]
    """
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.learning_rate)
    schedule = get_scheduler(
        recipe.lr_scheduler_type, optimizer, num_warmup_steps=recipe.warmup_steps, num_training_steps=updates
    )
    # the schedule is one function of the update's number; stepping through it would cost milliseconds a hundred updates
    rate = schedule.lr_lambdas[0]
    return recipe.learning_rate * np.array([rate(step) for step in range(updates)], dtype=float)


def setup_of(recipe: Recipe, tokens: int, device: str = "cuda"):
    """The recipe as :func:`lorakit_helpers.memory.estimate` wants it.

    Args:
        recipe: what is trained.
        tokens: of the longest row, before ``max_length`` cuts it.
        device: on ``"cpu"`` the course unpacks the 4-bit weights, so that they count as 16-bit ones.
    """
    from .memory import TrainSetup

    return TrainSetup(
        method="lora" if device == "cpu" else "qlora", r=recipe.r, target_modules=recipe.target_modules,
        micro_batch=recipe.per_device_train_batch_size, seq_len=min(tokens, recipe.max_length),
        gradient_checkpointing=bool(recipe.gradient_checkpointing), lora_dropout=recipe.lora_dropout,
        optimizer="adamw_8bit" if "8bit" in recipe.optim and device != "cpu" else "adamw", fused_loss=True,
        attention="eager" if recipe.attn_implementation == "eager" else "flash",
        gradient_accumulation=recipe.gradient_accumulation_steps > 1,
    )  # fmt: skip


@dataclass(frozen=True)
class RunPlan:
    """A run that was not made.

    Attributes:
        recipe: what would be trained.
        size: the adapter, counted.
        memory: estimated peak of a training step, a :class:`lorakit_helpers.memory.MemoryEstimate`.
        updates: optimizer updates.
        rates: learning rate of every update.
        tokens: that would be read in training, padding not counted.
        seconds: estimated from a measured speed, or None without one.
    """

    recipe: Recipe
    size: AdapterSize
    memory: object = field(repr=False)
    updates: int
    rates: np.ndarray = field(repr=False)
    tokens: int
    seconds: float | None

    def __str__(self):
        r = self.recipe
        time = "" if self.seconds is None else f", about {self.seconds:.0f} s at the measured speed"
        updates = f"{self.updates} update{'' if self.updates == 1 else 's'}"
        return (
            f"{self.size.trainable_params:,} trainable parameters ({self.size.trainable_share:.2%}), update scaled by "
            f"{r.scaling:g}; about {self.memory.needed_gib:.2f} GiB; {updates} of {r.examples_per_step} rows, "
            f"learning rate up to {self.rates.max():.2g}, {self.rates.mean():.2g} on average{time}."
        )


def plan_run(
    recipe: Recipe, lengths: Sequence[int], shape, *, device: str = "cuda", tokens_per_s: float | None = None
) -> RunPlan:
    """Count and estimate a run.

    The time is tokens over speed: the speed was measured with one recipe, and other ranks, targets and batch sizes are a
    little faster or slower.

    Args:
        recipe: what is trained.
        lengths: tokens of every training row.
        shape: the base model's :class:`lorakit_helpers.memory.ModelShape`.
        device: see :func:`setup_of`.
        tokens_per_s: measured in training.

    Raises:
        LorakitError: when there are no rows, for an unknown target, or a rank above a layer's size.
    """
    updates, kept = update_count(len(lengths), recipe), np.minimum(lengths, recipe.max_length)
    tokens = round(float(kept.mean()) * updates * recipe.examples_per_step)
    if recipe.max_steps < 1:
        tokens = round(float(kept.sum()) * recipe.num_train_epochs)
    from .memory import estimate

    return RunPlan(
        recipe, adapter_size(shape, recipe.r, recipe.target_modules),
        estimate(shape, setup_of(recipe, int(kept.max()), device)), updates, learning_rates(recipe, updates), tokens,
        tokens / tokens_per_s if tokens_per_s else None,
    )  # fmt: skip
