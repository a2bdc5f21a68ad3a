"""Parameter counts equal the real transformers and peft classes, built without weights on torch's meta device."""

import csv
from pathlib import Path

import pytest

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.memory import CATALOGUE, PROJECTIONS, ModelShape, find_model

#: Printed counts of public repositories; the last column of each row names its source.
PRINTED = list(csv.DictReader((Path(__file__).parent / "reference" / "trainable_params.csv").open(encoding="utf-8")))
TARGETS = (("q_proj", "v_proj"), ("gate_proj", "up_proj", "down_proj"), PROJECTIONS)


def on_meta(config):
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("row", PRINTED, ids=lambda row: f"{row['model']} r={row['r']} {row['targets']}")
def test_printed_counts_are_met_exactly(row):
    sizes = [int(row[name]) for name in ("hidden", "intermediate", "layers", "heads", "kv_heads", "head_dim", "vocab")]
    family = {"attention_bias": row["model"].startswith("Qwen2.5"), "qk_norm": row["model"].startswith("Qwen3")}
    shape = ModelShape(*sizes, row["tied"] == "yes", **family)
    assert shape.total_params == int(row["total_params"])
    assert shape.trainable_params(int(row["r"]), [f"{t}_proj" for t in row["targets"].split()]) == int(row["trainable_params"])


@pytest.mark.parametrize("name", CATALOGUE)
def test_catalogue_model_has_as_many_parameters_as_the_real_class(name):
    entry = find_model(name)
    assert sum(p.numel() for p in on_meta(entry.config()).parameters()) == entry.shape.total_params
    assert ModelShape.from_config(entry.config()) == entry.shape


@pytest.mark.parametrize("name", ["SmolLM2-135M", "Llama-3.2-1B", "Qwen2.5-0.5B", "Qwen3-0.6B", "Gemma-2-2B"])
@pytest.mark.parametrize("targets", TARGETS, ids=len)
def test_trainable_parameters_equal_pefts(name, targets):
    from peft import LoraConfig, get_peft_model

    entry = find_model(name)
    model = get_peft_model(on_meta(entry.config()), LoraConfig(r=8, target_modules=list(targets)), low_cpu_mem_usage=True)
    assert model.get_nb_trainable_parameters()[0] == entry.shape.trainable_params(8, targets)


LLAMA = (4096, 11008, 32, 32, 32, 128, 32000, False)


@pytest.mark.parametrize(("place", "value"), [(0, 0), (1, -1), (2, 1.5), (4, 5), (6, 10**12)])
def test_impossible_size_is_refused_in_one_sentence(place, value):
    sizes = list(LLAMA)
    sizes[place] = value
    with pytest.raises(LorakitError, match=r"expected .*, got ") as caught:
        ModelShape(*sizes)
    assert caught.value.do


@pytest.mark.parametrize(
    ("r", "targets", "word"),
    [
        (0, ["q_proj"], "rank"),
        (4097, ["q_proj"], "4096"),
        (8, ["q_porj"], "q_proj"),
        (8, [], "target"),
        (2.0, ["q_proj"], "rank"),
    ],
)
def test_bad_rank_or_target_is_refused_and_helped(r, targets, word):
    with pytest.raises(LorakitError, match=word):
        ModelShape(*LLAMA).trainable_params(r, targets)


def test_unknown_model_is_answered_with_near_names():
    with pytest.raises(LorakitError, match=r"Llama-3\.1-8B"):
        find_model("Llama-3.1-8")
    assert find_model("llama 3.1 8b") is find_model("Llama-3.1-8B")
