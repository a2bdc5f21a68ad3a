"""Configurations for several GPUs: accelerate's file for FSDP, and accelerate's and DeepSpeed's files for ZeRO."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ..errors import LorakitError, did_you_mean
from ..files import atomic_folder
from ..memory import ModelShape, find_model

__all__ = ["LAYER_CLASSES", "ScaleConfig", "deepspeed_config", "fsdp_config", "layer_class", "write_config"]

#: The class of one decoder layer by family, transformers' ``_no_split_modules``: the unit that FSDP gathers and frees.
LAYER_CLASSES = {
    "llama": "LlamaDecoderLayer", "smollm3": "SmolLM3DecoderLayer", "mistral": "MistralDecoderLayer",
    "qwen2": "Qwen2DecoderLayer", "qwen3": "Qwen3DecoderLayer", "gemma": "GemmaDecoderLayer",
    "gemma2": "Gemma2DecoderLayer", "gemma3_text": "Gemma3DecoderLayer", "phi": "PhiDecoderLayer",
    "phi3": "Phi3DecoderLayer", "falcon": "FalconDecoderLayer", "gpt_neox": "GPTNeoXLayer",
    "stablelm": "StableLmDecoderLayer",
}  # fmt: skip

#: What DeepSpeed may move to the CPU's memory: nothing, the optimizer's state, or (stage 3) the weights as well.
OFFLOADS = ("none", "optimizer", "parameters")

_NOTES_FSDP = (
    "Train with gradient_checkpointing in the training arguments or with fsdp_activation_checkpointing here, not with both.",
    "Load the model with the keywords in load.json: FSDP shards 4-bit weights only when they are stored in a floating type, "
    "and all frozen weights of one layer must have that type. (The train.py of an exported job does not read that file.)",
    'Before saving call trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT"): with sharded ones '
    "transformers' Trainer.save_model writes no adapter, and says nothing.",
)
_NOTE_FSDP2 = (
    "accelerate ignores cpu_ram_efficient_loading for 4-bit weights under FSDP2, so each process loads them all first, and "
    "bitsandbytes must find its quantization state again on sharded weights (huggingface/accelerate#3983); version 1 is the "
    "path that PEFT documents for QLoRA."
)
_NOTES_DEEPSPEED = (
    'The values "auto" are filled in by transformers\' Trainer from the training arguments.',
    "accelerate takes the stage from DeepSpeed's own file; the same keys in accelerate.yaml would be refused.",
)


@dataclass(frozen=True)
class ScaleConfig:
    """The files of one way to train on several GPUs. Not run on a GPU here; read back by accelerate's own loader.

    Attributes:
        name: short name, for example "fsdp1-qlora".
        gpus: processes, one a GPU.
        accelerate: content of ``accelerate.yaml``.
        deepspeed: content of ``deepspeed.json``; None for FSDP.
        load: keywords for ``BitsAndBytesConfig`` and ``from_pretrained`` that must go with it.
        notes: what else must hold.
    """

    name: str
    gpus: int
    accelerate: dict
    deepspeed: dict | None = None
    load: dict = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def launch(self) -> str:
        """The command that starts training with it, from within its folder."""
        return "accelerate launch --config_file accelerate.yaml train.py"

    def files(self) -> dict[str, str]:
        """``{file name: text}``."""
        import yaml

        head = "".join(f"# {line}\n" for line in (f"{self.name}: {self.launch}", *self.notes))
        found = {"accelerate.yaml": head + yaml.safe_dump(self.accelerate, sort_keys=True)}
        if self.deepspeed is not None:
            found["deepspeed.json"] = json.dumps(self.deepspeed, indent=2) + "\n"
        if self.load:
            found["load.json"] = json.dumps(self.load, indent=2) + "\n"
        return found

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self):
        return f"{self.name} on {self.gpus} GPUs: {', '.join(self.files())}"


def layer_class(model) -> str:
    """The decoder layer's class name of a catalogue model, a ``ModelShape`` or a transformers model type.

    Raises:
        LorakitError: for an unknown model or family.

    Example:
        >>> layer_class("Llama-3.1-70B")
        'LlamaDecoderLayer'
    """
    if isinstance(model, str) and model in LAYER_CLASSES:
        return LAYER_CLASSES[model]
    return LAYER_CLASSES[(model if isinstance(model, ModelShape) else find_model(model).shape).model_type]


def fsdp_config(model, *, gpus: int = 2, version: int = 1, qlora: bool = True, cpu_offload: bool = False) -> ScaleConfig:
    """accelerate's configuration for fully sharded data parallel training of LoRA or QLoRA.

    Every process keeps 1 / gpus of each decoder layer and gathers one layer at a time. 4-bit weights are stored as bf16
    (``bnb_4bit_quant_storage``), or FSDP could not shard them.

    Args:
        model: a catalogue or Hub name, a ``ModelShape``, or a transformers model type such as "llama".
        gpus: processes, at least 2.
        version: 1 (``FullyShardedDataParallel``) or 2 (``fully_shard``).
        qlora: 4-bit base; False means 16-bit LoRA.
        cpu_offload: shards wait in the CPU's memory (slower; Answer.AI's way to 70B on two 24 GB cards).

    Raises:
        LorakitError: for a value that cannot be, naming it.

    Example:
        >>> print(fsdp_config("Llama-2-70B", gpus=2, cpu_offload=True))
        fsdp1-qlora-offload on 2 GPUs: accelerate.yaml, load.json
    """
    _check_gpus(gpus, least=2)
    _check("fsdp version", version, (1, 2), "FSDP2 is `version=2`.")
    for name, value in (("qlora", qlora), ("cpu_offload", cpu_offload)):
        _check(f"fsdp {name}", value, (True, False), "Say which.")
    settings = {
        "fsdp_version": version, "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_transformer_layer_cls_to_wrap": layer_class(model), "fsdp_offload_params": cpu_offload,
        "fsdp_state_dict_type": "SHARDED_STATE_DICT", "fsdp_cpu_ram_efficient_loading": True,
        "fsdp_activation_checkpointing": False,
    }  # fmt: skip
    if version == 1:
        settings |= {
            "fsdp_sharding_strategy": "FULL_SHARD", "fsdp_reshard_after_forward": "FULL_SHARD",
            "fsdp_backward_prefetch": "BACKWARD_PRE", "fsdp_forward_prefetch": False, "fsdp_sync_module_states": True,
            "fsdp_use_orig_params": False,
        }  # fmt: skip
    else:
        settings |= {"fsdp_reshard_after_forward": True}
    name = f"fsdp{version}-{'qlora' if qlora else 'lora'}" + "-offload" * cpu_offload
    notes = _NOTES_FSDP + ((_NOTE_FSDP2,) if version == 2 and qlora else ())
    return ScaleConfig(name, gpus, _common("FSDP", gpus) | {"fsdp_config": settings}, None, _load(qlora), notes)


def deepspeed_config(*, stage: int = 2, offload: str = "none", gpus: int = 2, qlora: bool = True) -> ScaleConfig:
    """accelerate's and DeepSpeed's configurations for ZeRO.

    Stage 2 shards gradients and optimizer state, stage 3 the weights as well (arXiv:1910.02054, section 5).

    Args:
        stage: 2 or 3.
        offload: "none", "optimizer" (its state waits in the CPU's memory) or, at stage 3, "parameters" (weights too).
        gpus: processes; one GPU is possible with offload.
        qlora: 4-bit base; False means 16-bit LoRA.

    Raises:
        LorakitError: for a value that cannot be, naming it.

    Example:
        >>> print(deepspeed_config(stage=3, offload="parameters", qlora=False))
        zero3-lora-offload-parameters on 2 GPUs: accelerate.yaml, deepspeed.json, load.json
    """
    _check("DeepSpeed stage", stage, (2, 3), "Stage 2 shards gradients and optimizer state, stage 3 the weights too.")
    _check("DeepSpeed offload", offload, OFFLOADS, did_you_mean(offload, OFFLOADS, 'For example offload="optimizer".'))
    _check("DeepSpeed qlora", qlora, (True, False), "Say which.")
    if offload == "parameters" and stage != 3:
        raise LorakitError("DeepSpeed offload", got="'parameters' at stage 2", expected="stage 3 for it",
                           do='Say stage=3, or offload="optimizer".')  # fmt: skip
    _check_gpus(gpus, least=1 if offload != "none" else 2)
    zero = {
        "stage": stage, "overlap_comm": True, "contiguous_gradients": True, "reduce_bucket_size": "auto",
    }  # fmt: skip
    if stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": "auto", "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        }  # fmt: skip
    cpu = {"device": "cpu", "pin_memory": True}
    zero |= {"offload_optimizer": cpu} if offload != "none" else {}
    zero |= {"offload_param": dict(cpu)} if offload == "parameters" else {}
    settings = {
        "train_batch_size": "auto", "train_micro_batch_size_per_gpu": "auto", "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto", "bf16": {"enabled": "auto"}, "fp16": {"enabled": "auto"}, "zero_optimization": zero,
    }  # fmt: skip
    if offload != "none":  # DeepSpeed then makes its own AdamW for the CPU; else the Trainer's optimizer is used
        values = dict.fromkeys(("lr", "betas", "eps", "weight_decay"), "auto")
        settings["optimizer"] = {"type": "AdamW", "params": values}
    plugin = {"deepspeed_config_file": "deepspeed.json", "zero3_init_flag": stage == 3}
    name = f"zero{stage}-{'qlora' if qlora else 'lora'}" + (f"-offload-{offload}" if offload != "none" else "")
    top = _common("DEEPSPEED", gpus) | {"deepspeed_config": plugin}
    return ScaleConfig(name, gpus, top, settings, _load(qlora), _NOTES_DEEPSPEED)


def write_config(config: ScaleConfig, folder) -> Path:
    """Write the files into a new or replaced folder, whole or not at all, after accelerate's loader has read them.

    Raises:
        LorakitError: when accelerate refuses them, or the folder cannot be written.
    """
    from .launching import check_config

    with atomic_folder(folder) as new:
        for name, text in config.files().items():
            (new / name).write_text(text, encoding="utf-8")
        check_config(new)
    return Path(folder)


def _common(kind, gpus) -> dict:
    return {
        "compute_environment": "LOCAL_MACHINE", "distributed_type": kind, "mixed_precision": "bf16", "num_machines": 1,
        "num_processes": gpus, "machine_rank": 0, "main_training_function": "main", "rdzv_backend": "static",
        "same_network": True, "use_cpu": False, "debug": False,
    }  # fmt: skip


def _load(qlora) -> dict:
    quantized = {
        "load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True,
        "bnb_4bit_compute_dtype": "bfloat16", "bnb_4bit_quant_storage": "bfloat16",
    }  # fmt: skip
    return {"from_pretrained": {"dtype": "bfloat16"}} | ({"BitsAndBytesConfig": quantized} if qlora else {})


def _check(what, value, allowed, do):
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in allowed):
        raise LorakitError(what, got=repr(value), expected="one of " + ", ".join(map(repr, allowed)), do=do)


def _check_gpus(gpus, least):
    if isinstance(gpus, bool) or not isinstance(gpus, int) or not least <= gpus <= 1024:
        raise LorakitError("gpus", got=repr(gpus), expected=f"a whole number from {least} to 1024", do="One process a GPU.")
