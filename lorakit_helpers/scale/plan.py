"""What a job would do, found out before anything is trained: rows linted, mask checked, memory estimated."""

import math
import os
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path

from ..errors import LorakitError
from ..hardware import Hardware, detect, why_no_gpu
from ..memory import MemoryEstimate, ModelShape, TrainSetup, estimate, find_model, plan
from ..memory.estimate import CONTEXT_GIB
from ..profiles import get_profile
from .hub import find_base
from .job import Job
from .jobdata import job_rows

__all__ = ["JobPlan", "TooLargeError", "check_device", "check_engine", "check_output", "memory_setup", "plan_job"]


class TooLargeError(LorakitError):
    """The training would not fit in memory."""


@dataclass(frozen=True)
class JobPlan:
    """A job that passed every check there is before the model is loaded.

    Attributes:
        base: folder or Hub name of the base model.
        rows, validation: training rows, and rows to measure the loss on.
        steps: optimizer updates.
        tokens: of all training rows, padding not counted.
        trained_tokens: of those, how many are among the labels.
        longest: tokens of the longest row.
        memory: the closed form's estimate of a step, None for a model whose sizes are not known.
        free_gib: memory free now, of the GPU or the computer, GiB.
        warnings: what the linter and the template check warned of.
    """

    base: str
    rows: list[dict] = field(repr=False)
    validation: list[dict] = field(repr=False)
    steps: int
    tokens: int
    trained_tokens: int
    longest: int
    memory: MemoryEstimate | None
    free_gib: float
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        """For JSON: counts instead of the rows."""
        found = asdict(self) | {"rows": len(self.rows), "validation": len(self.validation), "warnings": list(self.warnings)}
        del found["memory"]
        known = self.memory.needed_gib if self.memory else None
        return found | {"memory_gib": known, "memory_how": self.memory.how if self.memory else "unknown", "seconds": None}

    def __str__(self):
        memory = f"about {self.memory.needed_gib:.2f} GiB ({self.memory.how})" if self.memory else "memory unknown"
        held = f", {len(self.validation)} more to measure the loss on" if self.validation else ""
        return (
            f"{len(self.rows)} rows{held}; {self.steps} steps; {self.trained_tokens:,} of {self.tokens:,} tokens a pass are "
            f"trained, longest row {self.longest}; {memory} of {self.free_gib:.2f} GiB free; time unknown until it has run"
        )


def plan_job(job: Job, *, log=print) -> JobPlan:
    """Everything before the training, in the order that fails soonest: device, output, rows, model, lint, mask, memory.

    Args:
        job: what to train.
        log: called with one line of text per step.

    Raises:
        TooLargeError: when a step would need more memory than is free.
        LorakitError: for a GPU profile without a GPU, an output that is something else, bad rows, a model that cannot be
            had, or a mask that trains nothing.
    """
    check_device(job)
    check_engine(job.engine)
    check_output(job.output)
    rows, validation = job_rows(job)
    base = find_base(job, log=log)
    tokenizer = _loaded("AutoTokenizer", base)
    warnings = [*_linted(job, rows, validation, tokenizer), *_template_warnings(rows[0], tokenizer, job.recipe.max_length)]
    tokens, trained, longest = _masked(rows, tokenizer, job.recipe.max_length)
    hardware = detect()
    memory = _fitting(job, base, hardware, longest)
    recipe = job.recipe
    batches = -(-len(rows) // recipe.per_device_train_batch_size)
    per_pass = -(-batches // recipe.gradient_accumulation_steps)
    steps = recipe.max_steps if recipe.max_steps > 0 else math.ceil(per_pass * recipe.num_train_epochs)
    return JobPlan(base, rows, validation, steps, tokens, trained, longest, memory, hardware.memory_free_gib, tuple(warnings))


def check_device(job: Job) -> None:
    """Refuse a GPU profile where there is no GPU, before anything is loaded."""
    if job.profile and get_profile(job.profile).device == "cuda" and detect().device != "cuda":
        raise LorakitError(
            f"profile {job.profile}", got=why_no_gpu(), expected="a CUDA GPU that torch can use",
            do="Write `profile: cpu` (or smoke, for a quick check) in the job file, or run it on the machine with the GPU.",
        )  # fmt: skip


def check_engine(engine: str) -> None:
    """Refuse Unsloth where it is not installed."""
    if engine == "unsloth" and find_spec("unsloth") is None:
        raise LorakitError(
            "engine unsloth", got="no such library here", expected="an installed one",
            do="Write `engine: plain` in the job file, or run `pip install --no-deps -r requirements/cpu.lock` (on a GPU "
            "`pip install '.[gpu]'`).",
        )  # fmt: skip


def check_output(output) -> None:
    """Refuse to replace a folder that is no adapter (the finished one takes its place whole), or one that cannot be written."""
    folder = Path(output)
    near = next(place for place in folder.absolute().parents if place.exists())
    if not near.is_dir() or not os.access(near, os.W_OK):
        raise LorakitError(
            f"output {output}", got=f"{near}, which cannot be written", expected="a place with permission to write",
            do="Choose another `output:`. Nothing was trained.",
        )  # fmt: skip
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir()) and not (folder / "adapter_config.json").is_file()):
        raise LorakitError(
            f"output {output}", got="a file" if folder.is_file() else "a folder that holds something else",
            expected="a new folder, or one with an adapter, which is replaced", do="Choose another `output:`.",
        )  # fmt: skip


def _linted(job: Job, rows, validation, tokenizer):
    """The linter's warnings, one line each."""
    from ..data import lint, token_counter

    report = lint(rows, max_length=job.recipe.max_length, count_tokens=token_counter(tokenizer), against=validation or None)
    if not report.ok:
        first = report.errors[0]
        more = f", and {len(report.errors) - 1} more errors" if len(report.errors) > 1 else ""
        shown = f" `lorakit lint {job.data}` shows all of it." if Path(job.data).is_file() else ""
        raise LorakitError(
            f"training data {job.data}", got=f"{first.rule}: {first.message}{more}", expected="no errors",
            do=f"{first.fix}{shown}",
        )  # fmt: skip
    return [f"{finding.rule}: {finding.message}" for finding in report.findings]


def _template_warnings(row, tokenizer, max_length):
    """The template's faults raise; none of its warnings concerns rows of prompt and completion."""
    from ..templates import check_template

    faults = [check for check in check_template(row, tokenizer, max_length=max_length) if check.status == "error"]
    if faults:
        raise LorakitError(f"chat template, {faults[0].name}", got=faults[0].found, expected="no fault", do=faults[0].do)
    return []


def _masked(rows, tokenizer, max_length) -> tuple[int, int, int]:
    """Tokens, trained tokens and the longest row; a row whose answer loses its end to ``max_length`` raises."""
    from ..templates import tokenize_row

    tokens = trained = longest = 0
    cut = []
    for number, row in enumerate(rows, 1):
        found = tokenize_row(row, tokenizer, max_length=max_length)
        tokens, trained, longest = tokens + len(found.ids), trained + found.n_trained, max(longest, len(found.ids))
        if found.cut_trained or found.dropped:
            cut.append((number, len(found.ids) + found.cut))
    if cut:
        raise LorakitError(
            "loss mask", expected="the end of every answer among the trained tokens",
            got=f"{len(cut)} of {len(rows)} rows longer than max_length {max_length}, the first is row {cut[0][0]}",
            do=f"Raise max_length to {max(n for _, n in cut)} or leave those rows out: cut off, they teach not to stop.",
        )  # fmt: skip
    return tokens, trained, longest


def memory_setup(job: Job, hardware: Hardware, longest: int) -> TrainSetup:
    """The job's training step in the memory model's terms.

    On a CPU the Unsloth engine unpacks its 4-bit weights to 16 bits (see ``training.unpack_on_cpu``). Unsloth's and trl's
    losses are computed in chunks; on a CPU Unsloth's is counted as if it were not.

    Args:
        job: what is trained.
        hardware: where.
        longest: tokens of the longest row; batches are padded to a multiple of 8.
    """
    from ..lab import setup_of

    recipe, cuda = job.recipe, hardware.device == "cuda"
    return setup_of(recipe, longest, "cuda" if cuda else "cpu").but(
        method="qlora" if cuda or job.engine == "plain" else "lora", seq_len=-(-min(longest, recipe.max_length) // 8) * 8,
        weights_dtype="bf16" if hardware.bf16 else ("fp16" if cuda else "fp32"), fused_loss=cuda or job.engine == "plain",
    )  # fmt: skip


def _fitting(job: Job, base: str, hardware: Hardware, longest: int) -> MemoryEstimate | None:
    """The estimate; None for a model whose sizes are not known."""
    try:
        shape = _shape(base)
    except LorakitError:
        return None
    setup = memory_setup(job, hardware, longest)
    found = estimate(shape, setup)
    # a card's free memory is read after this process made CUDA's context, which the estimate counts as well
    free = hardware.memory_free_gib + (CONTEXT_GIB if hardware.device == "cuda" else 0)
    if found.needed_gib > free:
        changes = plan(shape, free, setup).changes
        enough = bool(changes) and changes[-1].fits
        do = ("These fit it: " if enough else "Not even all of these would fit it: ") + "; ".join(
            rung.action for rung in changes
        )
        raise TooLargeError(
            f"memory for {base}", got=f"{hardware.memory_free_gib:.2f} GiB free on {hardware.name}",
            expected=f"at least {found.needed_gib:.2f} GiB ({found.how}, not measured)", do=f"{do}.",
        )  # fmt: skip
    return found


def _shape(base: str) -> ModelShape:
    if (Path(base) / "config.json").is_file():
        return ModelShape.from_config(_loaded("AutoConfig", base))
    return find_model(base).shape


def _loaded(kind: str, base: str):
    """A tokenizer or configuration by transformers' own class; what it raises, in one sentence."""
    import transformers

    try:
        return getattr(transformers, kind).from_pretrained(base)
    except Exception as error:  # transformers raises many kinds, and long ones
        raise LorakitError(
            f"base model {base}", got=f"{type(error).__name__}: {' '.join(str(error).split())[:120]}",
            expected=f"what {kind}.from_pretrained can read", do="Fetch the model again, or check the folder.",
        ) from error  # fmt: skip
