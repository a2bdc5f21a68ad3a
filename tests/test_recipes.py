"""Recipes and profiles: what can train is accepted, what cannot is refused by name."""

import dataclasses
import json
import math

import pytest

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.profiles import PROFILES, SMALL_MODEL, get_profile
from lorakit_helpers.recipes import Recipe

FIELDS = {field.name: field.default for field in dataclasses.fields(Recipe)}
NAN = float("nan")
BAD = {
    "r": (0, -1, 1.5, "16", True, None),
    "lora_alpha": (0, 2.5, None),
    "lora_dropout": (-0.1, 1, 1.0, NAN, "0.1"),
    "target_modules": ((), []),
    "learning_rate": (0, -1e-4, 1, 2.0, NAN, math.inf, "1e-4", True),
    "lr_scheduler_type": ("cosinus", "", None),
    "warmup_steps": (-1, 0.5),
    "weight_decay": (-0.01, NAN),
    "num_train_epochs": (0, -1, NAN),
    "max_steps": (0, -2, 1.5),
    "per_device_train_batch_size": (0, 1.5, True),
    "gradient_accumulation_steps": (0, None),
    "max_length": (0, 12.5),
    "gradient_checkpointing": ("yes", None, [1]),
    "logging_steps": (0,),
    "save_steps": (0, 0.5),
    "seed": (-1, None),
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in BAD.items() for value in values])
def test_value_that_cannot_train_is_named_with_a_right_example(name, value):
    with pytest.raises(LorakitError) as caught:
        Recipe(**{name: value})
    shown = () if name == "target_modules" else value
    assert f"recipe field {name}:" in str(caught.value) and f"got {shown!r}" in str(caught.value)
    assert f"{name}={FIELDS[name]!r}" in caught.value.do


@pytest.mark.parametrize(
    ("name", "value"),
    [("r", 1), ("lora_dropout", 0), ("lora_dropout", 0.99), ("max_steps", 1), ("max_steps", -1), ("warmup_steps", 0),
     ("num_train_epochs", 0.1), ("seed", 0), ("gradient_checkpointing", "unsloth"), ("learning_rate", 0.999)],
)  # fmt: skip
def test_values_on_the_edge_are_accepted(name, value):
    assert getattr(Recipe(**{name: value}), name) == value


@pytest.mark.parametrize(("r", "alpha"), [(1, 1), (8, 16), (64, 16), (3, 7)])
def test_scaling_is_alpha_over_r(r, alpha):
    assert Recipe(r=r, lora_alpha=alpha).scaling == alpha / r


def test_examples_per_step_is_batch_times_accumulation():
    assert Recipe(per_device_train_batch_size=3, gradient_accumulation_steps=5).examples_per_step == 3 * 5


def test_but_changes_a_copy_and_checks_it():
    first = Recipe()
    second = first.but(r=4, seed=7)
    changed = {name for name in FIELDS if getattr(first, name) != getattr(second, name)}
    assert changed == {"r", "seed"} and first == Recipe()
    with pytest.raises(LorakitError, match="recipe field r:"):
        first.but(r=0)


def test_misspelt_field_is_named_with_the_known_ones():
    with pytest.raises(LorakitError, match="learning_rat:") as caught:
        Recipe().but(learning_rat=1e-4)
    assert all(name in str(caught.value) for name in FIELDS)


def test_recipe_survives_json():
    recipe = Recipe(r=8, target_modules=["q_proj", "v_proj"])
    assert Recipe(**json.loads(json.dumps(recipe.to_dict()))) == recipe
    assert set(recipe.to_dict()) == set(FIELDS)


def test_recipe_cannot_be_changed_unchecked():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Recipe().r = 0


def test_one_target_module_as_text_is_not_cut_into_letters():
    try:
        assert Recipe(target_modules="q_proj").target_modules == ("q_proj",)
    except LorakitError as error:
        assert "target_modules" in str(error)


@pytest.mark.parametrize("name", ["num_train_epochs", "weight_decay"])
def test_infinity_cannot_train(name):
    with pytest.raises(LorakitError, match=name):
        Recipe(**{name: math.inf})


def test_profiles_are_known_by_their_own_names():
    assert list(PROFILES) == ["smoke", "cpu", "gpu-16gb", "gpu-24gb"]
    for name, profile in PROFILES.items():
        assert profile.name == name and get_profile(name) is profile and profile.measured_on


@pytest.mark.parametrize(("typo", "near"), [("gpu-16", "gpu-16gb"), ("smok", "smoke"), ("CPU!", None), ("", None)])
def test_unknown_profile_is_answered_with_the_nearest(typo, near):
    with pytest.raises(LorakitError) as caught:
        get_profile(typo)
    assert repr(typo) in str(caught.value) and all(name in str(caught.value) for name in PROFILES)
    assert (f"Did you mean {near}?" if near else "Use auto") in str(caught.value)


def test_smoke_differs_from_cpu_in_sizes_only_and_does_not_compile_for_so_few_steps():
    smoke, cpu = PROFILES["smoke"], PROFILES["cpu"]
    changed = {name for name in FIELDS if getattr(smoke.recipe, name) != getattr(cpu.recipe, name)}
    assert changed <= {"max_steps", "warmup_steps", "logging_steps", "save_steps", "torch_compile"}
    assert cpu.recipe.torch_compile and not smoke.recipe.torch_compile
    assert (smoke.device, smoke.model_id) == (cpu.device, cpu.model_id) == ("cpu", SMALL_MODEL)


def test_smoke_saves_a_checkpoint_before_its_last_step():
    recipe = PROFILES["smoke"].recipe
    assert 0 < recipe.save_steps < recipe.max_steps and recipe.warmup_steps < recipe.max_steps


def test_eight_bit_adam_is_only_used_where_there_is_a_gpu():
    for profile in PROFILES.values():
        assert ("8bit" in profile.recipe.optim) == (profile.device == "cuda")
