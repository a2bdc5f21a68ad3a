"""QLoRA training on one of two engines, Unsloth or plain transformers + peft + trl, behind one call."""

import gc
import json
import os
import re
import shutil
import sys
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from .errors import LorakitError, did_you_mean
from .files import atomic_write_text, fingerprint, need_space
from .recipes import Recipe

__all__ = [
    "ENGINES", "TrainingLog", "TrainingRun", "add_lora", "build_trainer", "check_labels", "check_targets", "guard_model",
    "guard_versions", "last_checkpoint", "load_plain", "load_unsloth", "peak_memory_gib", "run_folder",
    "save_adapter", "sft_arguments", "train", "unpack_on_cpu",
]  # fmt: skip

ENGINES = ("unsloth", "plain")


def guard_versions(device: str, trl_version: str | None = None) -> None:
    """Refuse the library versions that are known to fail here.

    trl 1.15 and later send the loss of SFTTrainer through Triton kernels, which need a GPU driver.

    Raises:
        LorakitError: on a CPU with trl 1.15 or later.
    """
    found = trl_version or version("trl")
    if device == "cpu" and tuple(int(part) for part in re.findall(r"\d+", found)[:2]) >= (1, 15):
        raise LorakitError(
            "trl", got=found, expected="a version below 1.15 where there is no GPU",
            do="Run `pip install trl==1.14.0`: later ones need Triton and a GPU driver for the loss.",
        )  # fmt: skip


def guard_model(model) -> int:
    """Keep bitsandbytes from repacking 4-bit weights in an evaluation before training.

    bitsandbytes 0.50 repacks a ``Linear4bit`` weight for its AVX512-BF16 kernel in the first forward without
    gradients and never unpacks it; the backward pass then reads it in the old layout and nothing is learned.

    Returns:
        How many layers were set.
    """
    layers = [module for module in model.modules() if hasattr(module, "support_avx512bf16_for_cpu")]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


def unpack_on_cpu(model):
    """On a CPU, replace the 4-bit weights by the 16-bit values they stand for; elsewhere leave the model alone.

    A 4-bit layer unpacks its weight for every product, twice a step. A small model can keep them unpacked: the
    values, rounded to NF4 once, are the same, and so is what is learned; only the memory saving is given up.

    Returns:
        The model with ``torch.nn.Linear`` layers on a CPU, or the one given.
    """
    if model.device.type != "cpu" or not getattr(model, "is_quantized", False):
        return model
    return model.dequantize()


#: The last base model's weights after their way through NF4 and back. On a CPU that way takes longer than a few training
#: steps, and lessons train many adapters on one base in one process.
_ROUNDED: dict[tuple, tuple[dict, dict]] = {}
#: What a model that was loaded in 4 bits is known by: trl then keeps its adapters in bf16.
_MARKS = ("is_loaded_in_4bit", "is_4bit_serializable", "is_quantized", "quantization_method")


def _weights_key(path: str) -> tuple:
    """Names, sizes and times of a folder's weights; only the name for a model on the Hub."""
    files = sorted(Path(path).glob("*.safetensors"))
    return (str(path), *((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files))


def _keep_rounded(path: str, model) -> None:
    if model.device.type == "cpu" and not getattr(model, "is_quantized", False):
        weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        marks = {name: value for name, value in vars(model).items() if name in _MARKS}
        _ROUNDED.clear()
        _ROUNDED[_weights_key(path)] = (weights, marks)


def check_targets(model, recipe: Recipe) -> None:
    """Raise when the model has no linear layer of a name in ``recipe.target_modules``."""
    import torch

    linear = {name.rsplit(".", 1)[-1] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    for target in recipe.target_modules:
        if target not in linear:
            raise LorakitError(
                "recipe field target_modules", got=repr(target), expected="layers of this model: " + ", ".join(sorted(linear)),
                do=did_you_mean(target, linear, "Choose from these names.", show=repr),
            )  # fmt: skip


def sft_arguments(recipe: Recipe, output_dir, engine: str = "unsloth") -> dict:
    """The keyword arguments of trl's ``SFTConfig`` for a recipe."""
    from .hardware import detect

    hardware = detect()
    cuda = hardware.device == "cuda"
    arguments = {
        "output_dir": str(output_dir),
        "per_device_train_batch_size": recipe.per_device_train_batch_size,
        "gradient_accumulation_steps": recipe.gradient_accumulation_steps,
        "warmup_steps": recipe.warmup_steps,
        "num_train_epochs": recipe.num_train_epochs,
        "max_steps": recipe.max_steps,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.lr_scheduler_type,
        "weight_decay": recipe.weight_decay,
        "optim": recipe.optim,
        "use_cpu": not cuda,
        "bf16": hardware.bf16,
        "fp16": cuda and not hardware.bf16,
        "logging_steps": recipe.logging_steps,
        "save_steps": recipe.save_steps,
        "save_total_limit": 2,
        "seed": recipe.seed,
        "max_length": recipe.max_length,
        "pad_to_multiple_of": 8,
        "completion_only_loss": True,
        "train_sampling_strategy": "group_by_length" if recipe.group_by_length else "random",
        "gradient_checkpointing": bool(recipe.gradient_checkpointing),
        "dataloader_pin_memory": cuda,
        "padding_free": False,  # on a GPU Unsloth would switch it on by itself, and batches would have no attention mask
        "disable_tqdm": True,
        "report_to": "none",
    }
    if engine == "unsloth":
        arguments["loss_type"] = "nll"  # Unsloth's own chunked loss; trl's chunked_nll would bypass it
    return arguments


def load_unsloth(path: str, recipe: Recipe):
    """4-bit base and new LoRA adapter through Unsloth; the calls notebook 07 makes by hand.

    Returns:
        ``(model, tokenizer)``.
    """
    os.environ["UNSLOTH_CPU_COMPILE"] = str(int(recipe.torch_compile))  # read when the model is loaded
    from unsloth import FastLanguageModel

    options = {"attn_implementation": recipe.attn_implementation} if recipe.attn_implementation else {}
    rounded = _ROUNDED.get(_weights_key(path))
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=path, max_seq_length=recipe.max_length, dtype=None, load_in_4bit=rounded is None,
        use_gradient_checkpointing=recipe.gradient_checkpointing, **options,
    )  # fmt: skip
    if rounded is None:
        model = unpack_on_cpu(model)
        _keep_rounded(path, model)
    else:
        weights, marks = rounded
        for name, parameter in model.named_parameters():
            parameter.data = weights[name].clone()
        vars(model).update(marks)
    check_targets(model, recipe)
    model = FastLanguageModel.get_peft_model(
        model, r=recipe.r, target_modules=list(recipe.target_modules), lora_alpha=recipe.lora_alpha,
        lora_dropout=recipe.lora_dropout, bias="none", random_state=recipe.seed,
        use_gradient_checkpointing=recipe.gradient_checkpointing,
    )  # fmt: skip
    return model, tokenizer


def load_plain(path: str, recipe: Recipe):
    """The same with transformers, bitsandbytes and peft alone.

    Raises:
        LorakitError: when Unsloth is already imported, since it patches trl and transformers in place.
    """
    if "unsloth" in sys.modules:
        raise LorakitError(
            "plain engine", got="a process where unsloth is imported", expected="one where it is not",
            do="Restart the kernel, or run it in a process of its own: python -m lorakit_helpers.bench --engine plain.",
        )  # fmt: skip
    import torch
    from peft import prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    from .hardware import detect

    hardware = detect()
    compute = torch.bfloat16 if hardware.bf16 else (torch.float16 if hardware.device == "cuda" else torch.float32)
    options = {"attn_implementation": recipe.attn_implementation} if recipe.attn_implementation else {}
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(
        path, dtype=compute, device_map=hardware.device, **options,
        quantization_config=BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
        ),
    )  # fmt: skip
    check_targets(model, recipe)
    if recipe.gradient_checkpointing:
        model = prepare_model_for_kbit_training(model)
    model = add_lora(model, recipe)
    guard_model(model)
    return model, tokenizer


def add_lora(model, recipe: Recipe):
    """A new LoRA adapter of the recipe on a loaded model, its start from the recipe's seed; peft's ``get_peft_model``."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(recipe.seed)
    config = LoraConfig(
        r=recipe.r, lora_alpha=recipe.lora_alpha, lora_dropout=recipe.lora_dropout, bias="none",
        target_modules=list(recipe.target_modules), task_type="CAUSAL_LM",
    )  # fmt: skip
    return get_peft_model(model, config)


def build_trainer(model, tokenizer, rows: list[dict], recipe: Recipe, output_dir, engine: str = "unsloth"):
    """trl's ``SFTTrainer`` on rows of prompt and completion, with its labels checked before anything is trained."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    from .hardware import detect

    guard_versions(detect().device)
    arguments = sft_arguments(recipe, output_dir, engine)
    if detect().device == "cpu" and "8bit" in recipe.optim:
        arguments["optim"] = "adamw_torch_fused"  # the course uses 8-bit AdamW on GPUs only
    datasets.disable_progress_bars()
    dataset = datasets.Dataset.from_list(rows)
    trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=dataset, args=SFTConfig(**arguments))
    if trainer.args.fp16:  # trl makes adapters on a quantized model bf16, which fp16's gradient scaler cannot take
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    check_labels(trainer, tokenizer, rows=len(rows))
    return trainer


def check_labels(trainer, tokenizer, rows: int | None = None) -> dict:
    """Look at the rows as the trainer collates them: prompts must be masked, and the end of every answer trained.

    Args:
        trainer: trl's ``SFTTrainer``, its data set tokenized.
        tokenizer: the one whose end-of-turn token must be learned.
        rows: how many rows it was given; trl drops, without a word, those whose answer is cut off whole.

    Returns:
        ``{"tokens": …, "trained_tokens": …}`` of the first four rows, padding not counted.

    Raises:
        LorakitError: when rows were dropped, nothing is trained, everything is, or the end-of-turn token is not.
    """
    left = len(trainer.train_dataset)
    if not left or left < (rows or 0):
        raise LorakitError(
            "training rows", got=f"{left} left" + (f" of {rows}" if rows else "") + ", the others' answers were cut off whole",
            expected="every row", do=f"Raise max_length above {trainer.args.max_length} tokens, or leave long rows out.",
        )  # fmt: skip
    tokens, n, cut = 0, 0, []
    for i, (labels, count) in enumerate(collated(trainer)):
        if i < 4:
            tokens, n = tokens + count, n + int((labels != -100).sum())
        if not (labels == tokenizer.eos_token_id).any():
            cut.append(i)
    if n == 0 or n == tokens:
        raise LorakitError(
            "loss mask", got=f"{n} of {tokens} tokens trained", expected="the answer's tokens only",
            do="Give SFTTrainer rows with prompt and completion, and completion_only_loss=True.",
        )  # fmt: skip
    if cut:
        raise LorakitError(
            "loss mask", got=f"{len(cut)} of {left} answers without {tokenizer.eos_token}, row {cut[0]} (from 0) first",
            expected="the end-of-turn token among every row's labels",
            do="Without it the model never learns to stop. Raise max_length, leave long rows out, or check the chat template.",
        )  # fmt: skip
    return {"tokens": tokens, "trained_tokens": n}


def collated(trainer, at_once: int = 64):
    """Every training row as the trainer's own collator makes it: its labels, and how many tokens it has without padding."""
    data = trainer.train_dataset
    for start in range(0, len(data), at_once):
        rows = [data[i] for i in range(start, min(start + at_once, len(data)))]
        batch = trainer.data_collator(rows)
        if "attention_mask" in batch and len(batch["labels"]) == len(rows):
            yield from zip(batch["labels"], batch["attention_mask"].sum(1).tolist(), strict=True)
        else:  # without padding all rows of a batch lie end to end
            for one in (trainer.data_collator([row]) for row in rows):
                yield one["labels"][0], one["input_ids"].numel()


def peak_memory_gib() -> float:
    """Peak memory in GiB (2**30 bytes): of the GPU's allocator since a training began, or of this process's resident set."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss of a child process starts at its parent's size on Linux
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) / 2**20
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset / 2**30
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


@dataclass
class TrainingLog:
    """What a run reported, step by step; ``listeners`` are called with the log after every step.

    Attributes:
        max_steps: optimizer updates planned.
        step: updates done.
        steps, losses: logged points; a loss is the mean over the updates since the point before.
        tokens: training tokens seen (padding not counted) at the last point.
        seconds: training time so far, without set-up.
        peak_gib: peak memory in GiB, see :func:`peak_memory_gib`.
        learning_rates: at the logged points.
    """

    max_steps: int = 0
    step: int = 0
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0
    peak_gib: float = 0.0
    listeners: list = field(default_factory=list, repr=False)
    learning_rates: list[float] = field(default_factory=list, repr=False)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict:
        names = ("max_steps", "step", "steps", "losses", "tokens", "seconds", "peak_gib", "tokens_per_s")
        return {name: getattr(self, name) for name in names}

    def attach(self, trainer) -> "TrainingLog":
        """Follow ``trainer`` (and silence its own printing of every log line)."""
        from transformers import PrinterCallback, TrainerCallback

        log, started = self, [0.0]

        class Follow(TrainerCallback):
            def on_train_begin(self, args, state, control, **kwargs):
                import torch

                if torch.cuda.is_available():
                    torch.cuda.reset_peak_memory_stats()  # what came before in this process is not this run's
                log.max_steps, log.step, started[0] = state.max_steps, state.global_step, time.perf_counter()
                log.steps = [h["step"] for h in state.log_history if "loss" in h]
                log.losses = [float(h["loss"]) for h in state.log_history if "loss" in h]
                log.learning_rates = [float(h.get("learning_rate", 0)) for h in state.log_history if "loss" in h]
                log._tell()

            def on_step_end(self, args, state, control, **kwargs):
                log.step, log.seconds = state.global_step, time.perf_counter() - started[0]
                log.peak_gib = peak_memory_gib()
                log._tell()

            def on_log(self, args, state, control, logs=None, **kwargs):
                if "loss" in (logs or {}):
                    log.steps.append(state.global_step)
                    log.losses.append(float(logs["loss"]))
                    log.learning_rates.append(float(logs.get("learning_rate", 0)))
                    log.tokens = int(float(logs.get("num_tokens", 0)))
                    log._tell()

        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Follow())
        return self

    def _tell(self):
        for listener in self.listeners:
            listener(self)


@dataclass
class TrainingRun:
    """A finished training: the model with its adapter, and what the run reported."""

    model: object = field(repr=False)
    tokenizer: object = field(repr=False)
    log: TrainingLog
    recipe: Recipe
    engine: str
    resumed_from: int = 0
    key: str = ""

    def save(self, folder) -> Path:
        """Write adapter, tokenizer and recipe to ``folder``, whole or not at all."""
        return save_adapter(self.model, self.tokenizer, folder, recipe=self.recipe, log=self.log, key=self.key)


def save_adapter(
    model, tokenizer, folder, *, recipe: Recipe | None = None, log: TrainingLog | None = None, key: str | None = None
) -> Path:
    """``save_pretrained`` of adapter and tokenizer, atomically, with the recipe and log beside them.

    Args:
        key: fingerprint of all that was trained, the name of :func:`run_folder`; by it a later run knows this adapter.
    """
    from .files import atomic_folder

    folder = Path(folder)
    with atomic_folder(folder) as new:
        model.save_pretrained(new)
        tokenizer.save_pretrained(new)
        facts = {"recipe": recipe.to_dict() if recipe else None, "log": log.to_dict() if log else None, "key": key}
        atomic_write_text(new / "lorakit_run.json", json.dumps(facts, indent=1))
    return folder


def last_checkpoint(folder) -> Path | None:
    """The newest checkpoint in ``folder`` that was written to its end, or None.

    transformers writes ``trainer_state.json`` last; a checkpoint without a readable one was cut off.
    """
    found = []
    for path in Path(folder).glob("checkpoint-*"):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
            found.append((int(path.name.split("-")[1]), path))
        except (OSError, ValueError):
            continue
    return max(found)[1] if found else None


def run_folder(output_dir, recipe: Recipe, rows: list[dict], base: str, engine: str = "unsloth") -> Path:
    """Where a run's checkpoints go: named after all that is trained, so that a changed run never resumes an old one."""
    plan = {"recipe": recipe.to_dict(), "data": rows, "base": base, "engine": engine}
    return Path(output_dir) / fingerprint(plan)


def train(
    recipe: Recipe, rows: list[dict], base: str, *, engine: str = "unsloth", output_dir, resume: bool = True, listeners=(),
    callbacks=(),
) -> TrainingRun:  # fmt: skip
    """Train a new adapter, or go on where a killed run of the same recipe, data, base and engine stopped.

    The checkpoints of a run that ends are removed; save the result with :meth:`TrainingRun.save`.

    Args:
        recipe: hyperparameters.
        rows: training rows in trl's conversational prompt-completion form, ``{"prompt": messages, "completion": messages}``.
        base: folder or Hub name of the base model.
        engine: ``"unsloth"`` or ``"plain"``.
        output_dir: checkpoints go to a subfolder named after what is trained, so different runs never mix.
        resume: False starts from nothing.
        listeners: called with the :class:`TrainingLog` after every step.
        callbacks: transformers' ``TrainerCallback`` objects for the trainer.

    Raises:
        LorakitError: for an unknown engine, no rows, a target the model lacks, a bad mask, or a full disk.
    """
    if engine not in ENGINES:
        raise LorakitError("engine", got=repr(engine), expected=" or ".join(ENGINES), do="Use engine='unsloth'.")
    from peft.helpers import disable_input_dtype_casting

    if not rows:
        raise LorakitError("training data", got="no rows", expected="at least one", do="Load a split first.")
    folder = run_folder(output_dir, recipe, rows, base, engine)
    need_space(folder, 0.5, "checkpoints")
    model, tokenizer = {"unsloth": load_unsloth, "plain": load_plain}[engine](base, recipe)
    trainer = build_trainer(model, tokenizer, rows, recipe, folder, engine)
    log = TrainingLog(listeners=list(listeners)).attach(trainer)
    for callback in callbacks:
        trainer.add_callback(callback)
    once = disable_input_dtype_casting(model) if engine == "unsloth" else nullcontext()
    checkpoint = last_checkpoint(folder) if resume else None
    with warnings.catch_warnings(), once:  # bf16 autocast casts once; peft would cast to fp32 and back
        warnings.simplefilter("ignore")
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    gc.collect()
    shutil.rmtree(folder, ignore_errors=True)  # the checkpoints of a finished run have done their work
    resumed_from = int(checkpoint.name.split("-")[1]) if checkpoint else 0
    return TrainingRun(model, tokenizer, log, recipe, engine, resumed_from, folder.name)
