"""Memory on several GPUs: shares as PyTorch's own sharding and the ZeRO paper have them, peaks beside published ones."""

import statistics

import pytest

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.memory import GIB, ModelShape, TrainSetup, estimate, find_gpu, find_model
from lorakit_helpers.memory.result import MemoryEstimate
from lorakit_helpers.scale import sharding
from lorakit_helpers.scale.published import compare_peaks, published_runs
from lorakit_helpers.scale.sharding import PARTS, STRATEGIES, shard_memory

LLAMA7, LLAMA70 = find_model("Llama-2-7B").shape, find_model("Llama-2-70B").shape
SETUP = TrainSetup(r=16, seq_len=1024, micro_batch=2, gradient_checkpointing=True, adapter_dtype="bf16")
SMALL = ModelShape(256, 512, 4, 4, 2, 64, 1024, False)


@pytest.fixture
def four_ranks():
    """One process that believes to be the first of four (PyTorch's own fake process group)."""
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield 4
    dist.destroy_process_group()


def sharded_by_torch(shape, setup):
    """Bytes of this rank's shards, and of one whole layer, when PyTorch's fully_shard does it to the real peft model."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(shape.to_config(), dtype=torch.bfloat16)
    lora = LoraConfig(r=setup.r, target_modules=list(setup.target_modules), task_type="CAUSAL_LM")
    model = get_peft_model(model, lora, autocast_adapter_dtype=False).to(torch.bfloat16)
    layers = model.get_base_model().model.layers
    layer = sum(p.numel() * p.element_size() for p in layers[0].parameters())
    mesh = init_device_mesh("cpu", (4,))
    for module in layers:
        fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)
    found = {"weights": 0, "adapters": 0}
    for name, parameter in model.named_parameters():
        local = parameter.to_local()
        found["adapters" if "lora_" in name else "weights"] += local.numel() * local.element_size()
    return found, layer


def test_fsdp_shares_are_the_bytes_pytorchs_fully_shard_leaves_on_a_rank(four_ranks):
    setup = TrainSetup(method="lora", r=8, seq_len=64, adapter_dtype="bf16", gradient_checkpointing=True)
    real, layer = sharded_by_torch(SMALL, setup)
    ours = shard_memory(SMALL, setup, four_ranks, "fsdp")
    assert ours.weights_gib * GIB == pytest.approx(real["weights"], rel=0.002)  # norms are padded to whole rows
    assert ours.adapters_gib * GIB == pytest.approx(real["adapters"], rel=1e-6)
    ends = 2 * SMALL.vocab_size * SMALL.hidden_size * 2
    gradients = ours.gradients_gib * GIB * four_ranks / SMALL.num_layers
    assert ours.gathered_gib * GIB - gradients == pytest.approx(2 * layer + ends, rel=0.002)


@pytest.mark.parametrize(("strategy", "published"), [("zero2", 16.6), ("zero3", 1.9)])
def test_full_training_needs_what_the_zero_paper_prints(strategy, published):
    """arXiv:1910.02054, Figure 1: 7.5e9 parameters on 64 GPUs, 16-bit weights and gradients, K = 12 bytes of Adam."""
    shape = ModelShape(4096, 16384, 28, 32, 32, None, 8000, True)
    setup = TrainSetup(method="full", micro_batch=1, seq_len=1, gradient_checkpointing=True)
    found = shard_memory(shape, setup, 64, strategy)
    state = (found.weights_gib + found.gradients_gib + found.optimizer_gib) * GIB / shape.total_params * 7.5
    assert state == pytest.approx(published, abs=0.06)


def test_on_one_gpu_every_strategy_but_deepspeeds_is_the_plain_estimate():
    plain = estimate(LLAMA7, SETUP)
    for strategy in ("ddp", "fsdp"):
        alone = shard_memory(LLAMA7, SETUP, 1, strategy)
        assert alone.total_gib == pytest.approx(plain.total_gib) and alone.peak_at == plain.peak_at
        assert alone.logits_gib == plain.logits_gib
    master = SETUP.but(optimizer="sgd")
    fp32 = LLAMA7.trainable_params(16, LLAMA7.adapted(SETUP.target_modules)) * 4 / GIB
    assert shard_memory(LLAMA7, master, 1, "zero2").total_gib == pytest.approx(estimate(LLAMA7, master).total_gib + fp32)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_shared_parts_shrink_with_the_gpus_and_the_others_do_not(strategy):
    two, eight = (shard_memory(LLAMA7, SETUP, n, strategy) for n in (2, 8))
    for part in ("weights", "adapters", "gradients", "optimizer"):
        before, after = two.parts[part], eight.parts[part]
        assert after == pytest.approx(before / 4 if part in two.shared else before), part
    assert two.activations_gib == eight.activations_gib and two.logits_gib == eight.logits_gib
    assert two.scales_gib == eight.scales_gib > 0


def test_scales_are_no_parameters_so_nobody_shards_them():
    import torch
    from bitsandbytes.nn import Linear4bit

    layer = Linear4bit(1024, 512, bias=False, quant_storage=torch.bfloat16).to("cpu")
    assert [name for name, _ in layer.named_parameters()] == ["weight"] and not list(layer.named_buffers())
    state = layer.weight.quant_state
    held = state.absmax.nbytes + state.state2.absmax.nbytes
    ours = sharding._scales(LLAMA7, SETUP) / LLAMA7.linear_params * 1024 * 512
    assert held == pytest.approx(ours, rel=0.001) and layer.weight.nbytes == 1024 * 512 / 2


def test_peaks_agree_with_the_two_published_allocated_ones_within_two_percent():
    errors = {run.id: error for run, _, error in compare_peaks() if run.allocated}
    assert len(errors) == 2 and all(abs(error) < 0.02 for error in errors.values()), errors


def test_peaks_stay_below_every_published_reserved_one():
    """Reserved is what the allocator took from the driver: always more than what was allocated."""
    errors = [error for run, _, error in compare_peaks() if not run.allocated]
    assert len(errors) == 24 and all(-0.45 < error < 0 for error in errors)
    assert -0.35 < statistics.median(errors) < -0.15


def test_70b_on_two_24_gb_cards_needs_offload_by_the_computed_figures_too():
    """Answer.AI's claim (2024-03-06): a 70B model trains on two 24 GB cards, with the weights waiting in the CPU's memory."""
    (run,) = (r for r in published_runs() if r.id == "AAI-4090-Llama-2-70B-qlora-fsdp-offload-2x2048")
    card = find_gpu("RTX 4090").memory_gib
    with_offload = shard_memory(run.shape, run.setup, 2, "fsdp", cpu_offload=True)
    without = shard_memory(run.shape, run.setup, 2, "fsdp")
    assert with_offload.needed_gib < run.peak_gib < card < without.needed_gib
    assert shard_memory(run.shape, run.setup, 2, "ddp").total_gib > 1.5 * card
    assert with_offload.cpu_gib == pytest.approx(2 * (without.total_gib - with_offload.total_gib))


def test_offload_moves_shares_to_the_computer_and_keeps_what_is_at_work():
    here, away = (shard_memory(LLAMA70, SETUP, 4, "fsdp", cpu_offload=off) for off in (False, True))
    assert away.weights_gib == away.optimizer_gib == 0 and away.gathered_gib == here.gathered_gib > 0
    assert away.cpu_gib == pytest.approx(4 * (here.weights_gib + here.adapters_gib + here.gradients_gib + here.optimizer_gib))
    zero2 = shard_memory(LLAMA70, SETUP, 4, "zero2", cpu_offload=True)
    assert zero2.weights_gib > 30 and zero2.optimizer_gib == 0 and zero2.gradients_gib > 0


def test_a_simulated_answer_says_so_and_uses_the_simulations_peak(monkeypatch):
    parts = (3.0, 1.0, 0.5, 1.0, 2.0, 4.0)
    fake = MemoryEstimate(
        *parts, "loss", {"forward": 7.0, "loss": 11.5, "backward": 9.0, "optimizer step": 5.5}, how="simulation"
    )
    monkeypatch.setattr(sharding, "simulate", lambda shape, setup: fake)
    found = shard_memory(LLAMA7, SETUP, 2, "fsdp", simulated=True)
    assert (found.provenance, found.activations_gib, found.logits_gib, found.peak_at) == ("simulated", 2.0, 4.0, "loss")


def test_simulation_and_closed_form_agree_on_a_small_model():
    setup = TrainSetup(r=8, seq_len=256, micro_batch=2, gradient_checkpointing=True)
    closed, run = (shard_memory(SMALL, setup, 2, "fsdp", simulated=s) for s in (False, True))
    assert run.total_gib == pytest.approx(closed.total_gib, rel=0.1) and run.weights_gib == closed.weights_gib


def test_parts_add_up_and_the_line_names_units_and_origin():
    found = shard_memory(LLAMA7, SETUP, 2, "zero3")
    assert sum(found.parts.values()) == pytest.approx(found.total_gib) and tuple(found.parts) == PARTS
    assert "GiB each" in str(found) and "estimated" in str(found) and found.to_dict()["total_gib"] == found.total_gib


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((LLAMA7, SETUP, 2, "fsd"), "Did you mean fsdp"),
        ((LLAMA7, SETUP, 0, "ddp"), "from 1"),
        ((LLAMA7, SETUP, True, "ddp"), "gpus"),
    ],
)
def test_what_cannot_be_is_one_sentence(arguments, words):
    with pytest.raises(LorakitError, match=words):
        shard_memory(*arguments)
    with pytest.raises(LorakitError, match="cpu_offload"):
        shard_memory(LLAMA7, SETUP, 2, "ddp", cpu_offload=True)
