"""GPU profiles: the walkthrough's settings, room on the cards they are for, and a ladder where there is none."""

import ast
import importlib.util
import inspect
from dataclasses import replace
from pathlib import Path

import pytest

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.fit import MARGIN_GIB, answering_gib, profile_fit, recipe_setup, require_fit
from lorakit_helpers.hub import OPEN_MIRRORS
from lorakit_helpers.memory import GIB, estimate, find_gpu, find_model, simulate
from lorakit_helpers.memory.estimate import CONTEXT_GIB, SLACK
from lorakit_helpers.profiles import PROFILES

GPU = {name: profile for name, profile in PROFILES.items() if profile.device == "cuda"}
SMALLEST = {"gpu-16gb": "T4", "gpu-24gb": "A10G"}
EIGHT_B = PROFILES["gpu-24gb"].model_id


def room_gib(model_id: str, recipe, card: str) -> float:
    """What the simulated step, with the allowances beside it, leaves of a card."""
    run = simulate(find_model(model_id).shape, recipe_setup(recipe))
    return find_gpu(card).memory_gib - run.total_gib * (1 + SLACK) - CONTEXT_GIB


def test_the_24_gb_profile_has_the_walkthroughs_settings():
    recipe = PROFILES["gpu-24gb"].recipe
    assert recipe.r == recipe.lora_alpha == 32 and recipe.lora_dropout == 0.05 and len(recipe.target_modules) == 7
    assert (recipe.per_device_train_batch_size, recipe.gradient_accumulation_steps, recipe.warmup_steps) == (2, 4, 10)
    assert (recipe.num_train_epochs, recipe.learning_rate, recipe.seed, recipe.logging_steps) == (3, 2e-4, 42, 10)
    assert (recipe.optim, recipe.gradient_checkpointing, recipe.max_length) == ("adamw_8bit", "unsloth", 2048)


def test_gpu_profiles_differ_in_sizes_only():
    small, large = GPU["gpu-16gb"].recipe, GPU["gpu-24gb"].recipe
    assert replace(small, max_length=large.max_length) == large


@pytest.mark.parametrize("name", GPU)
def test_a_simulated_step_leaves_the_margin_on_the_smallest_card_of_its_size(name):
    assert room_gib(GPU[name].model_id, GPU[name].recipe, SMALLEST[name]) >= MARGIN_GIB >= 1.5
    assert profile_fit(GPU[name], find_gpu(SMALLEST[name]).memory_gib).room_gib >= MARGIN_GIB


@pytest.mark.parametrize(("card", "changes"), [("T4", {"max_length": 1024}), ("RTX 4090", {})])
def test_qlora_of_an_8b_model_trains_with_the_margin_on(card, changes):
    assert find_model(EIGHT_B).shape.total_params > 8e9
    assert room_gib(EIGHT_B, PROFILES["gpu-24gb"].recipe.but(**changes), card) >= MARGIN_GIB


def test_a_much_longer_sequence_would_not_fit_so_the_claim_can_fail():
    assert room_gib(EIGHT_B, PROFILES["gpu-24gb"].recipe.but(max_length=16_384), "T4") < MARGIN_GIB


@pytest.mark.parametrize("bf16", [False, True])
def test_a_gpu_profile_becomes_arguments_that_the_installed_trl_knows(monkeypatch, bf16):
    """A T4 has no bf16 and trains in fp16; a 4090 has it. Not run on a GPU: the arguments are only named."""
    from transformers.training_args import OptimizerNames
    from trl import SFTConfig

    from lorakit_helpers import hardware, training

    monkeypatch.setattr(hardware, "detect", lambda: hardware.Hardware("cuda", "Test", 16.0, 15.0, bf16, 8, ()))
    for profile in GPU.values():
        arguments = training.sft_arguments(profile.recipe, "x")
        assert set(arguments) <= set(inspect.signature(SFTConfig).parameters)
        assert (arguments["bf16"], arguments["fp16"], arguments["use_cpu"]) == (bf16, not bf16, False)
        assert arguments["gradient_checkpointing"] is True and OptimizerNames(arguments["optim"]) == "adamw_8bit"


def test_answering_counts_the_weights_and_the_cache_that_transformers_makes():
    import torch
    from transformers import AutoModelForCausalLM

    entry = find_model("SmolLM2-135M")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(entry.config(), dtype=torch.bfloat16)
        cache = model(input_ids=torch.zeros(3, 40, dtype=torch.long), use_cache=True).past_key_values
    held = sum(t.numel() * t.element_size() for layer in cache.layers for t in (layer.keys, layer.values))
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    assert (answering_gib("SmolLM2-135M", batch=3, tokens=40) - CONTEXT_GIB) * GIB == pytest.approx(held + weights)


def test_refusal_carries_the_ladder_and_its_last_rung_fits():
    card = 8.0
    with pytest.raises(LorakitError) as caught:
        require_fit(PROFILES["gpu-24gb"], "Small Card", card, card)
    assert "profile gpu-24gb on Small Card" in str(caught.value) and "got 8.0 GiB" in str(caught.value)
    assert "per_device_train_batch_size=1, gradient_accumulation_steps=8" in caught.value.do  # the same updates
    assert "sequences of 1024 tokens" in caught.value.do and "with these training fits" in caught.value.do
    changed = PROFILES["gpu-24gb"].recipe.but(per_device_train_batch_size=1, gradient_accumulation_steps=8, max_length=1024)
    assert changed.examples_per_step == PROFILES["gpu-24gb"].recipe.examples_per_step
    assert estimate(find_model(EIGHT_B).shape, recipe_setup(changed)).needed_gib <= card


def test_a_card_too_small_for_every_rung_is_told_so():
    with pytest.raises(LorakitError, match="even with all of these training does not fit"):
        require_fit(PROFILES["gpu-24gb"], "Tiny Card", 4.0, 4.0)


def test_a_card_where_only_training_fits_is_told_why_it_is_refused():
    fit = profile_fit(PROFILES["gpu-24gb"], find_gpu("T4").memory_gib)
    assert fit.training.fits and not fit.fits and fit.to_dict()["room_gib"] < 0
    with pytest.raises(LorakitError, match="Training alone would fit; the 16-bit model that answers"):
        require_fit(PROFILES["gpu-24gb"], "T4", 14.75, 14.5)


def test_models_of_the_gpu_profiles_are_open_mirrors_that_unsloth_itself_pairs_with_the_gated_ones():
    source = Path(importlib.util.find_spec("unsloth").origin).parent / "models" / "mapper.py"
    groups = [node for node in ast.walk(ast.parse(source.read_text())) if isinstance(node, ast.Tuple)]
    pairs = [{item.value for item in group.elts if isinstance(item, ast.Constant)} for group in groups]
    for profile in GPU.values():
        assert profile.model_id.startswith("unsloth/") and profile.model_id in OPEN_MIRRORS.values()
    for wanted, mirror in OPEN_MIRRORS.items():
        same = wanted.replace("/Llama-3.1", "/Meta-Llama-3.1")  # renamed on the Hub later
        assert any({same, mirror} <= pair for pair in pairs), (wanted, mirror)
