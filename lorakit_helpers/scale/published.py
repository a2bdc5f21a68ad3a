"""What Answer.AI measured with FSDP and QLoRA on two cards: peaks to test the sharding on, times to learn utilization from."""

import json
from dataclasses import dataclass

from ..files import project_root
from ..memory import ModelShape, TrainSetup, find_model
from .sharding import ShardedMemory, shard_memory

__all__ = ["PublishedRun", "compare_peaks", "published_runs"]

#: Yi 34B, as its published config.json states (not in the catalogue).
_YI_34B = ModelShape(7168, 20480, 60, 56, 8, 128, 64000, False)
#: What fsdp_qlora's ``lora_target_modules="all"`` means.
_TARGETS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class PublishedRun:
    """One published training on two cards.

    Attributes:
        id: of the row in ``data/published/sharded_runs.json``.
        card: "RTX 3090" or "RTX 4090", two of them, without NVLink.
        shape, setup: the model, and how it was trained, for one GPU.
        strategy, cpu_offload: how the work was shared out.
        peak_gib: the published peak in GiB (2^30 bytes).
        allocated: True when the peak is of allocated memory; else it is of reserved memory, which is more.
        seconds, examples: the time for so many examples, or None and 0 where the row is about memory only.
    """

    id: str
    card: str
    shape: ModelShape
    setup: TrainSetup
    strategy: str
    cpu_offload: bool
    peak_gib: float
    allocated: bool
    seconds: float | None
    examples: int

    @property
    def tokens_per_s(self) -> float | None:
        """Tokens a second on each of the two cards, padding none."""
        return self.examples * self.setup.seq_len / self.seconds / 2 if self.seconds else None

    def __str__(self):
        kind = "allocated" if self.allocated else "reserved"
        return f"{self.id}: {self.peak_gib:.2f} GiB {kind}" + (f", {self.seconds:,.0f} s" if self.seconds else "")


def published_runs() -> tuple[PublishedRun, ...]:
    """Every row of ``data/published/sharded_runs.json``.

    Raises:
        LorakitError: when the course folder is not there.
    """
    text = (project_root() / "data" / "published" / "sharded_runs.json").read_text(encoding="utf-8")
    return tuple(map(_run, json.loads(text)["rows"]))


def _run(row) -> PublishedRun:
    shape = _YI_34B if row["model"] == "Yi-34B" else find_model(row["model"]).shape
    setup = TrainSetup(
        method=row["method"], r=64, target_modules=_TARGETS, micro_batch=row["batch"], seq_len=row["tokens"],
        gradient_checkpointing=True, adapter_dtype="bf16", lora_dropout=0.1, attention="sdpa",
        repeated_kv=shape.num_kv_heads < shape.num_heads,
    )  # fmt: skip
    return PublishedRun(
        row["id"], row["card"], shape, setup, row["strategy"], row["cpu_offload"], row["peak_gib"], row["allocated"],
        row["seconds"], row["examples"],
    )  # fmt: skip


def compare_peaks(simulated: bool = False) -> tuple[tuple[PublishedRun, ShardedMemory, float], ...]:
    """``(run, predicted, error)`` of each row; 0.1 means that the prediction is 10 % too high.

    Predictions are of allocated memory. Only the rows with allocated peaks are compared like with like.
    """
    found = []
    for run in published_runs():
        predicted = shard_memory(run.shape, run.setup, 2, run.strategy, cpu_offload=run.cpu_offload, simulated=simulated)
        found.append((run, predicted, predicted.total_gib / run.peak_gib - 1))
    return tuple(found)
