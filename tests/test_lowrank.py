"""Truncated SVD equals NumPy's, and the hand-written LoRA layer equals peft's."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from peft import LoraConfig, get_peft_model
from torch import nn

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.lowrank import (
    LoRALinear,
    adapter_factors,
    adapter_size,
    decompose,
    effective_rank,
    energy_curve,
    lora_scaling,
    product_singular_values,
    rank_for_energy,
    train_toy,
)
from lorakit_helpers.memory import find_model

MATRICES = arrays(np.float64, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.floats(-10, 10, width=32))


@settings(max_examples=60, deadline=None)
@given(MATRICES)
def test_error_is_the_root_of_the_discarded_squares_and_falls_with_rank(matrix):
    found, size = decompose(matrix), np.linalg.norm(matrix)
    errors = [np.linalg.norm(matrix - found.at(r)) for r in range(1, min(matrix.shape) + 1)]
    assert np.allclose(errors, [found.error(r) for r in range(1, len(errors) + 1)], atol=1e-9 * (1 + size))
    assert all(b <= a + 1e-9 * (1 + size) for a, b in pairwise(errors))
    assert errors[-1] <= 1e-9 * (1 + size)


def test_no_random_matrix_of_the_rank_comes_nearer():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(12, 9))
    best = decompose(matrix).error(3)
    for _ in range(50):
        left = rng.normal(size=(12, 3))
        assert np.linalg.norm(matrix - left @ np.linalg.lstsq(left, matrix, rcond=None)[0]) >= best


def test_energy_ranks_and_effective_rank_follow_their_formulas():
    values = np.array([3.0, 2.0, 1.0])
    assert np.allclose(energy_curve(values), np.array([0, 9, 13, 14]) / 14)  # from rank 0 on
    assert [rank_for_energy(values, share) for share in (0.5, 0.9, 0.99)] == [1, 2, 3]
    assert effective_rank(np.ones(5)) == pytest.approx(5) and effective_rank([1.0, 0.0]) == pytest.approx(1)


def test_singular_values_of_a_product_need_no_product():
    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(30, 4)), rng.normal(size=(4, 20))
    wanted = np.linalg.svd(left @ right, compute_uv=False)[:4]
    assert np.allclose(np.asarray(product_singular_values(left, right))[:4], wanted)


def pair(use_rslora=False, dropout=0.0):
    """Our layer and peft's with the same weights, B not zero."""
    torch.manual_seed(0)
    host = nn.Sequential(nn.Linear(24, 16))
    ours = LoRALinear(nn.Linear(24, 16), r=4, lora_alpha=12, lora_dropout=dropout, use_rslora=use_rslora)
    ours.base_layer.load_state_dict(host[0].state_dict())
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["0"], lora_dropout=dropout, use_rslora=use_rslora)
    theirs = get_peft_model(host, config).base_model.model[0]
    sides = [(p, getattr(theirs, n.split(".")[0])["default"].weight) for n, p in ours.named_parameters() if "lora_" in n]
    with torch.no_grad():
        for mine, other in sides:
            mine.copy_(torch.randn_like(mine))
            other.copy_(mine)
    return ours, theirs, sides


@pytest.mark.parametrize("use_rslora", [False, True])
def test_forward_gradients_and_merge_equal_pefts(use_rslora):
    ours, theirs, sides = pair(use_rslora)
    x = torch.randn(5, 24)
    assert len(sides) == 2 and torch.allclose(ours(x), theirs(x), atol=1e-6)
    for layer in (ours, theirs):
        layer(x).square().sum().backward()
    assert all(torch.allclose(mine.grad, other.grad, rtol=1e-4) for mine, other in sides)
    assert all(p.grad is None for p in ours.base_layer.parameters())
    before = ours.base_layer.weight.clone()
    ours.merge(), theirs.merge()
    assert torch.allclose(ours.base_layer.weight, theirs.base_layer.weight, atol=1e-6)
    assert not torch.allclose(ours.base_layer.weight, before)
    ours.unmerge()
    assert torch.allclose(ours.base_layer.weight, before, atol=1e-6)


def test_zero_b_leaves_base_output_unchanged_and_dropout_is_off_in_evaluation():
    base, x = nn.Linear(24, 16), torch.randn(5, 24)
    assert torch.equal(LoRALinear(base, r=4)(x), base(x))
    noisy, _, _ = pair(dropout=0.5)
    assert torch.equal(noisy.eval()(x), noisy(x)) and not torch.equal(noisy.train()(x), noisy(x))


def test_scaling_is_alpha_over_r_or_its_root():
    assert lora_scaling(8, 16) == 0.5 and lora_scaling(8, 16, use_rslora=True) == 2
    for alpha, r in ((8, 0), (0, 8), (8, 1.5), (float("nan"), 8)):
        with pytest.raises(LorakitError):
            lora_scaling(alpha, r)


def test_toy_training_reaches_the_best_rank_and_no_further():
    short, enough = train_toy(4, target_rank=8), train_toy(8, target_rank=8)
    assert short.losses[-1] == pytest.approx(short.floor, rel=1e-2) and short.losses[-1] >= short.floor * 0.999
    assert enough.losses[-1] < 1e-3 * short.losses[-1]


def test_adapter_file_size_and_factors_are_those_of_a_saved_peft_adapter(tiny, tmp_path):
    from transformers import AutoModelForCausalLM

    from lorakit_helpers.memory import ModelShape

    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    size = adapter_size(ModelShape.from_config(model.config), 4, ("q_proj", "down_proj"))
    tuned = get_peft_model(
        model, LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    )
    tuned.save_pretrained(tmp_path)
    assert size.trainable_params == tuned.get_nb_trainable_parameters()[0]
    written = (tmp_path / "adapter_model.safetensors").stat().st_size
    assert 0 <= written - size.file_mb("fp32") * 1e6 < 20_000  # the file's header
    b, a, scaling = adapter_factors(tmp_path, "model.layers.1.self_attn.q_proj")
    layer = tuned.base_model.model.model.layers[1].self_attn.q_proj
    assert torch.allclose(scaling * b @ a, layer.get_delta_weight("default"), atol=1e-6)
    with pytest.raises(LorakitError, match="q_proj"):
        adapter_factors(tmp_path, "model.layers.1.self_attn.q_porj")


def test_the_recipes_adapter_of_an_8b_model_is_one_percent_of_it():
    size = adapter_size(find_model("Llama-3.1-8B").shape, 32)
    assert size.trainable_params == 32 * 32 * sum(i + o for i, o in find_model("Llama-3.1-8B").shape.linear_shapes().values())
    assert size.file_mb("bf16") * 2 == size.file_mb("fp32") == size.trainable_params * 4 / 1e6
