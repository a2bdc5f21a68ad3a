"""The closed form: sums, monotonicity, what must cost less, what fits, and bad input."""

import dataclasses
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.memory import CATALOGUE, GPUS, PROJECTIONS, TrainSetup, estimate, find_gpu, find_model, fits, plan

METHODS = ("full", "lora", "qlora")
OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit", "sgd")

shapes = st.sampled_from([entry.shape for entry in CATALOGUE.values()])
setups = st.builds(
    TrainSetup,
    method=st.sampled_from(METHODS), r=st.integers(1, 64), micro_batch=st.integers(1, 16), seq_len=st.integers(1, 4096),
    gradient_checkpointing=st.booleans(), optimizer=st.sampled_from(OPTIMIZERS),
    weights_dtype=st.sampled_from(["bf16", "fp32"]), adapter_dtype=st.sampled_from(["fp32", "bf16"]),
    double_quant=st.booleans(), fused_loss=st.booleans(),
    attention=st.sampled_from(["flash", "sdpa", "eager"]), lora_dropout=st.sampled_from([0.0, 0.05]),
    target_modules=st.sampled_from(["all-linear", ("q_proj", "v_proj"), PROJECTIONS]),
    loss_chunks=st.sampled_from([1, 8]), repeated_kv=st.booleans(), fused_qkv=st.booleans(),
    gradient_accumulation=st.booleans(), tensor_lists=st.booleans(),
)  # fmt: skip
many = settings(max_examples=150, deadline=None)


@many
@given(shapes, setups)
def test_parts_are_not_negative_and_add_up_to_the_total_and_to_the_highest_phase(shape, setup):
    found = estimate(shape, setup)
    assert all(size >= 0 for size in found.parts.values())
    assert found.total_gib == pytest.approx(sum(found.parts.values()))
    assert found.total_gib == pytest.approx(max(found.phases.values())) and found.peak_at in found.phases
    assert found.needed_gib == pytest.approx(found.total_gib + found.context_gib + found.slack_gib)


@many
@given(shapes, setups, st.sampled_from(["micro_batch", "seq_len", "r"]), st.integers(1, 64))
def test_more_of_anything_never_needs_less(shape, setup, field, more):
    larger = setup.but(**{field: getattr(setup, field) + more})
    assert estimate(shape, larger).total_gib >= estimate(shape, setup).total_gib


@many
@given(shapes, setups)
def test_checkpointing_never_needs_more(shape, setup):
    off, on = (estimate(shape, setup.but(gradient_checkpointing=again)) for again in (False, True))
    assert on.total_gib <= off.total_gib + 1e-12


@many
@given(shapes, setups)
def test_a_fused_loss_never_needs_more(shape, setup):
    setup = setup.but(loss_chunks=1)
    assert (
        estimate(shape, setup.but(fused_loss=True)).total_gib <= estimate(shape, setup.but(fused_loss=False)).total_gib * 1.001
    )


@many
@given(shapes, setups)
def test_weights_of_qlora_take_less_than_those_of_lora_and_those_as_much_as_full(shape, setup):
    full, lora, qlora = (estimate(shape, setup.but(method=method)).weights_gib for method in METHODS)
    assert qlora < lora == full


@many
@given(shapes, setups)
def test_eight_bit_states_take_less_than_sixteen_bit_ones_and_sgd_has_none(shape, setup):
    states = {name: estimate(shape, setup.but(optimizer=name, tensor_lists=False)).optimizer_gib for name in OPTIMIZERS}
    assert states["sgd"] == 0 < states["adamw_8bit"] == states["paged_adamw_8bit"] < states["adamw"]


@pytest.mark.parametrize("name", ["Llama-2-7B", "Qwen2.5-0.5B", "Gemma-2-9B"])
@pytest.mark.parametrize("targets", [("q_proj", "v_proj"), PROJECTIONS])
def test_fixed_parts_are_bytes_times_parameters(name, targets):
    """The plain arithmetic: 2 bytes a bf16 weight; fp32 adapters 4, their gradients 4, AdamW's two values 8."""
    shape = find_model(name).shape
    found = estimate(shape, TrainSetup(method="lora", r=8, target_modules=targets))
    count = sum(8 * (i + o) * shape.num_layers for n, (i, o) in shape.linear_shapes().items() if n in targets)
    assert found.weights_gib * 2**30 == 2 * shape.total_params
    assert [found.adapters_gib, found.gradients_gib, found.optimizer_gib] == pytest.approx(
        [b * count / 2**30 for b in (4, 4, 8)]
    )


@pytest.mark.parametrize(("double", "bits"), [(False, 4.5), (True, 4.127)])
def test_a_quantized_weight_takes_the_papers_bits(double, bits):
    """QLoRA, section 3: 0.5 bits a weight for the scales, 0.127 with double quantization."""
    shape = find_model("LLaMA-65B").shape
    held = estimate(shape, TrainSetup(double_quant=double)).weights_gib * 2**30
    rest = 2 * (shape.total_params - shape.linear_params)
    assert 8 * (held - rest) / shape.linear_params == pytest.approx(bits, abs=5e-4)


def test_an_estimate_takes_less_than_a_millisecond():
    shape, setup = find_model("Llama-3.1-70B").shape, TrainSetup()
    start = time.process_time()
    for _ in range(200):
        estimate(shape, setup)
    assert (time.process_time() - start) / 200 < 1e-3


# What fits -----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(shapes, setups, st.floats(1, 200))
def test_the_largest_that_fits_does_and_one_more_does_not(shape, setup, card):
    found = plan(shape, card, setup)
    assert found.fits == fits(shape, setup, card) == (found.estimate.needed_gib <= card)
    for field, largest in found.largest.items():
        if largest:
            assert fits(shape, setup.but(**{field: largest}), card)
        top = {"micro_batch": 65_536, "seq_len": 2**20}.get(field)
        if largest < (top or 1):
            assert not fits(shape, setup.but(**{field: largest + 1}), card) or (field == "r" and setup.method == "full")


@settings(max_examples=40, deadline=None)
@given(shapes, setups, st.floats(1, 200))
def test_every_rung_changes_something_and_their_savings_add_up(shape, setup, card):
    found = plan(shape, card, setup)
    assert len({rung.action for rung in found.ladder}) == len(found.ladder)
    saved = sum(rung.saves_gib for rung in found.ladder)
    last = found.ladder[-1].estimate.needed_gib
    assert found.estimate.needed_gib - saved == pytest.approx(last)
    assert found.answer is None or fits(shape, found.answer, card)
    assert bool(found.answer) == (found.fits or any(rung.fits for rung in found.ladder))


def test_the_ladder_begins_with_the_course_outlines_rungs_in_its_order():
    found = plan(find_model("Llama-3.1-8B").shape, 12, method="full", micro_batch=8, seq_len=2048)
    starts = ["batch 1", "gradient checkpointing", "sequences of 1024", "free the GPU"]
    assert [rung.action[: len(text)] for rung, text in zip(found.ladder, starts, strict=False)] == starts
    assert not found.fits and found.answer.method == "qlora" and found.changes[-1].fits


def test_the_courses_claim_llama_8b_fits_in_24_gb_with_qlora_and_not_with_full_fine_tuning():
    shape, card = find_model("Llama-3.1-8B").shape, find_gpu("RTX 3090").memory_gib
    walkthrough = TrainSetup(r=16, micro_batch=2, seq_len=2048, gradient_checkpointing=True, optimizer="adamw_8bit")
    assert fits(shape, walkthrough, card) and not fits(shape, walkthrough.but(method="full"), card)


# GPUs ----------------------------------------------------------------------------------------------------------------


def test_no_card_offers_more_than_the_number_on_its_box():
    assert all(0.9 * gpu.sold_as_gb < gpu.memory_gib <= gpu.sold_as_gb for gpu in GPUS.values())


@pytest.mark.parametrize(
    ("asked", "found"),
    [("RTX 3060", "RTX 3060 12 GB"), ("NVIDIA GeForce RTX 4090", "RTX 4090"), ("tesla t4", "T4"), ("a100 80gb", "A100 80 GB")],
)
def test_a_card_is_found_by_the_names_people_use(asked, found):
    assert find_gpu(asked).name == found


@pytest.mark.parametrize(("asked", "near"), [("RTX 3061", "RTX 3060 12 GB"), ("A100", "A100 40 GB or A100 80 GB"), ("", "GiB")])
def test_an_unknown_or_ambiguous_card_is_answered_with_the_nearest(asked, near):
    with pytest.raises(ValueError, match=near):
        find_gpu(asked)


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("method", "qlra", "Did you mean qlora"), ("optimizer", "adam8bit", "adamw_8bit"), ("attention", "flsh", "flash"),
        ("weights_dtype", "int4", "bf16"), ("adapter_dtype", None, "fp32"), ("micro_batch", 0, "from 1 to"),
        ("micro_batch", -1, "from 1 to"), ("micro_batch", 10**9, "from 1 to"), ("seq_len", 1.5, "whole number"),
        ("seq_len", 10**12, "from 1 to"), ("r", 0, "at least 1"), ("r", True, "whole number"), ("lora_dropout", 1.0, "below 1"),
        ("lora_dropout", float("nan"), "below 1"), ("target_modules", (), "module names"),
        ("target_modules", (1,), "module names"),
        ("double_quant", "yes", "True or False"), ("loss_chunks", 0, "from 1 to"),
    ],
)  # fmt: skip
def test_a_setup_that_cannot_be_says_what_was_wrong(field, value, expected):
    with pytest.raises(ValueError, match=field) as caught:
        TrainSetup(**{field: value})
    assert expected in str(caught.value) and repr(value) in str(caught.value) and isinstance(caught.value, LorakitError)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"r": 193}, "from 1 to 192"),
        ({"target_modules": ("q_porj",)}, "Did you mean q_proj"),
        ({"target_modules": "mlp"}, "one of"),
    ],
)
def test_a_setup_the_model_cannot_have_says_what_would_be_right(change, expected):
    with pytest.raises(ValueError, match=expected):
        estimate(find_model("SmolLM2-135M").shape, TrainSetup(**change))


@pytest.mark.parametrize("card", [0, -1, float("nan"), float("inf"), "24", None, True])
def test_a_card_without_memory_is_refused(card):
    with pytest.raises(ValueError, match="gpu_gib"):
        fits(find_model("SmolLM2-135M").shape, TrainSetup(), card)


def test_estimate_of_a_name_instead_of_a_shape_says_what_to_do():
    with pytest.raises(ValueError, match="find_model"):
        estimate("Llama-3.1-8B", TrainSetup())


def test_setups_and_answers_cannot_be_changed_by_accident():
    setup = TrainSetup()
    with pytest.raises(dataclasses.FrozenInstanceError):
        setup.r = 8
    with pytest.raises(TypeError):
        setup.but(rank=8)


def test_a_trained_embeddings_states_stay_in_fp32_under_8_bit_adamw():
    """transformers' Trainer tells bitsandbytes so, for every ``torch.nn.Embedding``."""
    shape, eight = find_model("Llama-3.1-8B").shape, TrainSetup(method="full", optimizer="adamw_8bit")
    embedding, scales = shape.vocab_size * shape.hidden_size, 2 * 4 / 256
    others = shape.total_params - embedding
    assert estimate(shape, eight).optimizer_gib * 2**30 == pytest.approx(8 * embedding + (2 + scales) * others)
    adapters = TrainSetup(method="lora", optimizer="adamw_8bit")
    trained = shape.trainable_params(adapters.r, shape.adapted(adapters.target_modules))
    assert estimate(shape, adapters).optimizer_gib * 2**30 == pytest.approx((2 + scales) * trained)
