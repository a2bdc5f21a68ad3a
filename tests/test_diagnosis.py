"""Diagnosis: the rules on curves drawn for them, the labels counted as a plain reader counts them, and really trained runs."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lorakit_helpers.diagnosis import FAULTS, LabelFacts, RunRecord, diagnose
from lorakit_helpers.diagnosis_report import HEALTHY, PLANTED, judge, make_run
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.training import TrainingLog

GOOD = LabelFacts(rows=400, cut=0, empty=0, tokens=40_000, trained_tokens=12_000, entropy=4.5, max_length=256)


def run(losses, *, every=5, **more) -> RunRecord:
    losses = tuple(float(x) for x in losses)
    return RunRecord(tuple(every * (i + 1) for i in range(len(losses))), losses, max_steps=every * len(losses), **more)


def curve(n=40, start=2.4, end=0.4, speed=12.0, noise=0.08, seed=0):
    """A loss that falls fast, flattens, and wanders in proportion to its level."""
    level = end + (start - end) * np.exp(-speed * np.arange(n) / n)
    return level * np.exp(noise * np.random.default_rng(seed).standard_normal(n))


def ids(record) -> list[str]:
    return [finding.id for finding in diagnose(record)]


@pytest.mark.parametrize("seed", range(20))
def test_a_curve_that_falls_and_flattens_has_no_fault(seed):
    losses = curve(seed=seed)
    validation = {"validation_steps": (100, 200), "validation_losses": (0.5, 0.48)}
    norms = tuple(np.exp(0.3 * np.random.default_rng(seed).standard_normal(40)))
    assert ids(run(losses, grad_norms=norms, labels=GOOD, **validation)) == []


@pytest.mark.parametrize(
    ("losses", "fault"),
    [
        ([*curve(20), math.nan], "diverged"),
        ([*curve(20), math.inf, 3.0], "diverged"),
        ([*curve(20), *np.linspace(0.5, 5.0, 20)], "diverged"),
        (np.full(30, 2.4) + np.linspace(0, 3, 30), "diverged"),
        (curve(end=4.3, start=6.0), "diverged"),  # at chance for labels of 4.5 nats
        (curve(end=2.3), "plateau"),
        (np.linspace(2.4, 0.5, 40), "undertrained"),
    ],
)
def test_a_curve_with_one_fault_is_given_its_name_and_no_other(losses, fault):
    assert ids(run(losses, labels=GOOD)) == [fault]


def test_a_nan_that_was_logged_as_0_is_seen_by_its_gradient_norm():
    losses, norms = [*curve(20), 0.0, 0.0], (1.0,) * 20 + (math.nan, math.nan)
    assert ids(run(losses, grad_norms=norms)) == ["diverged"]
    assert "step 105" in diagnose(run(losses, grad_norms=norms))[0].seen


def test_a_single_overflow_of_half_precision_is_not_a_diverged_run():
    assert ids(run(curve(), grad_norms=(math.inf,) + (1.0,) * 39)) == []


def test_a_nan_on_validation_rows_alone_is_a_diverged_run():
    assert ids(run(curve(), validation_steps=(200,), validation_losses=(math.nan,))) == ["diverged"]


@pytest.mark.parametrize(
    ("validation", "fault"),
    [
        ((0.8, 0.5, 0.45), []),
        ((0.8, 0.6, 1.2), ["overfit"]),
        ((0.50, 0.46, 0.52), ["overfit"]),
        ((0.50, 0.46, 0.47), []),
    ],
)
def test_overfitting_is_a_wide_gap_or_a_validation_loss_that_rises(validation, fault):
    assert ids(run(curve(noise=0.0), validation_steps=(60, 120, 200), validation_losses=validation)) == fault


def test_a_task_that_is_learned_is_not_overfit_because_its_losses_are_near_zero():
    losses = curve(end=0.02)
    assert ids(run(losses, validation_steps=(200,), validation_losses=(0.09,))) == []
    assert ids(run(losses, validation_steps=(200,), validation_losses=(0.2,))) == ["overfit"]
    assert ids(run(losses)) == []


@pytest.mark.parametrize("losses", [[0.0] * 10, [math.nan] * 10])
def test_a_loss_of_nothing_is_an_empty_mask_and_hides_what_follows_from_it(losses):
    assert ids(run(losses)) == ["empty_mask"]


def test_labels_name_the_rows_without_loss_and_the_rows_cut_off():
    assert ids(run(curve(), labels=replace(GOOD, empty=1))) == ["empty_mask"]
    assert ids(run(curve(), labels=replace(GOOD, cut=4))) == []
    found = diagnose(run(curve(), labels=replace(GOOD, cut=100)))
    assert [f.id for f in found] == ["truncated"] and "100 of 400 rows (25%)" in found[0].seen


def test_a_spike_is_loss_and_gradient_norm_together():
    losses, norms = curve(60, noise=0.05), np.full(60, 1.0)
    losses[40], norms[40] = 2.0, 6.0
    assert ids(run(losses, grad_norms=tuple(norms))) == ["spikes"]
    seen = diagnose(run(losses, grad_norms=tuple(norms)))[0].seen
    assert seen.startswith("1 point stands out; at step 205 ") and "6.0 times" in seen
    assert ids(run(losses, grad_norms=(1.0,) * 60)) == ids(run(curve(60, noise=0.05), grad_norms=tuple(norms))) == []


def test_a_few_updates_are_too_few_and_no_points_at_all_are_no_fault():
    assert ids(run([2.4, 1.5, 0.6, 0.5], every=2)) == ["undertrained"]
    assert ids(RunRecord((), ())) == []


def test_every_finding_says_what_was_seen_why_and_what_to_do():
    found = diagnose(run(np.linspace(2.4, 0.5, 40), labels=replace(GOOD, cut=100)))
    assert len(found) == 2
    for finding in found:
        assert finding.id in FAULTS and any(c.isdigit() for c in finding.seen)
        assert all(part.endswith(".") for part in (finding.seen, finding.why, finding.do))
        assert json.loads(json.dumps(finding.to_dict()))["id"] == finding.id


def test_a_training_log_and_what_was_saved_of_it_give_the_same_record():
    log = TrainingLog(max_steps=40, step=40, steps=[10, 20, 30, 40], losses=[2.0, 1.0, 0.5, 0.4])
    record = RunRecord.from_log(log, validation=[(40, 0.5)], labels=GOOD)
    assert record == RunRecord.from_log(json.loads(json.dumps(log.to_dict())), validation=[(40, 0.5)], labels=GOOD)
    assert record.losses == (2.0, 1.0, 0.5, 0.4) and record.validation_losses == (0.5,)


def test_columns_of_different_length_are_refused():
    with pytest.raises(LorakitError, match="losses"):
        RunRecord((1, 2), (0.5,))
    with pytest.raises(LorakitError, match="grad_norms"):
        RunRecord((1, 2), (0.5, 0.4), grad_norms=(1.0,))
    with pytest.raises(LorakitError, match="validation"):
        RunRecord((1,), (0.5,), validation_steps=(1,))


LABELS = """
import json, sys
from lorakit_helpers.start import start; start("smoke")
from collections import Counter
import math
from lorakit_helpers.diagnosis import label_facts
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.tickets import load_split, to_conversation
from lorakit_helpers.training import load_plain
import datasets
from trl import SFTConfig, SFTTrainer
datasets.disable_progress_bars()
folder, longest = sys.argv[1], int(sys.argv[2])
recipe = Recipe(r=4, lora_alpha=8, max_steps=1, warmup_steps=0, attn_implementation="eager")
model, tokenizer = load_plain(folder, recipe)
rows = [to_conversation(t) for t in load_split("train")[:40]]
arguments = dict(output_dir=sys.argv[3], use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, max_length=longest)
trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=datasets.Dataset.from_list(rows),
                     args=SFTConfig(completion_only_loss=True, **arguments))
wanted = dict(rows=0, cut=0, empty=0, tokens=0, trained_tokens=0)
seen = Counter()
for row in rows:  # what the template says, tokenized once and cut by hand; trl leaves out rows without an answer
    prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
    both = tokenizer.apply_chat_template(row["prompt"] + row["completion"])["input_ids"][:longest]
    answer = both[len(prompt):]
    if not answer:
        continue
    wanted["rows"] += 1
    wanted["cut"] += tokenizer.eos_token_id not in answer
    wanted["tokens"] += len(both)
    wanted["trained_tokens"] += len(answer)
    seen.update(answer)
total = seen.total()
wanted["entropy"] = -sum(n / total * math.log(n / total) for n in seen.values())
print("RESULT" + json.dumps([label_facts(trainer).__dict__, wanted]))
"""


@pytest.mark.training
@pytest.mark.parametrize("longest", [512, 110])
def test_label_facts_are_what_the_template_and_max_length_say(tiny, tmp_path, longest):
    done = subprocess.run(
        [sys.executable, "-c", LABELS, tiny, str(longest), str(tmp_path)],
        capture_output=True, text=True, env={**os.environ}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found, wanted = json.loads(done.stdout.split("RESULT")[1])
    assert {key: found[key] for key in wanted} == pytest.approx(wanted)
    assert found["max_length"] == longest and (wanted["cut"] > 0) == (longest == 110)


@pytest.mark.training
def test_planted_faults_of_really_trained_runs_are_named_and_a_healthy_run_has_none():
    names = ("learning rate 100 times too high", "5 steps", "the answer's start is never found", "20 epochs on 16 rows")
    judged = judge([plan for plan in PLANTED if plan.name in names] + [HEALTHY[0]], "small", seed=0)
    assert len(judged) == 5 and [str(j) for j in judged if not j.right] == []


@pytest.mark.training
def test_the_same_plan_and_seed_make_the_same_run_and_another_seed_another():
    plan = next(plan for plan in PLANTED if plan.name == "5 steps")
    first, again, other = (make_run(plan, "small", seed).losses for seed in (0, 0, 1))
    assert first == again != other
