"""Several adapters on one base in memory: switch, take off, and what a switch costs."""

import time
from dataclasses import dataclass

import numpy as np

from ..errors import LorakitError
from ..evaluation import generate

__all__ = ["BASE", "SwitchCost", "answer_with", "switch", "switch_cost"]

#: The name that stands for no adapter at all.
BASE = "base model"


def switch(model, name: str) -> None:
    """Turn one adapter on, or all of them off, in a loaded peft model; no weight of the base is touched.

    Args:
        model: a peft model with named adapters.
        name: of an adapter, or :data:`BASE`.

    Raises:
        LorakitError: for an adapter that is not loaded.
    """
    if name == BASE:
        model.base_model.disable_adapter_layers()
        return
    if name not in model.peft_config:
        raise LorakitError(
            "adapter", got=repr(name), expected="one of " + ", ".join([BASE, *model.peft_config]),
            do="Load it first with model.load_adapter(folder, adapter_name=...).",
        )  # fmt: skip
    model.base_model.enable_adapter_layers()
    model.set_adapter(name)


def answer_with(model, tokenizer, name: str, messages: list[dict], *, max_new_tokens: int = 120) -> str:
    """One greedy answer with an adapter on, or with none."""
    switch(model, name)
    return generate(model, tokenizer, [messages], batch_size=1, max_new_tokens=max_new_tokens)[0]


@dataclass(frozen=True)
class SwitchCost:
    """What switching takes.

    Attributes:
        median_ms, worst_ms: milliseconds a switch.
        switches: how many were timed.
        adapter_mib: memory of each adapter's own weights, by name, in MiB (2**20 bytes).
        base_mib: memory of the base's weights in MiB.
    """

    median_ms: float
    worst_ms: float
    switches: int
    adapter_mib: dict[str, float]
    base_mib: float

    def __str__(self):
        sizes = ", ".join(f"{name} {mib:.1f} MiB" for name, mib in self.adapter_mib.items())
        return (
            f"a switch takes {self.median_ms:.1f} ms (worst of {self.switches}: {self.worst_ms:.1f} ms); in memory: base "
            f"{self.base_mib:.1f} MiB, {sizes}"
        )


def switch_cost(model, rounds: int = 5) -> SwitchCost:
    """Time switches through all adapters and none, and count the bytes each adapter holds."""
    names, times = [*model.peft_config, BASE], []
    for _ in range(rounds):
        for name in names:
            start = time.perf_counter()
            switch(model, name)
            times.append(1000 * (time.perf_counter() - start))
    sizes = {name: 0 for name in model.peft_config}
    base = 0
    for key, p in model.named_parameters():
        size = p.numel() * p.element_size()
        owner = next((name for name in sizes if "lora_" in key and f".{name}." in key), None)
        if owner:
            sizes[owner] += size
        else:
            base += size
    switch(model, names[0])
    mib = {name: size / 2**20 for name, size in sizes.items()}
    return SwitchCost(float(np.median(times)), max(times), len(times), mib, base / 2**20)
