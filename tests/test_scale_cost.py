"""Operations as PyTorch's own counter counts them, times as published runs took them, and a claim judged by them."""

import json

import pytest

from lorakit_helpers.bench import flops_per_step
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.files import project_root
from lorakit_helpers.memory import GPUS, ModelShape, TrainSetup, find_model
from lorakit_helpers.scale.claim import check_c16, judge_minutes
from lorakit_helpers.scale.cost import UTILIZATION, throughput_of, time_estimate
from lorakit_helpers.scale.operations import PEAK_TFLOPS, find_peak, token_operations
from lorakit_helpers.scale.published import published_runs

SMALL = ModelShape(256, 640, 3, 4, 2, 64, 2048, False)
LLAMA = find_model("Llama-3.1-8B").shape
SETUP = TrainSetup(r=32, seq_len=2048, gradient_checkpointing=True)


def counted_by_torch(shape, setup, loss_tokens=0):
    """Operations of one real forward and backward pass through the peft model, by name, as torch's FlopCounterMode counts.

    ``loss_tokens`` is how many of the sequence's tokens go through the output layer; 0 means all.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape.to_config(use_cache=False), attn_implementation="eager")
        if setup.method != "full":
            lora = LoraConfig(r=setup.r, target_modules=list(setup.target_modules), task_type="CAUSAL_LM")
            model = get_peft_model(model, lora)
            model.enable_input_require_grads()
        if setup.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        tokens = torch.zeros((1, setup.seq_len), dtype=torch.long)
        mask = torch.zeros((1, 1, setup.seq_len, setup.seq_len))
        positions = torch.arange(setup.seq_len)[None]
        with FlopCounterMode(display=False) as counter:
            rest = {"position_ids": positions, "logits_to_keep": loss_tokens}
            model.train()(input_ids=tokens, attention_mask=mask, **rest).logits.sum().backward()
    return {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(("method", "length"), [("lora", 64), ("lora", 512), ("full", 64)])
def test_operations_are_those_torch_counts_in_the_real_model(method, length, again):
    setup = TrainSetup(method=method, r=8, seq_len=length, gradient_checkpointing=again)
    ours = token_operations(SMALL, setup, masked=False)
    assert ours.total == pytest.approx(sum(counted_by_torch(SMALL, setup).values()) / length, rel=0.005)


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize("loss_tokens", [7, 64])
def test_the_benchmark_counts_products_with_weights_and_the_head_only_where_the_loss_is(loss_tokens, again):
    setup = TrainSetup(method="lora", r=8, seq_len=64)
    scores = counted_by_torch(SMALL, setup)["aten.bmm"]  # the only batched products, as long as the head sees every token
    counted = sum(counted_by_torch(SMALL, setup, loss_tokens).values()) - scores
    ours = flops_per_step(SMALL, setup.but(gradient_checkpointing=again), 64, loss_tokens)
    assert ours == pytest.approx(counted, rel=1e-9)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_of_tokens_with_a_loss_is_from_0_to_1(share):
    with pytest.raises(LorakitError, match="loss_share"):
        token_operations(SMALL, TrainSetup(), loss_share=share)


def test_a_causal_mask_leaves_half_of_the_attention():
    half, whole = (token_operations(LLAMA, SETUP, masked=m) for m in (True, False))
    assert whole.attention == 2 * half.attention and whole.adapters == half.adapters


def test_attention_grows_with_the_length_and_nothing_else_does():
    short, long = (token_operations(LLAMA, SETUP.but(seq_len=n)) for n in (1024, 4096))
    assert long.attention == 4 * short.attention and long.frozen_forward == short.frozen_forward


def test_adapters_save_the_third_of_the_work_that_weight_gradients_are():
    full, lora = (token_operations(LLAMA, TrainSetup(method=m, r=8, seq_len=1)) for m in ("full", "lora"))
    assert lora.weight_gradients == 0 and lora.total / full.total == pytest.approx(2 / 3, rel=0.02)


def utilization(run):
    return throughput_of(run.tokens_per_s, run.shape, run.setup).utilization(find_peak(run.card).tflops)


def test_both_ends_of_the_utilization_come_from_the_published_runs():
    (row,) = json.loads((project_root() / "data" / "published" / "single_card_runs.json").read_text())["rows"]
    setup = TrainSetup(
        method="lora", r=row["r"], target_modules=row["targets"], seq_len=round(row["trained_tokens"] / row["examples"])
    )
    speed = throughput_of(row["trained_tokens"] / row["seconds"], find_model(row["model"]).shape, setup, machine=row["card"])
    alone = [utilization(run) for run in published_runs() if run.seconds and run.strategy == "ddp"]
    every = [speed.utilization(find_peak(row["card"]).tflops), *alone]
    assert (round(min(every), 2), round(max(every), 2)) == UTILIZATION


def test_published_times_on_full_batches_lie_in_the_interval():
    for run in published_runs():
        if run.seconds and run.setup.micro_batch >= 2:
            time = time_estimate(run.shape, run.setup, run.examples, run.card, gpus=2)
            assert 0.99 * time.low_hours <= run.seconds / 3600 <= time.high_hours, run.id


def test_every_card_but_two_has_a_peak_with_a_source():
    assert set(GPUS) - set(PEAK_TFLOPS) == {"P100 16 GB", "A10G"}
    assert all(peak.source and peak.tflops > 20 for peak in PEAK_TFLOPS.values())
    assert find_peak("nvidia geforce rtx 4090").tflops == 165.2
    with pytest.raises(LorakitError, match="Pass tflops= yourself"):
        find_peak("A10G")


def test_peaks_agree_with_lightnings_table_where_that_is_of_tensor_cores():
    """lightning.fabric.utilities.throughput 2.6.6 (its GeForce figures are those of the other cores)."""
    lightning = {"A100 80 GB": 312, "L4": 121, "T4": 65, "V100 16 GB": 125, "H100 80 GB": 989.4}
    assert all(PEAK_TFLOPS[card].tflops == pytest.approx(tflops, rel=0.001) for card, tflops in lightning.items())


def test_time_is_operations_over_peak_and_utilization():
    time = time_estimate(LLAMA, SETUP, 1000, "RTX 4090", epochs=2, gpus=2, utilization=(0.25, 0.5))
    assert time.tokens == 1000 * 2 * 2048 and time.provenance == "estimated"
    ideal = time.tokens * token_operations(LLAMA, SETUP).total / (2 * 165.2e12) / 3600
    assert (time.low_hours, time.high_hours) == pytest.approx((2 * ideal, 4 * ideal))


def test_cost_is_the_learners_prices_times_the_hours():
    time = time_estimate(LLAMA, SETUP, 1000, "RTX 4090", gpus=2)
    rent = time.cost(rent=0.5)
    assert (rent.low, rent.high) == pytest.approx((time.low_hours, time.high_hours))
    power = time.cost(watts=800, per_kwh=0.25)
    assert power.high == pytest.approx(0.8 * 0.25 * time.high_hours)
    assert time.cost(rent=0.5, watts=800, per_kwh=0.25).low == pytest.approx(rent.low + power.low)


@pytest.mark.parametrize("prices", [{}, {"watts": 400}, {"per_kwh": 0.3}, {"rent": 0}, {"rent": -1}, {"rent": "1"}])
def test_no_price_is_built_in(prices):
    with pytest.raises(LorakitError):
        time_estimate(LLAMA, SETUP, 10, "RTX 4090").cost(**prices)


def test_a_measured_speed_gives_the_same_models_time_as_measured_and_anothers_scaled():
    small = find_model("SmolLM2-135M").shape
    setup = TrainSetup(r=8, seq_len=128)
    speed = throughput_of(320.0, small, setup)
    same = speed.time_for(100)
    assert same.low_hours == same.high_hours == pytest.approx(100 * 128 / 320 / 3600) and same.provenance == "measured"
    other = speed.time_for(100, shape=LLAMA)
    ratio = token_operations(LLAMA, setup).total / token_operations(small, setup).total
    assert other.low_hours == pytest.approx(ratio * same.low_hours) and other.provenance == "scaled from a measurement"
    assert "measured" in str(speed)


def test_claim_c16_overlaps_what_is_computed():
    claim = check_c16()
    low, high = claim.case.time.minutes
    assert claim.verdict == "holds with a caveat" and low < 15 < 30 < high
    assert "epochs" in claim.depends_on and "24% to 72%" in claim.depends_on and "estimated" in str(claim)
    verdicts = {(case.model, case.epochs): case.verdict for case in claim.cases}
    assert verdicts["Llama-3.1-8B", 1] == claim.verdict and verdicts["Llama-3.2-1B", 1] == "out of date"


def test_claim_would_hold_or_fall_with_another_span():
    low, high = check_c16().case.time.minutes
    assert check_c16(claimed=(low, high)).verdict == "holds"
    assert check_c16(claimed=(1, low / 2)).verdict == check_c16(claimed=(2 * high, 3 * high)).verdict == "out of date"
    assert judge_minutes((10, 20), (20, 30)) == "holds with a caveat"


@pytest.mark.parametrize(
    "change",
    [{"examples": 0}, {"examples": True}, {"epochs": -1}, {"gpus": 0}, {"tflops": -5}, {"utilization": (0.5, 0.2)},
     {"utilization": (0, 1)}, {"card": "RTX 9999"}],
)  # fmt: skip
def test_what_cannot_be_is_one_sentence(change):
    arguments = {"examples": 10, "card": "RTX 4090"} | change
    with pytest.raises(LorakitError) as raised:
        time_estimate(LLAMA, SETUP, arguments.pop("examples"), arguments.pop("card"), **arguments)
    assert "\n" not in str(raised.value)
    with pytest.raises(LorakitError, match="tokens_per_s"):
        throughput_of(0, LLAMA, SETUP)
