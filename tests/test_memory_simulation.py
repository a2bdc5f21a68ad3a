"""The simulation against plain arithmetic, the closed form against the simulation, both against published peaks."""

import gc
import statistics
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from lorakit_helpers.files import project_root
from lorakit_helpers.memory import TrainSetup, estimate, find_model, simulate
from lorakit_helpers.memory.published import published
from lorakit_helpers.memory.report import published_rows

FAMILIES = (
    "Llama-3.1-8B", "Llama-2-7B", "Gemma-2B", "Gemma-2-2B", "Gemma-3-1B", "Phi-3-mini", "Phi-2", "Falcon-7B", "Pythia-1.4B",
    "StableLM-3B-4E1T", "Qwen2.5-0.5B", "Qwen3-0.6B", "SmolLM3-3B", "SmolLM2-135M",
)  # fmt: skip
SETUPS = {
    "qlora": TrainSetup(micro_batch=2),
    "qlora, checkpointing, fused loss": TrainSetup(micro_batch=2, gradient_checkpointing=True, fused_loss=True),
    "qlora, eager": TrainSetup(micro_batch=2, attention="eager"),
    "lora": TrainSetup(method="lora", micro_batch=2),
    "lora, fp32, dropout": TrainSetup(method="lora", micro_batch=2, weights_dtype="fp32", lora_dropout=0.1),
    "full": TrainSetup(method="full", micro_batch=2),
    "full, fp32": TrainSetup(method="full", micro_batch=2, weights_dtype="fp32"),
}


def few_layers(name, layers=3):
    """A model's own layers, few of them, and a small vocabulary: what one layer needs weighs as much as it can."""
    return replace(find_model(name).shape, num_layers=layers, vocab_size=8000)


@pytest.fixture(scope="module")
def errors():
    """The closed form's error against the simulation, by family and setup."""
    found = {}
    for name in FAMILIES:
        for label, setup in SETUPS.items():
            shape = few_layers(name)
            found[name, label] = estimate(shape, setup).total_gib / simulate(shape, setup).total_gib - 1
        gc.collect()
    return found


@pytest.mark.parametrize("label", SETUPS)
def test_closed_form_agrees_with_the_simulation_of_every_family(errors, label):
    ours = {name: error for (name, kind), error in errors.items() if kind == label}
    assert statistics.median(map(abs, ours.values())) <= 0.05 and max(map(abs, ours.values())) <= 0.06, ours


def test_closed_form_is_within_one_percent_of_the_simulation_in_the_middle(errors):
    assert statistics.median(map(abs, errors.values())) <= 0.01


@pytest.mark.parametrize(
    ("method", "optimizer"), [("full", "adamw"), ("full", "adamw_8bit"), ("lora", "adamw"), ("qlora", "adamw")]
)
def test_whole_small_model_agrees_part_by_part(method, optimizer):
    shape = find_model("SmolLM2-135M").shape
    setup = TrainSetup(method=method, micro_batch=2, seq_len=256, optimizer=optimizer)
    closed, run = estimate(shape, setup), simulate(shape, setup)
    assert run.how == "simulation" and closed.peak_at == run.peak_at == "loss"
    for part in ("weights", "adapters", "gradients", "optimizer", "logits"):
        # CUDA rounds each of 400 adapters up to 512 bytes; the closed form does not
        assert closed.parts[part] == pytest.approx(run.parts[part], rel=0.01, abs=2e-4), part
    assert closed.parts["activations"] == pytest.approx(run.parts["activations"], rel=0.02)


def test_simulation_counts_what_plain_torch_keeps_for_a_linear_layer():
    """y = relu(x @ w.T): the sum by hand of every storage that lives at each moment."""
    import torch

    from lorakit_helpers.memory._counter import Counter

    x = torch.empty(64, 128, device="meta")
    w = torch.empty(256, 128, device="meta", requires_grad=True)
    counter = Counter(vocab_size=10**9)
    for tensor in (x, w):
        counter.add(tensor)
    given = (64 * 128 + 256 * 128) * 4
    assert counter.total == given
    with counter:
        y = torch.relu(torch.nn.functional.linear(x, w))
        # the result of relu is kept; what it was made from is freed
        assert counter.total - given == 64 * 256 * 4 and counter.peak - given == 2 * 64 * 256 * 4
        y.sum().backward()
    del y
    assert counter.total - given == 256 * 128 * 4  # the gradient of w


def test_counter_frees_a_storage_only_with_its_last_view():
    import torch

    from lorakit_helpers.memory._counter import Counter

    with (counter := Counter(vocab_size=10**9)):
        whole = torch.empty(1024, device="meta")
        view = whole[:10]
        del whole
        assert counter.total == 4096
        del view
        assert counter.total == 0


def test_flash_keeps_q_k_v_out_and_logsumexp_and_eager_keeps_the_scores():
    shape = few_layers("Llama-2-7B", layers=1)
    setup = TrainSetup(seq_len=1024)
    flash, eager = (simulate(shape, setup.but(attention=kind)).activations_gib * 2**30 for kind in ("flash", "eager"))
    scores = 32 * 1024 * 1024  # heads * seq * seq: softmax in fp32 and its bf16 copy
    logsumexp, output = 32 * 1024 * 4, 1024 * 4096 * 2
    assert eager - flash == pytest.approx(scores * 6 - logsumexp, abs=2 * output)


def test_timeline_ends_with_what_lay_there_before():
    run = simulate(find_model("SmolLM2-135M").shape, TrainSetup(seq_len=128))
    assert max(gib for _, gib in run.timeline) == pytest.approx(run.total_gib)
    lasting = run.weights_gib + run.adapters_gib + run.gradients_gib + run.optimizer_gib
    assert run.timeline[-1][1] == pytest.approx(lasting, rel=0.01)
    assert [phase for phase in dict.fromkeys(p for p, _ in run.timeline)][:2] == ["before", "forward"]


# Published -----------------------------------------------------------------------------------------------------------


def test_every_published_row_is_matched_or_says_why_not():
    rows = published()
    assert len(rows) == len({row.id for row in rows}) == 48
    assert all(row.reason and (row.matched == (row.shape is not None)) for row in rows)
    assert sum(row.matched for row in rows) == 31
    assert all("reserved" in row.reason for row in rows if row.id.startswith(("PEFT", "UN")))


def test_estimate_meets_published_peaks():
    errors = {row.id: closed for row, closed, _ in published_rows(simulated=False)}
    assert statistics.median(map(abs, errors.values())) <= 0.10 and max(map(abs, errors.values())) <= 0.25, errors


#: One LoRA and one QLoRA row of different families; the marked test below takes every row.
SOME = ("LGH-falcon-7b-qlora", "LGH-gemma-2b-lora", "LGH-Llama-3.2-1B-qlora", "LGH-TinyLlama-1.1B-full", "QLORA-LLaMA-7B")


def test_simulation_meets_some_published_peaks():
    rows = [row for row in published() if row.id in SOME]
    errors = [simulate(row.shape, row.setup).total_gib / row.reported_gib - 1 for row in rows]
    assert statistics.median(map(abs, errors)) <= 0.10 and max(map(abs, errors)) <= 0.25, errors


@pytest.mark.training
def test_simulation_meets_every_published_peak():
    errors = {row.id: run for row, _, run in published_rows()}
    assert statistics.median(map(abs, errors.values())) <= 0.10 and max(map(abs, errors.values())) <= 0.25, errors


# Time and quiet ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "seconds"), [("Llama-3.1-8B", 10), ("Llama-3.1-70B", 60)])
def test_simulation_is_quick(name, seconds):
    """Processor time, so that a busy machine does not fail it; the libraries are loaded already."""
    start = time.process_time()
    assert simulate(find_model(name).shape, TrainSetup(gradient_checkpointing=True)).total_gib > 5
    assert time.process_time() - start < seconds


def test_simulation_in_a_fresh_process_prints_nothing_of_its_own():
    code = "from lorakit_helpers.memory import *; print(simulate(find_model('SmolLM2-135M').shape, TrainSetup()).peak_at)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project_root(), check=False)
    assert (done.stdout, done.stderr) == ("loss\n", "")


def test_simulation_takes_a_configuration_as_well_as_a_shape():
    entry = find_model("SmolLM2-135M")
    setup = TrainSetup(seq_len=64)
    assert simulate(entry.config(), setup) == simulate(entry.shape, setup)


def test_a_rank_above_the_layer_is_said_before_anything_is_built():
    with pytest.raises(ValueError, match="from 1 to 192"):
        simulate(find_model("SmolLM2-135M").shape, TrainSetup(r=1000))
