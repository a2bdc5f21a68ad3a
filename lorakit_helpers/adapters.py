"""Adapters that lessons share: kept in ``outputs/adapters/``, trained once, used again while nothing they rest on changes."""

import gc
import json
import time
from dataclasses import dataclass
from pathlib import Path

from .profiles import Profile
from .recipes import Recipe
from .tickets import load_split, to_conversation

__all__ = ["ReadyAdapter", "plain_style_adapter", "quick_recipe", "ready_adapter", "tickets_adapter"]

#: Examples a stand-in for notebook 07's adapter is trained on: about a minute on 2 CPU cores.
QUICK_ROWS = 160


@dataclass(frozen=True)
class ReadyAdapter:
    """An adapter on disk.

    Attributes:
        path: its folder.
        origin: where it comes from, for the reader.
        examples: how many training examples it saw, None where the folder does not say.
        seconds: training time now; 0 when it was there already.
    """

    path: Path
    origin: str
    examples: int | None
    seconds: float

    def __str__(self):
        return f"{self.path.name}: {self.origin}"


def quick_recipe(profile: Profile, rows: int) -> Recipe:
    """The profile's recipe for one short pass over ``rows`` examples.

    The layers are not compiled: on a CPU that takes longer than so few steps save.
    """
    steps = -(-rows // profile.recipe.examples_per_step)
    if profile.recipe.max_steps > 0:
        steps = min(steps, profile.recipe.max_steps)
    return profile.recipe.but(
        max_steps=steps, warmup_steps=min(profile.recipe.warmup_steps, max(1, steps // 10)), torch_compile=False,
        logging_steps=max(1, min(profile.recipe.logging_steps, steps // 4)), save_steps=10_000,
    )  # fmt: skip


def ready_adapter(name: str, recipe: Recipe, rows: list[dict], base: str, outputs, *, listeners=()) -> ReadyAdapter:
    """The adapter ``outputs/adapters/<name>``; trained now unless the one there has this recipe, these rows and this base.

    Args:
        name: folder name.
        recipe, rows, base: as for :func:`lorakit_helpers.training.train`.
        outputs: the profile's results folder, from :func:`lorakit_helpers.start.outputs_dir`.
        listeners: called with the :class:`~lorakit_helpers.training.TrainingLog` after every step.
    """
    from .training import run_folder, train

    outputs = Path(outputs)
    folder, runs = outputs / "adapters" / name, outputs / "runs" / name
    if saved_key(folder) == run_folder(runs, recipe, rows, base).name:
        return ReadyAdapter(folder, f"trained before on {len(rows)} examples", len(rows), 0.0)
    start = time.perf_counter()
    run = train(recipe, rows, base, output_dir=runs, listeners=listeners)
    run.save(folder)
    steps = run.log.max_steps
    del run
    gc.collect()
    seconds = time.perf_counter() - start
    origin = f"trained now on {len(rows)} examples, {steps} steps in {seconds:.0f} s"
    return ReadyAdapter(folder, origin, len(rows), seconds)


def tickets_adapter(profile: Profile, base: str, outputs, *, listeners=()) -> ReadyAdapter:
    """Notebook 07's adapter where it was trained, else a stand-in trained in a minute or two on a part of the tickets.

    Args:
        profile: whose recipe and sizes hold.
        base: folder or Hub name of the base model.
        outputs: the profile's results folder.
        listeners: as for :func:`ready_adapter`.
    """
    from .training import run_folder

    folder = Path(outputs) / "adapters" / "tickets"
    tickets = load_split("train")[: profile.train_rows]
    rows = [to_conversation(ticket) for ticket in tickets]
    if saved_key(folder) == run_folder("", profile.recipe, rows, base).name:
        return ReadyAdapter(folder, f"notebook 07's adapter, trained on {len(rows)} tickets", len(rows), 0.0)
    rows = rows[:QUICK_ROWS]
    return ready_adapter("tickets-quick", quick_recipe(profile, len(rows)), rows, base, outputs, listeners=listeners)


def plain_style_adapter(profile: Profile, base: str, outputs, *, listeners=()) -> ReadyAdapter:
    """An adapter for the second task, stiff replies into plain ones, trained in a minute or two on a part of its pairs.

    Of so many pairs as a quarter of the profile's tickets, and at most :data:`QUICK_ROWS`.

    Args:
        profile, base, outputs, listeners: as for :func:`tickets_adapter`.
    """
    from . import plain_style

    rows = [plain_style.to_conversation(pair) for pair in plain_style.load_split("train")]
    rows = rows[: min(QUICK_ROWS, (profile.train_rows or 4 * QUICK_ROWS) // 4)]
    recipe = quick_recipe(profile, len(rows))
    recipe = recipe.but(max_length=max(recipe.max_length, 384))  # replies are longer than tickets
    return ready_adapter("plain-style-quick", recipe, rows, base, outputs, listeners=listeners)


def saved_key(folder) -> str | None:
    """The fingerprint of what the adapter in ``folder`` was trained from, None where there is none."""
    folder = Path(folder)
    try:
        key = json.loads((folder / "lorakit_run.json").read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError):
        return None
    return key if (folder / "adapter_model.safetensors").is_file() else None
