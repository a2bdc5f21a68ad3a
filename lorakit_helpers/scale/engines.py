"""A recipe of the course as a configuration of Axolotl or LLaMA-Factory: what is carried over, and what is not."""

import json
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path

from ..data import detect_format, iter_rows
from ..errors import LorakitError, did_you_mean
from ..files import atomic_folder
from ..recipes import Recipe

__all__ = ["ENGINE_VERSIONS", "EngineExport", "export_axolotl", "export_llamafactory", "write_export"]

#: The releases whose published schemas the keys were checked against.
ENGINE_VERSIONS = {"axolotl": "0.19.0", "llamafactory": "0.9.5"}

_DATASET = "lorakit"  # the data set's name in LLaMA-Factory's dataset_info.json


@dataclass(frozen=True)
class EngineExport:
    """A recipe in another engine's words.

    Attributes:
        engine: "axolotl" or "llamafactory".
        values: the configuration.
        carried: ``{recipe field: the engine's keys}``.
        not_carried: ``{recipe field: why not}``; each field of the recipe is in this or in ``carried``.
        notes: where the engine does the same thing in another way.
        dataset_info: LLaMA-Factory's description of the data; empty for Axolotl.
    """

    engine: str
    values: dict
    carried: dict[str, tuple[str, ...]]
    not_carried: dict[str, str]
    notes: tuple[str, ...]
    dataset_info: dict

    @property
    def command(self) -> str:
        """The command that trains with it, from within its folder."""
        return {"axolotl": "axolotl train", "llamafactory": "llamafactory-cli train"}[self.engine] + f" {self.engine}.yaml"

    def files(self) -> dict[str, str]:
        """``{file name: text}``."""
        import yaml

        lines = [f"{self.engine} {ENGINE_VERSIONS[self.engine]}, exported from a lorakit recipe: {self.command}"]
        lines += [f"not carried over: {name}: {reason}" for name, reason in self.not_carried.items()]
        head = "".join(f"# {line}\n" for line in (*lines, *self.notes))
        found = {f"{self.engine}.yaml": head + yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True)}
        if self.dataset_info:
            found["dataset_info.json"] = json.dumps(self.dataset_info, indent=2, ensure_ascii=False) + "\n"
        return found

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self):
        left = ", ".join(self.not_carried) or "nothing"
        return f"{self.engine}: {len(self.carried)} recipe fields carried over, not: {left}"


def export_axolotl(recipe: Recipe, model: str, data, *, output_dir="outputs", precision: str = "bf16") -> EngineExport:
    """The recipe as a configuration of Axolotl, training QLoRA on the last turns of chat rows.

    Args:
        recipe: the hyperparameters.
        model: Hub name or folder of the base model.
        data: a JSON Lines file of chat messages (``{"messages": [...]}``).
        output_dir: where Axolotl puts checkpoints and adapter.
        precision: "bf16", or "fp16" for cards older than Ampere.

    Raises:
        LorakitError: for an unreadable file, another format, or an unknown precision.
    """
    path, key = _checked_data(data)
    told = {
        "r": {"lora_r": recipe.r}, "lora_alpha": {"lora_alpha": recipe.lora_alpha},
        "lora_dropout": {"lora_dropout": float(recipe.lora_dropout)},
        "target_modules": {"lora_target_modules": list(recipe.target_modules)},
        "learning_rate": {"learning_rate": recipe.learning_rate},
        "lr_scheduler_type": {"lr_scheduler": recipe.lr_scheduler_type},
        "warmup_steps": {"warmup_steps": recipe.warmup_steps}, "weight_decay": {"weight_decay": float(recipe.weight_decay)},
        "num_train_epochs": {"num_epochs": float(recipe.num_train_epochs)},
        "per_device_train_batch_size": {"micro_batch_size": recipe.per_device_train_batch_size},
        "gradient_accumulation_steps": {"gradient_accumulation_steps": recipe.gradient_accumulation_steps},
        "max_length": {"sequence_len": recipe.max_length, "excess_length_strategy": "truncate"},
        "gradient_checkpointing": {
            "gradient_checkpointing": bool(recipe.gradient_checkpointing),
            "activation_offloading": recipe.gradient_checkpointing == "unsloth",
        },
        "optim": {"optimizer": recipe.optim}, "group_by_length": {"group_by_length": recipe.group_by_length},
        "logging_steps": {"logging_steps": recipe.logging_steps}, "save_steps": {"save_steps": recipe.save_steps},
        "seed": {"seed": recipe.seed},
    }  # fmt: skip
    told |= {"max_steps": {"max_steps": recipe.max_steps}} if recipe.max_steps > 0 else {}
    if recipe.attn_implementation is not None:
        told["attn_implementation"] = {"attn_implementation": recipe.attn_implementation}
    base = {
        "base_model": _name("model", model), "adapter": "qlora", "load_in_4bit": True, "chat_template": "tokenizer_default",
        "datasets": [{
            "path": path, "ds_type": "json", "type": "chat_template", "field_messages": key,
            "roles_to_train": ["assistant"], "train_on_eos": "turn",
        }],
        "train_on_inputs": False, "sample_packing": False, "pad_to_sequence_len": False, "val_set_size": 0.0,
        "output_dir": str(output_dir), **_precision(precision),
    }  # fmt: skip
    notes = (
        *_notes(recipe, "sequence_len"),
        "NF4 with double quantization is Axolotl's own setting for adapter: qlora.",
        "conversations with several answers: Axolotl trains on each answer, the course on the last one.",
        "what the chat template puts after an end-of-turn token (in ChatML a line break) is not trained in Axolotl.",
        *(("warmup_steps of 1 becomes 2 in Axolotl.",) if recipe.warmup_steps == 1 else ()),
    )
    return _export("axolotl", recipe, base, told, notes, {})


def export_llamafactory(
    recipe: Recipe, model: str, data, *, output_dir="outputs", precision: str = "bf16", template: str | None = None
) -> EngineExport:
    """The recipe as a configuration of LLaMA-Factory, with its description of the data.

    Args:
        recipe, model, data, output_dir, precision: as for :func:`export_axolotl`.
        template: the name of one of LLaMA-Factory's templates; None reads the tokenizer's own chat template.

    Raises:
        LorakitError: as :func:`export_axolotl`.
    """
    path, key = _checked_data(data)
    told = {
        "r": {"lora_rank": recipe.r}, "lora_alpha": {"lora_alpha": recipe.lora_alpha},
        "lora_dropout": {"lora_dropout": float(recipe.lora_dropout)},
        "target_modules": {"lora_target": ",".join(recipe.target_modules)},
        "learning_rate": {"learning_rate": recipe.learning_rate},
        "lr_scheduler_type": {"lr_scheduler_type": recipe.lr_scheduler_type},
        "warmup_steps": {"warmup_steps": recipe.warmup_steps}, "weight_decay": {"weight_decay": float(recipe.weight_decay)},
        "num_train_epochs": {"num_train_epochs": float(recipe.num_train_epochs)},
        "per_device_train_batch_size": {"per_device_train_batch_size": recipe.per_device_train_batch_size},
        "gradient_accumulation_steps": {"gradient_accumulation_steps": recipe.gradient_accumulation_steps},
        "max_length": {"cutoff_len": recipe.max_length},
        "gradient_checkpointing": {
            "disable_gradient_checkpointing": not recipe.gradient_checkpointing,
            "use_unsloth_gc": recipe.gradient_checkpointing == "unsloth",
        },
        "optim": {"optim": recipe.optim},
        "group_by_length": {"train_sampling_strategy": "group_by_length" if recipe.group_by_length else "random"},
        "logging_steps": {"logging_steps": recipe.logging_steps}, "save_steps": {"save_steps": recipe.save_steps},
        "seed": {"seed": recipe.seed}, "max_steps": {"max_steps": recipe.max_steps},
    }  # fmt: skip
    attention = {"eager": "disabled", "sdpa": "sdpa", "flash_attention_2": "fa2", "flash_attention_3": "fa3"}
    if recipe.attn_implementation in attention:
        told["attn_implementation"] = {"flash_attn": attention[recipe.attn_implementation]}
    base = {
        "model_name_or_path": _name("model", model), "stage": "sft", "do_train": True, "finetuning_type": "lora",
        "quantization_method": "bnb", "quantization_bit": 4, "quantization_type": "nf4", "double_quantization": True,
        "dataset_dir": ".", "dataset": _DATASET, "mask_history": True, "train_on_prompt": False, "packing": False,
        "output_dir": str(output_dir), "report_to": "none", **_precision(precision),
    }  # fmt: skip
    base |= {"template": _name("template", template)} if template is not None else {}
    notes = (
        *_notes(recipe, "cutoff_len"),
        "cutting: LLaMA-Factory shares cutoff_len out between prompt and answer, the course cuts the end off.",
        *(("template: none named, so it is read out of the tokenizer's own chat template.",) if template is None else ()),
    )
    turns = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    info = {"file_name": path, "formatting": "sharegpt", "columns": {"messages": key}, "tags": turns | {"system_tag": "system"}}
    return _export("llamafactory", recipe, base, told, notes, {_DATASET: info})


def write_export(export: EngineExport, folder) -> Path:
    """Write the export's files into a new or replaced folder, whole or not at all."""
    with atomic_folder(folder) as new:
        for name, text in export.files().items():
            (new / name).write_text(text, encoding="utf-8")
    return Path(folder)


def _export(engine, recipe, base, told, notes, info) -> EngineExport:
    reasons = {
        "torch_compile": "in the course it compiles layers on a CPU only; off here",
        "attn_implementation": "not set in the recipe" if recipe.attn_implementation is None
        else f"{recipe.attn_implementation!r} is unknown to {engine}",
        "max_steps": "not set in the recipe; num_epochs decides",
    }  # fmt: skip
    left = {field.name: reasons[field.name] for field in fields(Recipe) if field.name not in told}
    values = dict(base)
    for pairs in told.values():
        values |= pairs
    return EngineExport(engine, values, {name: tuple(pairs) for name, pairs in told.items()}, left, notes, info)


def _notes(recipe, length) -> tuple[str, ...]:
    batch = recipe.examples_per_step
    return (
        f"{batch} examples an update on one GPU; on n GPUs n times as many, so divide the accumulation by n.",
        f"{length} counts tokens of prompt and answer together, as max_length does.",
        "seed: the same number draws other random values here; runs agree in kind, not step by step.",
    )


def _precision(name) -> dict:
    if name not in ("bf16", "fp16"):
        raise LorakitError("precision", got=repr(name), expected="bf16 or fp16",
                           do=did_you_mean(name, ("bf16", "fp16"), "Cards older than Ampere need fp16."))  # fmt: skip
    return {"bf16": name == "bf16", "fp16": name == "fp16"}


def _name(what, value) -> str:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise LorakitError(f"export, {what}", got=repr(value), expected="a name", do="Pass it as a text.")
    return str(value)


def _checked_data(path) -> tuple[str, str]:
    """The file's absolute name and the column its messages are in."""
    rows = [row for _, row in islice(iter_rows(path), 20)]
    found = detect_format(rows)
    if found.format != "messages":
        raise LorakitError(
            f"training data {path}", got=f"the format {found.format}", expected="chat messages",
            do='Convert it first: lorakit_helpers.data.convert(rows, "messages"), then write_rows.',
        )  # fmt: skip
    return str(Path(path).resolve()), "messages" if "messages" in rows[0] else "conversations"
