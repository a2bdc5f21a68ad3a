"""Notebook 08's prepared sweep: one knob changed at a time, several seeds, every result kept with where it came from.

As a command, which trains what is not there yet and may be stopped at any time::

    python -m lorakit_helpers.sweep [--list] [--seeds 0 1 2] [--only KNOB …]
"""

import json
import platform
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import cache
from pathlib import Path

import numpy as np

from .errors import LorakitError
from .files import atomic_write_text, fingerprint, project_root
from .recipes import PROJECTIONS, Recipe
from .rows import load_rows
from .tickets import Ticket, load_split, to_conversation

__all__ = [
    "ATTENTION", "CENTRE", "CHECK", "KNOBS", "SEEDS", "SweepPoint", "SweepResult", "read_results", "results_path", "run_point",
    "run_sweep", "sweep_points", "sweep_tickets",
]  # fmt: skip

MODEL = "SmolLM2-135M-Instruct"
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
SEEDS = (0, 1, 2)
TRAIN_ROWS, SCORE_ROWS = 64, 30
LONGEST = 20  # words; short tickets train faster, so that more settings fit into an hour

#: What every point of the sweep changes one knob of: 16 updates on 64 tickets.
CENTRE = Recipe(
    r=16, lora_alpha=16, learning_rate=2e-3, lr_scheduler_type="cosine", warmup_steps=2, max_steps=TRAIN_ROWS // 4,
    per_device_train_batch_size=4, max_length=256, attn_implementation="eager", logging_steps=1, save_steps=10_000, seed=0,
)  # fmt: skip

#: The values of each knob, in order.
KNOBS = {
    "learning_rate": (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3),
    "r": (2, 4, 8, 16, 32, 64),
    "target_modules": (ATTENTION, PROJECTIONS),
    "lora_alpha": (16, 32),
}

#: The centre cut off after four updates: quick to train again, to see whether the stored results can be trusted.
CHECK = CENTRE.but(max_steps=4)


@dataclass(frozen=True)
class SweepPoint:
    """One training to make.

    Attributes:
        knob: its name in :data:`KNOBS`, or ``"check"``.
        value: the knob's value.
        recipe: the centre with that value, and a seed. With another rank, ``lora_alpha`` is the rank: the scale stays 1.
    """

    knob: str
    value: object
    recipe: Recipe

    @property
    def key(self) -> str:
        """Fingerprint of recipe, tickets and model: equal keys are one training.

        Fields of the recipe at their defaults do not count, so that a new field does not make every stored result strange.
        """
        usual = Recipe().to_dict()
        said = {name: value for name, value in self.recipe.to_dict().items() if value != usual[name]}
        return fingerprint([said, _data_key(), MODEL])

    def __str__(self):
        value = f"{len(self.value)} targets" if isinstance(self.value, tuple) else f"{self.value:g}"
        return f"{self.knob} {value}, seed {self.recipe.seed}"


@dataclass(frozen=True)
class SweepResult:
    """One training that was made.

    Attributes:
        id: the point's key, see :attr:`SweepPoint.key`.
        recipe: as a dict.
        rows: loss of each validation ticket, nats per answer token, in the order of :func:`sweep_tickets`.
        losses: training loss of every update.
        parameters: trainable ones.
        seconds: of training.
        provenance: library versions, machine, threads and day.
    """

    id: str
    recipe: dict = field(repr=False)
    rows: tuple[float, ...] = field(repr=False)
    losses: tuple[float, ...] = field(repr=False)
    parameters: int
    seconds: float
    provenance: dict = field(repr=False)

    @property
    def loss(self) -> float:
        """Mean of the tickets' losses, nats per answer token."""
        return float(np.mean(self.rows))


@cache
def sweep_tickets() -> tuple[tuple[Ticket, ...], tuple[Ticket, ...]]:
    """The tickets that are trained on and those that are scored: the first short ones of both files."""

    def short(split, n):
        return tuple(t for t in load_split(split) if len(t.ticket.split()) <= LONGEST)[:n]

    return short("train", TRAIN_ROWS), short("validation", SCORE_ROWS)


@cache
def _data_key() -> str:
    return fingerprint([[t.id, t.ticket, t.answer] for part in sweep_tickets() for t in part])


def sweep_points(seeds: Iterable[int] = SEEDS, knobs: Iterable[str] = (*KNOBS, "check")) -> list[SweepPoint]:
    """Every point, seed by seed, so that an interrupted sweep has whole seeds. The centre belongs to every knob.

    Raises:
        LorakitError: for an unknown knob.

    Example:
        >>> len({point.key for point in sweep_points((0,))})  # 17 values, four of them the centre, and the check
        15
    """
    knobs = tuple(knobs)
    for knob in knobs:
        if knob not in (*KNOBS, "check"):
            raise LorakitError("knob", got=repr(knob), expected="one of check, " + ", ".join(KNOBS), do="Choose one of these.")
    points = []
    for seed in seeds:
        if "check" in knobs:
            points.append(SweepPoint("check", CHECK.max_steps, CHECK.but(seed=seed)))
        for knob in (k for k in KNOBS if k in knobs):
            for value in KNOBS[knob]:
                changes = {knob: value, "seed": seed} | ({"lora_alpha": value} if knob == "r" else {})
                points.append(SweepPoint(knob, value, CENTRE.but(**changes)))
    return points


def results_path() -> Path:
    """Where the results are kept: part of the course."""
    return project_root() / "data" / "lessons" / "08_sweep.jsonl"


def read_results(path=None) -> dict[str, SweepResult]:
    """The stored results by key; none when there is no file.

    Raises:
        LorakitError: with file and line for a line that is damaged, or a key that occurs twice.
    """
    path = Path(path or results_path())
    if not path.is_file() or not path.stat().st_size:
        return {}
    rows = load_rows(path, "lessons", noun="sweep result", kind="sweep")
    return {row["id"]: SweepResult(**row | {"rows": tuple(row["rows"]), "losses": tuple(row["losses"])}) for row in rows}


def run_point(recipe: Recipe, base: str, listeners=()) -> SweepResult:
    """Train one recipe on the sweep's tickets and score it on the validation tickets.

    Args:
        recipe: all of it is used as it stands.
        base: folder or Hub name of the base model.
        listeners: as for :func:`lorakit_helpers.training.train`.
    """
    import tempfile

    from .evaluation import completion_loss
    from .training import train

    train_on, score_on = ([to_conversation(t) for t in part] for part in sweep_tickets())
    with tempfile.TemporaryDirectory() as scratch:
        run = train(recipe, train_on, base, output_dir=scratch, resume=False, listeners=listeners)
    loss = completion_loss(run.model, run.tokenizer, score_on)
    parameters = sum(p.numel() for p in run.model.parameters() if p.requires_grad)
    return SweepResult(
        SweepPoint("", None, recipe).key, recipe.to_dict(), tuple(round(float(x), 5) for x in loss.per_row),
        tuple(round(x, 5) for x in run.log.losses), parameters, round(run.log.seconds, 1), _provenance(),
    )  # fmt: skip


def _provenance() -> dict:
    from importlib.metadata import version

    import torch

    from .hardware import detect

    hardware = detect()
    names = ("torch", "transformers", "peft", "trl", "unsloth", "bitsandbytes")
    return {
        "model": MODEL, "versions": {name: version(name) for name in names}, "python": platform.python_version(),
        "device": hardware.device, "bf16": hardware.bf16, "threads": torch.get_num_threads(), "day": date.today().isoformat(),
    }  # fmt: skip


def run_sweep(points: Iterable[SweepPoint], base: str, path=None, *, log=lambda line: None, run=run_point) -> int:
    """Make the points that are not stored yet; each result is stored before the next is begun.

    Two sweeps may write to one file at the same time: the file is locked, read again, and replaced whole.

    Args:
        points: what to make.
        base: folder or Hub name of the base model.
        path: of the results; None means the course's own.
        log: called with a line for each point made.
        run: makes a result from a recipe and the base.

    Returns:
        How many were made.
    """
    from filelock import FileLock

    from .files import cache_dir

    path, made = Path(path or results_path()), 0
    for point in points:
        if point.key in read_results(path):
            continue
        start = time.perf_counter()
        result = run(point.recipe, base)
        with FileLock(cache_dir() / f"{path.name}.lock"):
            found = read_results(path)
            found[result.id] = result
            lines = [json.dumps(asdict(r), ensure_ascii=False) + "\n" for r in found.values()]
            atomic_write_text(path, "".join(lines))
        made += 1
        log(f"{point}: loss {result.loss:.4f}, {time.perf_counter() - start:.0f} s")
    return made


def main(arguments: list[str] | None = None) -> None:
    """Make what is missing, or say what is."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m lorakit_helpers.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="only say what is stored and what is missing")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS), metavar="N")
    parser.add_argument("--only", nargs="+", choices=(*KNOBS, "check"), default=[*KNOBS, "check"], metavar="KNOB")
    parser.add_argument("--most", type=int, default=1_000, metavar="N", help="stop after N trainings")
    chosen = parser.parse_args(arguments)
    points, found = sweep_points(chosen.seeds, chosen.only), read_results()
    missing = list({point.key: point for point in points if point.key not in found}.values())
    print(f"{len(found)} results stored, {len(missing)} asked for and missing")
    if not chosen.list and missing:
        from .start import start

        start("auto")
        from .models import base_model

        run_sweep(missing[: chosen.most], base_model().path, log=lambda line: print(line, flush=True))


if __name__ == "__main__":
    try:
        main()
    except LorakitError as error:
        raise SystemExit(f"error: {error}") from error
    except KeyboardInterrupt:
        raise SystemExit("stopped; what was finished is stored, the same command goes on from there") from None
