"""Out of memory in a child: the parent lives, the budget decides, and the memory model knows it beforehand."""

import sys

import pytest

from lorakit_helpers import oom
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.memory import ModelShape, TrainSetup
from lorakit_helpers.oom import SMALL, Attempt, EvalSetup, attempt, cannot_limit, step_gib

LINUX = pytest.mark.skipif(bool(cannot_limit()), reason="memory limits need Linux")
TRAIN = TrainSetup(method="lora", r=8, weights_dtype="fp32", micro_batch=2, seq_len=256)
TINY = ModelShape(128, 256, 2, 2, 2, 64, 16_384, True)


@pytest.fixture(scope="module")
def roomy():
    """The same setups with room to spare: what each really uses."""
    setups = [TRAIN, TRAIN.but(micro_batch=1), EvalSetup(8, 2, 256, "logits"), EvalSetup(8, 2, 256, "tokens")]
    return attempt(setups, shape=TINY, budget_gib=2.0)


@LINUX
def test_with_room_everything_goes_through_and_training_uses_what_the_memory_model_says(roomy):
    assert all(result.fits and not result.message for result in roomy)
    for result in roomy[:2]:
        assert result.used_gib == pytest.approx(step_gib(TINY, result.setup), abs=0.02)


@LINUX
def test_kept_logits_use_what_their_formula_says_and_kept_tokens_next_to_nothing(roomy):
    logits, tokens = roomy[2:]
    one_batch = 2 * 256 * 16_384 * 4 / 2**30
    assert logits.used_gib == pytest.approx(8 * one_batch, abs=0.02)
    assert tokens.used_gib < 3 * one_batch


@LINUX
def test_below_its_need_a_setup_runs_out_of_memory_in_the_child_alone_and_the_next_is_not_harmed(roomy):
    need = [result.used_gib for result in roomy]
    results = attempt([TRAIN, EvalSetup(8, 2, 256, "logits"), TRAIN.but(micro_batch=1)], shape=TINY, budget_gib=need[1] * 1.2)
    assert [result.fits for result in results] == [False, False, True]
    assert "alloc" in results[0].message and results[0].used_gib is None
    assert "OUT OF MEMORY" in str(results[0]) and "went through" in str(results[2])


def test_formula_of_what_is_kept():
    assert EvalSetup(2, 3, 5, "logits").held_gib(7) * 2**30 == pytest.approx(2 * 3 * 5 * 7 * 4)
    assert EvalSetup(2, 3, 5, "tokens").held_gib(7) * 2**30 == pytest.approx(2 * 3 * 5 * 8)
    assert EvalSetup(2, 3, 5, "loss").held_gib(7) * 2**30 == pytest.approx(8)


@pytest.mark.parametrize("budget", [0, -1, "1", True, float("nan"), None])
@LINUX
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(LorakitError, match="budget_gib"):
        attempt([TRAIN], budget_gib=budget)


def test_keeping_something_else_is_refused():
    with pytest.raises(LorakitError, match="logits, tokens or loss"):
        EvalSetup(keep="everything")


def test_where_memory_cannot_be_limited_it_says_so(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert "win32" in cannot_limit() and "skipped" in cannot_limit()
    with pytest.raises(LorakitError, match="expected Linux"):
        attempt([TRAIN])


@LINUX
def test_a_child_that_fails_otherwise_is_no_out_of_memory(monkeypatch):
    monkeypatch.setattr(oom, "_environment", lambda: {"PATH": "/usr/bin:/bin", "PYTHONPATH": "/nowhere"})
    monkeypatch.setattr(oom.sys, "executable", "/bin/false")
    with pytest.raises(LorakitError, match="0 answers for 1 setups"):
        attempt([TRAIN])


@LINUX
def test_a_child_that_hangs_is_ended():
    with pytest.raises(LorakitError, match="no answer in"):
        attempt([TRAIN], timeout_s=0.05)


def test_results_become_dicts():
    assert Attempt(TRAIN, True, 0.1, 0.05).to_dict()["setup"]["r"] == 8
    assert SMALL.total_params < 20_000_000
