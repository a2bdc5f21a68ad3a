"""The hyperparameter lab: what is computed before training, the stored sweep, intervals over seeds, and the panel."""

import json
import math

import numpy as np
import pytest

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.knobs import effects, effects_table, knob_verdict, over_seeds
from lorakit_helpers.lab import learning_rates, plan_run, setup_of, update_count
from lorakit_helpers.memory import estimate, find_model
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.sweep import (
    ATTENTION,
    CENTRE,
    CHECK,
    KNOBS,
    SweepPoint,
    SweepResult,
    read_results,
    run_sweep,
    sweep_points,
    sweep_tickets,
)  # fmt: skip
from lorakit_helpers.widgets import LabPanel
from lorakit_helpers.widgets.lab_panel import run_label

SMALL = find_model("SmolLM2-135M").shape
LENGTHS = [40, 80, 120, 300]


@pytest.mark.parametrize(
    ("rows", "batch", "accumulation", "epochs"), [(10, 3, 2, 2), (7, 2, 1, 1), (5, 8, 4, 3), (9, 2, 3, 1.5)]
)
def test_updates_are_counted_as_the_trainer_makes_them(rows, batch, accumulation, epochs, tmp_path):
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments

    class One(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.ones(1))

        def forward(self, x):
            return {"loss": (self.w * x).mean()}

    arguments = TrainingArguments(
        tmp_path, per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, num_train_epochs=epochs,
        report_to="none", use_cpu=True, disable_tqdm=True, save_strategy="no", remove_unused_columns=False,
    )  # fmt: skip
    trainer = Trainer(One(), arguments, train_dataset=[{"x": torch.ones(1)} for _ in range(rows)])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    recipe = Recipe(
        per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, num_train_epochs=epochs, max_steps=-1
    )
    assert update_count(rows, recipe) == trainer.state.global_step


def test_max_steps_decides_alone_and_no_rows_are_refused():
    assert update_count(1000, Recipe(max_steps=7)) == 7
    with pytest.raises(LorakitError, match="rows"):
        update_count(0, Recipe())


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant", "constant_with_warmup"])
@pytest.mark.parametrize("warmup", [0, 5])
def test_learning_rates_are_those_a_trainer_steps_through(kind, warmup):
    import torch
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.01)
    schedule = get_scheduler(kind, optimizer, num_warmup_steps=warmup, num_training_steps=20)
    seen = []
    for _ in range(20):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    found = learning_rates(Recipe(learning_rate=0.01, lr_scheduler_type=kind, warmup_steps=warmup), 20)
    assert np.allclose(found, seen, rtol=1e-12)


def test_a_plan_counts_parameters_tokens_memory_and_time():
    recipe = Recipe(r=8, max_length=100, per_device_train_batch_size=2, num_train_epochs=3, optim="adamw_8bit")
    plan = plan_run(recipe, LENGTHS, SMALL, tokens_per_s=10)
    assert plan.size.trainable_params == SMALL.trainable_params(8, recipe.target_modules)
    assert plan.tokens == 3 * (40 + 80 + 100 + 100) and plan.seconds == plan.tokens / 10 and plan.updates == 6
    assert plan.memory.needed_gib == estimate(SMALL, setup_of(recipe, 300)).needed_gib
    assert setup_of(recipe, 300).seq_len == 100 and setup_of(recipe, 300).optimizer == "adamw_8bit"
    assert setup_of(recipe, 300, "cpu").method == "lora" and setup_of(recipe, 300, "cpu").optimizer == "adamw"
    short = plan_run(recipe.but(max_steps=2), LENGTHS, SMALL)
    assert short.updates == 2 and short.tokens == 2 * 2 * 80 and short.seconds is None


def made(recipe, loss=1.0, spread=0.0):
    """A stored result whose loss depends on the seed by ``spread``."""
    key = SweepPoint("", None, recipe).key
    rows = tuple([loss + spread * (recipe.seed - 1)] * 3)
    provenance = {"model": "m", "versions": {}, "device": "cpu", "threads": 1, "day": "2026-01-01"}
    return SweepResult(key, json.loads(json.dumps(recipe.to_dict())), rows, (2.0, loss), 100 * recipe.r, 1.5, provenance)


def test_every_point_changes_one_knob_of_the_centre():
    usual = CENTRE.to_dict()
    for point in sweep_points((0,), KNOBS):
        changed = {name for name, value in point.recipe.to_dict().items() if value != usual[name]}
        assert changed <= ({"r", "lora_alpha"} if point.knob == "r" else {point.knob})
        assert point.value == CENTRE.r if not changed and point.knob == "r" else True
    assert {p.value for p in sweep_points((0,), ["learning_rate"])} == {5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3}
    assert len({p.key for p in sweep_points((0, 1))}) == 30
    with pytest.raises(LorakitError, match="knob"):
        sweep_points((0,), ["dropout"])


def test_the_sweep_trains_on_other_tickets_than_it_scores():
    train, score = sweep_tickets()
    assert not {t.ticket for t in train} & {t.ticket for t in score} and len(train) >= CENTRE.max_steps * 4


def test_an_interrupted_sweep_keeps_what_was_finished_and_goes_on(tmp_path):
    path, points, calls = tmp_path / "sweep.jsonl", sweep_points((0,), ["r"]), []

    def run(recipe, base):
        calls.append(recipe.r)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return made(recipe)

    with pytest.raises(KeyboardInterrupt):
        run_sweep(points, "base", path, run=run)
    assert len(read_results(path)) == 2
    lines = []
    assert run_sweep(points, "base", path, run=run, log=lines.append) == 4 == len(lines)
    assert calls == [2, 4, 8, 8, 16, 32, 64] and set(read_results(path)) == {p.key for p in points}
    assert run_sweep(points, "base", path, run=run) == 0
    assert read_results(path)[points[0].key] == made(points[0].recipe)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda line: line[:50], "line 2"),
        (lambda line: json.dumps(json.loads(line) | {"rows": []}), "line 2"),
        (lambda line: line.replace('"parameters"', '"parametres"'), "parametres"),
    ],
)
def test_a_damaged_line_is_named_and_nothing_is_lost(tmp_path, damage, words):
    path = tmp_path / "sweep.jsonl"
    run_sweep(sweep_points((0,), ["lora_alpha"]), "base", path, run=lambda recipe, base: made(recipe))
    first, second = path.read_text().splitlines()
    path.write_text(f"{first}\n{damage(second)}\n")
    before = path.read_text()
    with pytest.raises(LorakitError, match=words):
        run_sweep(sweep_points((0,), ["r"]), "base", path, run=lambda recipe, base: made(recipe))
    assert path.read_text() == before


def test_no_results_yet_is_no_error(tmp_path):
    assert read_results(tmp_path / "none.jsonl") == {}


def test_the_stored_sweep_is_whole_and_belongs_to_these_recipes_and_tickets():
    stored, points = read_results(), {p.key: p for p in sweep_points(range(10))}
    assert stored and set(stored) <= set(points)
    for key, result in stored.items():
        assert result.recipe == json.loads(json.dumps(points[key].recipe.to_dict()))
        assert len(result.rows) == len(sweep_tickets()[1]) and len(result.losses) == result.recipe["max_steps"]
        assert result.parameters == SMALL.trainable_params(result.recipe["r"], tuple(result.recipe["target_modules"]))
    assert {SweepPoint("", None, r.but(seed=0)).key for r in (CENTRE, CHECK)} <= set(stored)


def test_the_interval_over_seeds_is_students():
    values = np.random.default_rng(0).normal(0.3, 0.1, (200, 3))
    intervals = [over_seeds(v) for v in values]
    covered = np.mean([low < 0.3 < high for _, low, high, _ in intervals])
    assert 0.91 < covered < 0.99  # normal intervals would cover about 0.80
    mean, _, high, p = over_seeds([0.1, 0.3])
    assert mean == pytest.approx(0.2) and high - mean == pytest.approx(12.7062 * 0.1, rel=1e-4) and p > 0.2
    assert math.isnan(over_seeds([0.1])[1]) and over_seeds([0.2, 0.2]) == (0.2, 0.2, 0.2, 0.0)
    with pytest.raises(LorakitError, match="seeds"):
        over_seeds([])


def stored_with(change):
    """Made results of all points, three seeds; ``change(recipe)`` is added to the loss."""
    rng = np.random.default_rng(1)
    noise = {}
    results = [made(p.recipe, 1.0 + change(p.recipe) + noise.setdefault(p.key, rng.normal(0, 0.01))) for p in sweep_points()]
    return {r.id: r for r in results}


def test_a_knob_that_matters_is_named_and_one_that_does_not_is_not():
    stored = stored_with(lambda recipe: 0.5 if recipe.learning_rate == 5e-5 else 0.0)
    rates, ranks = effects(stored, "learning_rate"), effects(stored, "r")
    assert [e.value for e in rates] == list(KNOBS["learning_rate"]) and sum(e.centre for e in rates) == 1
    assert "worse than the centre: 5e-05" in knob_verdict(rates) and "better" not in knob_verdict(rates)
    assert "no value is shown to differ" in knob_verdict(ranks)
    worst = rates[0]
    assert worst.low < 0.5 < worst.high and worst.loss == pytest.approx(np.mean(worst.losses))
    table = effects_table(rates)
    assert table.count("\n") == len(rates) + 1 and "the centre" in table and "+0.5" in table
    assert effects(stored, "target_modules")[0].value == ATTENTION


def test_effects_pair_seeds_and_need_the_centre():
    stored = stored_with(lambda recipe: 0.1 * recipe.seed)
    for effect in effects(stored, "r"):
        assert abs(effect.difference) < 0.05  # the seeds' own differences cancel
    some = {p.key: stored[p.key] for p in sweep_points((0,), ["r"]) if p.value != CENTRE.r}
    with pytest.raises(LorakitError, match="centre"):
        effects(some, "r")


def lab(train=lambda recipe, follow: [3.0, 2.0], **options):
    start = Recipe(learning_rate=2e-3, lr_scheduler_type="cosine", per_device_train_batch_size=4, max_steps=8)
    return LabPanel(start, LENGTHS, SMALL, train, device="cpu", **options), start


def test_the_panel_shows_what_the_pure_function_says():
    panel, start = lab(tokens_per_s=20)
    assert str(panel.result) in panel.sentence.value and "time (s" in panel.table.value
    changes = {"r": 8, "lora_alpha": 16, "lora_dropout": 0.1, "targets": "q and v", "learning_rate": 5e-4, "epochs": 3,
               "lr_scheduler_type": "linear", "warmup_steps": 2, "batch": 2, "accumulation": 2}  # fmt: skip
    pictures = {panel.image.value}
    for name, value in changes.items():
        panel.controls[name].value = value
        pictures.add(panel.image.value)
    wanted = start.but(
        r=8, lora_alpha=16, lora_dropout=0.1, target_modules=("q_proj", "v_proj"), learning_rate=5e-4, num_train_epochs=3,
        lr_scheduler_type="linear", warmup_steps=2, per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=-1,
    )  # fmt: skip
    assert panel.result.recipe == wanted and panel.result.updates == 3 and len(pictures) > 3
    assert f"{SMALL.trainable_params(8, wanted.target_modules):,}" in panel.table.value
    panel.controls["reset"].click()
    assert panel.result.recipe == start.but(max_steps=-1)


def test_the_train_button_adds_real_curves_and_forgets_them_on_request():
    asked = []

    def train(recipe, follow):
        asked.append(recipe)
        return [3.0, 2.0, 1.0 / recipe.r]

    panel, _ = lab(train, updates=5)
    panel.controls["train"].click()
    first = panel.runs_image.value
    panel.controls["r"].value = 4
    panel.controls["train"].click()
    assert [r.r for r in asked] == [32, 4] and all(r.max_steps == 5 and r.warmup_steps <= 1 for r in asked)
    assert list(panel.runs.values()) == [(3.0, 2.0, 1 / 32), (3.0, 2.0, 0.25)] and panel.runs_image.value != first
    assert "loss 3.00 to 0.25" in panel.training.value
    panel.controls["clear"].click()
    assert not panel.runs and "No training yet" in panel.training.value


@pytest.mark.parametrize(
    ("problem", "words"), [(KeyboardInterrupt(), "Stopped"), (ValueError("<b>disk</b> full"), "&lt;b&gt;disk")]
)
def test_a_training_that_stops_keeps_the_other_curves_and_says_why(problem, words):
    answers = [[3.0, 1.0], problem]

    def train(recipe, follow):
        answer = answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    panel, _ = lab(train)
    panel.train()
    panel.train()
    assert len(panel.runs) == 1 and words in panel.training.value and not panel.controls["train"].disabled


def test_a_rank_above_a_layers_size_is_a_sentence():
    panel, _ = lab()
    panel._shape = find_model("SmolLM2-135M").shape
    panel.controls["r"].options = [32, 512]
    panel.controls["r"].value = 512
    assert panel.result is None and "rank" in panel.sentence.value and panel.table.value == "" and panel.train() is None


def test_a_run_that_ends_before_its_warm_up_is_said_so_and_drawn():
    panel, _ = lab()
    panel.controls["warmup_steps"].value = 50
    panel.controls["batch"].value = 32
    assert panel.result.updates == 1 and "is 0 throughout" in panel.sentence.value and "nan" not in panel.sentence.value


def test_runs_that_differ_in_warm_up_alone_are_two_curves():
    recipe = Recipe()
    assert run_label(recipe.but(warmup_steps=0)) != run_label(recipe.but(warmup_steps=3))
