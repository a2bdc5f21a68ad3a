"""A job as a plain script for many processes, without lorakit; and two runs compared step by step."""

import json
import math
import pprint
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from ..errors import LorakitError
from ..files import atomic_folder
from ..hardware import detect
from ..profiles import SMALL_MODEL, get_profile
from ..recipes import Recipe
from .job import Job
from .jobdata import job_rows

__all__ = ["RunComparison", "compare_runs", "share_batch", "write_script"]

_LIBRARIES = ("torch", "transformers", "peft", "trl", "accelerate", "datasets", "bitsandbytes")
_BEGIN, _END = "# --- settings\n", "# --- end of settings\n"


def share_batch(recipe: Recipe, processes: int) -> tuple[int, int]:
    """Batch size of one process and accumulation steps, so that an update has as many rows as with one process.

    Accumulation is given up first: then every process sees the very batches that one process would see one after
    another, and not even rounding differs. A smaller batch is padded to its own longest row.

    Args:
        recipe: its ``examples_per_step`` stay what they are.
        processes: how many share them.

    Raises:
        LorakitError: when the rows of an update cannot be shared out evenly.

    Example:
        >>> share_batch(Recipe(per_device_train_batch_size=4, gradient_accumulation_steps=2), 2)
        (4, 1)
        >>> share_batch(Recipe(per_device_train_batch_size=4), 2)
        (2, 1)
    """
    if not isinstance(processes, int) or isinstance(processes, bool) or not 1 <= processes <= 1024:
        raise LorakitError("processes", got=repr(processes), expected="a whole number from 1 to 1024", do="Try 2.")
    each, rest = divmod(recipe.examples_per_step, processes)
    if rest:
        raise LorakitError(
            "processes", got=processes, expected=f"a divisor of the {recipe.examples_per_step} examples of an update",
            do="Change their number, or per_device_train_batch_size or gradient_accumulation_steps in the recipe.",
        )  # fmt: skip
    batch = max(n for n in range(1, min(each, recipe.per_device_train_batch_size) + 1) if each % n == 0)
    return batch, each // batch


def write_script(job: Job, folder, *, processes: int = 2) -> Path:
    """Write ``train.py``, its data, ``accelerate_config.yaml`` and a README with the commands, into a new folder.

    The script trains as the plain engine does (:func:`lorakit_helpers.training.sft_arguments`), with the order of the rows
    made to depend on seed and epoch alone. Its GPU path was not run on a GPU.

    Args:
        job: what to train; its device is the profile's, else this machine's.
        folder: new or empty.
        processes: how many processes share every update.

    Returns:
        The folder.

    Raises:
        LorakitError: for a folder that holds something, rows that cannot be read, or a number of processes that does not
            divide the examples of an update.
    """
    folder = Path(folder)
    batch, accumulation = share_batch(job.recipe, processes)
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise LorakitError(f"folder {folder}", got="something in it", expected="a new or empty folder", do="Choose another.")
    rows, _ = job_rows(job)
    device = get_profile(job.profile).device if job.profile else detect().device
    settings = {
        "PROCESSES": processes, "BASE": _base(job), "DEVICE": device, "LOAD_IN_4BIT": True,
        "ATTENTION": job.recipe.attn_implementation, "GROUP_BY_LENGTH": job.recipe.group_by_length,
        "LORA": {name: job.to_dict()["recipe"][name] for name in ("r", "lora_alpha", "lora_dropout", "target_modules")},
        "TRAINING": _arguments(job.recipe, device, batch, accumulation),
    }  # fmt: skip
    with atomic_folder(folder) as new:
        (new / "train.py").write_text(_script(settings), encoding="utf-8")
        (new / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (new / "accelerate_config.yaml").write_text(_accelerate(processes, device), encoding="utf-8")
        (new / "README.md").write_text(_readme(job, settings, len(rows)), encoding="utf-8")
    return folder


def _base(job: Job) -> str:
    name = job.base or get_profile(job.profile).model_id
    if name == SMALL_MODEL:
        from ..models import base_model

        return base_model(log=lambda _: None).path
    return str(Path(name).expanduser().resolve()) if Path(name).expanduser().is_dir() else name


def _arguments(recipe: Recipe, device: str, batch: int, accumulation: int) -> dict:
    """The plain engine's arguments, for this device, with a line logged every step."""
    from ..hardware import _detect_cpu
    from ..training import sft_arguments

    cuda = device == "cuda"
    found = sft_arguments(recipe, "", "plain") | {
        "per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulation, "logging_steps": 1,
        "use_cpu": not cuda, "dataloader_pin_memory": cuda,
    }  # fmt: skip
    for name in ("output_dir", "train_sampling_strategy"):  # the script has its own
        del found[name]
    if cuda:  # the script asks the GPU
        found |= {"bf16": False, "fp16": False}
    else:  # a GPU of this machine's says nothing of its processor
        found |= {"bf16": _detect_cpu().bf16, "fp16": False}
        if "8bit" in recipe.optim:
            found["optim"] = "adamw_torch_fused"  # the course uses 8-bit AdamW on GPUs only
    return found


def _script(settings: dict) -> str:
    source = (Path(__file__).parent / "_standalone.py").read_text(encoding="utf-8")
    before, rest = source.split(_BEGIN)
    notes = {line.split(" = ")[0]: line.partition("  # ")[2] for line in rest.split(_END)[0].splitlines()}
    lines = []
    for name, value in settings.items():
        if notes.get(name):
            lines.append(f"# {notes[name]}")
        lines.append(f"{name} = {pprint.pformat(value, width=100, compact=True, sort_dicts=False)}")
    return before + _BEGIN + "\n".join(lines) + "\n" + _END + rest.split(_END)[1]


def _accelerate(processes: int, device: str) -> str:
    import yaml

    several = processes > 1
    config = {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": "MULTI_GPU" if several else "NO",
        "use_cpu": device == "cpu", "num_machines": 1, "num_processes": processes, "machine_rank": 0,
        "main_process_port": 0, "main_training_function": "main", "mixed_precision": "no", "rdzv_backend": "static",
        "same_network": True, "debug": False,
    }  # fmt: skip
    why = (
        "# MULTI_GPU with use_cpu: accelerate 1.15 starts several processes on one machine's CPU under this name only\n"
        "# (under MULTI_CPU it starts one, unless mpirun is there). They talk through gloo.\n"
    )
    return (why if several and device == "cpu" else "") + yaml.safe_dump(config, sort_keys=False)


def _readme(job: Job, settings: dict, rows: int) -> str:
    n, training, cuda = settings["PROCESSES"], settings["TRAINING"], settings["DEVICE"] == "cuda"
    pins = "\n".join(f"{name}=={version(name).split('+')[0]}" for name in _LIBRARIES)
    batch, accumulation = training["per_device_train_batch_size"], training["gradient_accumulation_steps"]
    backend = "NCCL, one GPU each; not yet run on a GPU" if cuda else "gloo, on the CPU"
    held_out = " The job's validation rows are not in it and are not measured." if job.validation else ""
    return f"""# {job.data}: {n} process{"es" * (n > 1)} ({backend})

`train.py` trains rank-{settings["LORA"]["r"]} LoRA on the {rows} rows of `train.jsonl` and writes `adapter/`.{held_out}

## Start it

```
torchrun --standalone --nproc_per_node {n} train.py
```

or

```
accelerate launch --config_file accelerate_config.yaml train.py
```

Any other number of processes is refused: {n} × {batch} rows × {accumulation} accumulation steps = {n * batch * accumulation}
rows an update. On a CPU, `accelerate launch --cpu --num_processes {n}` (accelerate 1.15) starts one process and says nothing.

## What it does

- Standard output has one JSON object a line, from the first process: `start`, `step` (loss, learning rate, gradient norm,
  seconds), `done`.
- Checkpoints every {training["save_steps"]} steps in `checkpoints/`. Started again after an interruption, it goes on
  from the last one that is whole. Changed settings or data begin anew.
- When a worker dies, torchrun stops the others and exits with an error. When torchrun dies, the workers stop.
- The rows of each update, the adapter's start and the loss (a mean over the answer tokens of all processes) do not depend on
  the number of processes. Rounding does, where the batch size of a process differs.

## What it needs

The libraries below, in these versions. bitsandbytes is for `LOAD_IN_4BIT`.

```
{pins}
```
"""


@dataclass(frozen=True)
class RunComparison:
    """The losses of two runs at the same steps.

    Attributes:
        steps: optimizer updates at which both logged.
        one, two: losses, nats per token.
    """

    steps: tuple[int, ...]
    one: tuple[float, ...]
    two: tuple[float, ...]

    @property
    def differences(self) -> tuple[float, ...]:
        """|two - one| / |one| at each step."""
        return tuple(abs(b - a) / abs(a) if a != b else 0.0 for a, b in zip(self.one, self.two, strict=True))

    @property
    def largest(self) -> float:
        """The largest relative difference."""
        return max(self.differences)

    def to_dict(self) -> dict:
        return asdict(self) | {"differences": list(self.differences), "largest": self.largest}

    def __str__(self):
        at = self.steps[self.differences.index(self.largest)]
        return f"{len(self.steps)} logged steps, largest relative difference {self.largest:.3%} (step {at})"


def compare_runs(one, two) -> RunComparison:
    """The losses of two runs, step by step.

    Args:
        one, two: JSON lines of ``lorakit train`` or of an exported ``train.py``, as a file or as a list of objects; of a step
            that was logged twice (before and after an interruption) the later counts. Or dicts ``{step: loss}``.

    Raises:
        LorakitError: when a run has no logged step, the steps differ, or a loss is not a finite number above 0.

    Example:
        >>> print(compare_runs({1: 2.0, 2: 1.0}, {1: 2.0, 2: 1.01}))
        2 logged steps, largest relative difference 1.000% (step 2)
    """
    first, second = _losses(one), _losses(two)
    if set(first) != set(second):
        only = sorted(set(first) ^ set(second))
        raise LorakitError(
            "runs to compare", got=f"steps that only one of them logged: {', '.join(map(str, only[:5]))}",
            expected="the same logged steps", do="Use the same max_steps and logging_steps for both.",
        )  # fmt: skip
    steps = tuple(sorted(first))
    return RunComparison(steps, tuple(first[s] for s in steps), tuple(second[s] for s in steps))


def _losses(run) -> dict[int, float]:
    if isinstance(run, str | Path):
        lines = Path(run).read_text(encoding="utf-8").splitlines()
        run = [json.loads(line) for line in lines if line.startswith("{")]
    if not isinstance(run, dict):
        run = {event["step"]: event["loss"] for event in run if event.get("event") == "step"}
    wrong = next(((s, loss) for s, loss in run.items() if not math.isfinite(loss) or loss <= 0), None)
    if not run or wrong:
        raise LorakitError(
            "run to compare", got=f"loss {wrong[1]} at step {wrong[0]}" if wrong else "no logged step",
            expected="a loss above 0 at every logged step", do="Did it train?",
        )  # fmt: skip
    return {int(step): float(loss) for step, loss in run.items()}
