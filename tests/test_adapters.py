"""Adapters that lessons share: trained once, reused while nothing changes, 07's own preferred."""

import json
import subprocess
import sys
import textwrap

import pytest

from lorakit_helpers.adapters import QUICK_ROWS, quick_recipe, saved_key
from lorakit_helpers.files import project_root
from lorakit_helpers.profiles import PROFILES

HEAD = """
import dataclasses, sys
from lorakit_helpers.adapters import ready_adapter, tickets_adapter
from lorakit_helpers.profiles import PROFILES
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.tickets import load_split, to_conversation
from lorakit_helpers.training import train
base, out = sys.argv[1:3]
recipe = Recipe(r=2, lora_alpha=2, max_steps=2, warmup_steps=1, per_device_train_batch_size=2, logging_steps=1)
rows = [to_conversation(t) for t in load_split("train")[:4]]
"""


def child(code, *arguments) -> list[str]:
    """The lines marked RESULT. Unsloth patches trl in place, so training has a process of its own."""
    command = [sys.executable, "-c", HEAD + textwrap.dedent(code), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=project_root())
    assert done.returncode == 0, done.stderr[-2000:]
    return [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]


def test_a_quick_recipe_sees_each_row_once_and_never_trains_longer_than_the_profile():
    cpu, smoke = PROFILES["cpu"], PROFILES["smoke"]
    for rows in (1, 7, QUICK_ROWS):
        recipe = quick_recipe(cpu, rows)
        assert recipe.max_steps * recipe.examples_per_step >= rows > (recipe.max_steps - 1) * recipe.examples_per_step
        assert recipe.warmup_steps <= recipe.max_steps and not recipe.torch_compile
        assert recipe.learning_rate == cpu.recipe.learning_rate
    assert quick_recipe(smoke, QUICK_ROWS).max_steps == smoke.recipe.max_steps


@pytest.mark.parametrize("text", [None, "{", "{}", json.dumps({"key": "abc"})])
def test_a_folder_without_a_whole_adapter_has_no_key(tmp_path, text):
    if text is not None:
        (tmp_path / "lorakit_run.json").write_text(text)
    assert saved_key(tmp_path) is None


@pytest.mark.training
def test_an_adapter_is_trained_once_and_again_when_recipe_or_rows_change(tiny, tmp_path):
    out = child(
        """
        tries = [(recipe, rows), (recipe, rows), (recipe.but(seed=1), rows), (recipe.but(seed=1), rows[:3])]
        for r, data in tries:
            made = ready_adapter("a", r, data, base, out)
            print("RESULT", made.seconds > 0, (made.path / "adapter_model.safetensors").is_file(), made.examples)
        """,
        tiny, tmp_path,
    )  # fmt: skip
    assert out == ["True True 4", "False True 4", "True True 4", "True True 3"]


@pytest.mark.training
def test_notebook_07s_adapter_is_preferred_to_a_stand_in_only_while_it_fits_profile_and_base(tiny, tmp_path):
    out = child(
        """
        profile = dataclasses.replace(PROFILES["smoke"], recipe=recipe, train_rows=4)
        print("RESULT", tickets_adapter(profile, base, out).path.name)
        run = train(recipe, rows, base, output_dir=out + "/runs")
        run.save(out + "/adapters/tickets")
        print("RESULT", tickets_adapter(profile, base, out).path.name)
        print("RESULT", tickets_adapter(dataclasses.replace(profile, train_rows=3), base, out).path.name)
        """,
        tiny, tmp_path,
    )  # fmt: skip
    assert out == ["tickets-quick", "tickets", "tickets-quick"]
