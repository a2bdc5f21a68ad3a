"""Configurations for several GPUs are understood by accelerate's own loader, launcher and plugins."""

import json
import os

import pytest
import yaml

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.memory import CATALOGUE, find_model
from lorakit_helpers.scale.configs import LAYER_CLASSES, deepspeed_config, fsdp_config, layer_class, write_config
from lorakit_helpers.scale.launching import check_config

FSDP = [(version, qlora, offload) for version in (1, 2) for qlora in (True, False) for offload in (True, False)]
ZERO = [(2, "none"), (2, "optimizer"), (3, "none"), (3, "optimizer"), (3, "parameters")]


@pytest.mark.parametrize(("version", "qlora", "offload"), FSDP)
def test_accelerate_builds_its_fsdp_plugin_from_the_file(tmp_path, version, qlora, offload):
    from torch.distributed.fsdp import CPUOffloadPolicy, ShardingStrategy
    from torch.distributed.fsdp.wrap import transformer_auto_wrap_policy

    config = fsdp_config("Llama-2-70B", gpus=4, version=version, qlora=qlora, cpu_offload=offload)
    found = check_config(write_config(config, tmp_path / "new"))
    plugin = found.plugin
    assert (found.kind, found.processes, plugin.fsdp_version) == ("FSDP", 4, version)
    assert plugin.auto_wrap_policy is transformer_auto_wrap_policy
    assert plugin.transformer_cls_names_to_wrap == ["LlamaDecoderLayer"]
    assert found.environment["ACCELERATE_MIXED_PRECISION"] == "bf16"
    if version == 1:
        assert plugin.sharding_strategy is ShardingStrategy.FULL_SHARD and plugin.cpu_offload.offload_params is offload
    else:
        assert plugin.reshard_after_forward is True and isinstance(plugin.cpu_offload, CPUOffloadPolicy) is offload


@pytest.mark.parametrize(("stage", "offload"), ZERO)
def test_accelerate_builds_its_deepspeed_plugin_from_both_files(tmp_path, stage, offload):
    found = check_config(write_config(deepspeed_config(stage=stage, offload=offload), tmp_path / "new"))
    plugin = found.plugin
    assert (found.kind, plugin.zero_stage, plugin.zero3_init_flag) == ("DEEPSPEED", stage, stage == 3)
    assert plugin.offload_optimizer_device == ("none" if offload == "none" else "cpu")
    assert plugin.offload_param_device == ("cpu" if offload == "parameters" else "none")


def test_accelerate_refuses_what_it_does_not_know_and_we_say_so(tmp_path):
    write_config(fsdp_config("llama"), tmp_path / "new")
    path = tmp_path / "new" / "accelerate.yaml"
    path.write_text(path.read_text() + "shard_everything: true\n")
    with pytest.raises(LorakitError, match="shard_everything"):
        check_config(tmp_path / "new")


def test_a_stage_in_both_files_is_refused(tmp_path):
    write_config(deepspeed_config(stage=3), tmp_path / "new")
    path = tmp_path / "new" / "accelerate.yaml"
    found = yaml.safe_load(path.read_text())
    found["deepspeed_config"]["zero_stage"] = 2
    path.write_text(yaml.safe_dump(found))
    with pytest.raises(LorakitError, match="will be ignored"):
        check_config(tmp_path / "new")


def test_layer_classes_are_those_transformers_will_not_split():
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    firsts = {entry.shape.model_type: entry for entry in reversed(CATALOGUE.values())}
    assert set(firsts) == set(LAYER_CLASSES)
    for family, entry in firsts.items():
        assert [LAYER_CLASSES[family]] == list(MODEL_FOR_CAUSAL_LM_MAPPING[type(entry.config())]._no_split_modules), family
    assert layer_class(find_model("Qwen3-8B").shape) == layer_class("Qwen/Qwen3-8B") == layer_class("qwen3")


def test_stored_as_bf16_a_4_bit_weight_is_one_that_fsdp_can_shard():
    import torch
    from bitsandbytes.nn import Linear4bit

    load = fsdp_config("llama").load
    named = {name: getattr(torch, value) for name, value in load["BitsAndBytesConfig"].items() if value == "bfloat16"}
    layer = Linear4bit(64, 64, bias=False, quant_storage=named["bnb_4bit_quant_storage"]).to("cpu")
    assert layer.weight.is_floating_point() and layer.weight.dtype == getattr(torch, load["from_pretrained"]["dtype"])
    assert layer.weight.numel() * layer.weight.element_size() == 64 * 64 / 2
    assert not Linear4bit(64, 64, bias=False).to("cpu").weight.is_floating_point()


def test_transformers_accepts_the_keywords_for_loading():
    import torch
    from transformers import BitsAndBytesConfig

    found = BitsAndBytesConfig(**deepspeed_config(stage=3).load["BitsAndBytesConfig"])
    assert found.bnb_4bit_quant_storage is found.bnb_4bit_compute_dtype is torch.bfloat16 and found.bnb_4bit_use_double_quant
    assert "BitsAndBytesConfig" not in deepspeed_config(stage=3, qlora=False).load


def test_checking_leaves_environment_and_folder_as_they_were(tmp_path):
    before, here = dict(os.environ), os.getcwd()
    write_config(fsdp_config("llama", version=2), tmp_path / "new")
    assert dict(os.environ) == before and os.getcwd() == here


@pytest.mark.parametrize(
    "make",
    [
        lambda: fsdp_config("Llama-2-70B", gpus=1),
        lambda: fsdp_config("Llama-2-70B", gpus=True),
        lambda: fsdp_config("Llama-2-70B", version=3),
        lambda: fsdp_config("Llama-2-70B", cpu_offload="yes"),
        lambda: fsdp_config("Lama-2-70B"),
        lambda: deepspeed_config(stage=1),
        lambda: deepspeed_config(stage=2, offload="parameters"),
        lambda: deepspeed_config(stage=3, offload="disk"),
        lambda: deepspeed_config(stage=3, gpus=1),
    ],
)
def test_what_cannot_be_is_one_sentence(make):
    with pytest.raises(LorakitError) as raised:
        make()
    assert "expected" in str(raised.value) and "\n" not in str(raised.value)


def test_a_refused_configuration_leaves_the_old_folder(tmp_path):
    target = tmp_path / "new"
    write_config(deepspeed_config(), target)
    before = {p.name: p.read_text() for p in target.iterdir()}
    broken = fsdp_config("llama")
    broken.accelerate["fsdp_config"]["fsdp_auto_wrap_policy"] = "EVERYTHING"
    with pytest.raises(LorakitError):
        write_config(broken, target)
    assert {p.name: p.read_text() for p in target.iterdir()} == before and len(list(tmp_path.iterdir())) == 1
    assert json.loads(before["deepspeed.json"])["zero_optimization"]["stage"] == 2
