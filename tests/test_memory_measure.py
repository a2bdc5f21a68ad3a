"""A real step of the course's base model on this machine against the closed form and the simulation."""

from dataclasses import replace

import pytest

from lorakit_helpers.memory import TrainSetup, estimate, find_model, measure, simulate
from lorakit_helpers.memory.report import GRID, measured_rows

SHAPE = find_model("SmolLM2-135M").shape


@pytest.mark.training
def test_estimate_is_within_five_percent_of_the_measurement_over_the_grid():
    rows = list(measured_rows(GRID, simulated=False))
    assert {(s.r, s.micro_batch, s.seq_len, s.gradient_checkpointing) for s, *_ in rows} >= {
        (r, b, t, c) for r in (8, 64) for b, t in ((1, 128), (2, 128), (1, 256)) for c in (False, True)
    }
    errors = {setup: closed for setup, _, closed, _ in rows}
    assert max(map(abs, errors.values())) <= 0.05, errors


def test_one_step_meets_estimate_and_simulation_within_five_percent():
    setup = TrainSetup(r=8, seq_len=64)
    found = measure(None, setup)
    assert found.how == "measurement" and found.timeline
    assert estimate(SHAPE, setup).total_gib == pytest.approx(found.total_gib, rel=0.05)
    assert simulate(SHAPE, setup).total_gib == pytest.approx(found.total_gib, rel=0.05)
    for part in ("weights", "adapters", "gradients", "optimizer"):
        assert estimate(SHAPE, setup).parts[part] == pytest.approx(found.parts[part], rel=0.01)


def test_a_shape_is_measured_with_random_weights():
    tiny = replace(SHAPE, num_layers=2, vocab_size=512)
    found = measure(tiny, TrainSetup(method="full", seq_len=32, optimizer="sgd"))
    assert found.weights_gib * 2**30 == pytest.approx(2 * tiny.total_params, rel=0.001)
    assert found.optimizer_gib == 0


@pytest.mark.parametrize("change", [{"fused_loss": True}, {"optimizer": "adamw_8bit"}, {"quantize_lm_head": True}])
def test_what_cannot_run_here_is_said_with_what_to_do(change):
    import torch

    if torch.cuda.is_available() and "optimizer" in change:
        pytest.skip("a GPU can")
    with pytest.raises(ValueError, match=r"measure, .*expected"):
        measure(None, TrainSetup(**change))


def test_something_that_is_no_model_is_refused():
    with pytest.raises(ValueError, match="ModelShape"):
        measure(42, TrainSetup(seq_len=16))
