"""The advice follows from what was measured: change the figures and it changes; every rule fires when it should."""

import math
import time

import numpy as np
import pytest

from lorakit_helpers.advice import RULES, Evidence, Needs, advise
from lorakit_helpers.choices import WAYS, WayResult
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.widgets import DecisionPanel

ZERO, FEW, RAG, TUNED, BOTH = WAYS
N = 60


def share(value, n=N):
    return (np.arange(n) < round(value * n)).astype(float)


def way(name, tokens=100.0, **figures):
    trained = name in (TUNED, BOTH)
    correct = {figure.replace("_", " "): share(value) for figure, value in figures.items()}
    return WayResult(name, ("",) * N, correct, 1.0, tokens - 10, 10.0, 9.0, 1000 * trained, 240 * trained)


def made(facts=(0.0, 0.0, 0.6, 0.1, 0.9), fields=(0.1, 0.3, 0.4, 0.9, 0.9), valid=(0.2, 0.9, 0.9, 1.0, 1.0),
         followed=(0, 0, 0.7, 0, 0.9), recited=(0, 0, 0, 0.4, 0), tokens=(80, 250, 300, 60, 200)) -> Evidence:  # fmt: skip
    return Evidence(
        {n: way(n, t, answered=a) for n, a, t in zip(WAYS, facts, tokens, strict=True)},
        {n: way(n, t, fields_right=f, exact_match=f / 2, valid_JSON=v)
         for n, f, v, t in zip(WAYS, fields, valid, tokens, strict=True)},
        {n: share(v, 18) for n, v in zip(WAYS, followed, strict=True)},
        {n: share(v, 18) for n, v in zip(WAYS, recited, strict=True)}, shown=3,
    )  # fmt: skip


def out_by(advice, rule):
    return next((finding.out for finding in advice.findings if finding.rule == rule), None)


def test_facts_go_to_the_best_way_on_facts_and_behaviour_to_the_best_on_behaviour():
    assert advise(Needs("facts"), made()).way == BOTH
    assert advise(Needs("behaviour"), made()).way == TUNED


def test_turned_figures_turn_the_advice():
    assert advise(Needs("facts"), made(facts=(0.0, 0.0, 0.9, 0.1, 0.2))).way == RAG
    assert advise(Needs("behaviour"), made(fields=(0.1, 0.9, 0.2, 0.3, 0.3))).way == FEW


def test_among_ways_not_shown_to_differ_the_cheapest_is_taken():
    same = made(facts=(0.5,) * 5, tokens=(80,) * 5)
    assert advise(Needs("facts"), same).way == ZERO
    assert advise(Needs("facts"), made(facts=(0.5,) * 5, tokens=(90, 90, 90, 50, 90))).way == TUNED


def test_training_pays_only_when_enough_questions_are_to_come():
    evidence = made(facts=(0.0, 0.0, 0.6, 0.6, 0.6), tokens=(80, 80, 300, 60, 300))
    pays = 3 * 1000 / (300 - 60)  # 1000 trained tokens, three times each, against the tokens saved per question
    assert advise(Needs("facts", questions=math.floor(pays)), evidence).way == RAG
    assert advise(Needs("facts", questions=math.floor(pays) + 1), evidence).way == TUNED


def test_a_budget_strikes_out_exactly_the_ways_measured_above_it():
    for budget in (50, 79, 80, 200, 299, 300):
        found = out_by(advise(Needs("facts", budget=budget), made()), "R2")
        assert (found or ()) == tuple(w for w, t in zip(WAYS, (80, 250, 300, 60, 200), strict=True) if t > budget)


@pytest.mark.parametrize(("examples", "out"), [(0, (FEW, TUNED, BOTH)), (3, (TUNED, BOTH)), (239, (TUNED, BOTH)), (240, None)])
def test_too_few_examples_rule_out_what_needed_more_here(examples, out):
    assert out_by(advise(Needs("facts", examples=examples), made()), "R3") == out


def test_behaviour_without_examples_leaves_the_bare_prompt():
    assert advise(Needs("behaviour", examples=0), made()).left == (ZERO,)


@pytest.mark.parametrize("change", ["every week", "every few months"])
def test_changing_facts_rule_out_what_did_not_follow_the_change(change):
    advice = advise(Needs("facts", change), made())
    assert out_by(advice, "R4") == (ZERO, FEW, TUNED) and advice.left == (RAG, BOTH)


def test_changing_facts_rule_out_nothing_when_all_followed_alike():
    advice = advise(Needs("facts", "every week"), made(followed=(0.5,) * 5))
    assert out_by(advice, "R4") == () and "no way is clearly behind" in str(advice.findings[1])


def test_a_way_that_told_no_new_fact_is_out_once_another_surely_told_some():
    for told, out in ((5 / 18, (ZERO, FEW, TUNED)), (1 / 18, ())):
        advice = advise(Needs("facts", "every week"), made(followed=(0, 0, told, 0, told)))
        assert out_by(advice, "R4") == out


def test_changing_facts_do_not_matter_where_behaviour_is_lacking():
    assert "R4" not in advise(Needs("behaviour", "every week"), made()).rules


def test_an_exact_form_rules_out_ways_whose_interval_lies_below_what_is_needed():
    advice = advise(Needs("behaviour", exact_form=True), made(valid=(0.2, 0.5, 0.9, 1.0, 1.0)))
    assert out_by(advice, "R5") == (ZERO, FEW) and advice.way == TUNED
    assert advice.scores[TUNED].name == "exact match"


def test_an_exact_form_is_no_matter_of_facts():
    assert "R5" not in advise(Needs("facts", exact_form=True), made()).rules


def test_private_texts_rule_out_weights_that_recite():
    assert out_by(advise(Needs("facts", private=True), made()), "R6") == (TUNED,)
    assert out_by(advise(Needs("facts", private=True), made(recited=(0,) * 5)), "R6") == ()
    assert out_by(advise(Needs("behaviour", private=True), made()), "R6") == ()


def test_both_lacks_are_judged_by_the_weaker_task():
    advice = advise(Needs("both"), made())
    wanted = [min(a, b) for a, b in zip((0.0, 0.0, 0.6, 0.1, 0.9), (0.1, 0.3, 0.4, 0.9, 0.9), strict=True)]
    assert [m.value for m in advice.scores.values()] == pytest.approx(wanted, abs=0.01) and advice.way == BOTH


def test_a_best_that_is_not_good_enough_is_said_to_be():
    assert "R8" in advise(Needs("facts", wanted=1.0), made()).rules
    assert "R8" not in advise(Needs("facts", wanted=0.9), made()).rules
    assert "less than you want" in str(advise(Needs("facts", wanted=1.0), made()))


def test_a_cheaper_way_is_passed_over_when_it_cannot_be_good_enough():
    close = made(facts=(0.0, 0.0, 0.5, 0.1, 0.58))
    low, high = (advise(Needs("facts", wanted=wanted), close) for wanted in (0.5, 0.65))
    assert low.scores[RAG].high < 0.65 < low.scores[BOTH].high
    cheap = made(facts=(0.0, 0.0, 0.5, 0.1, 0.58), tokens=(80, 250, 190, 60, 200))
    assert advise(Needs("facts", wanted=0.5), cheap).way == RAG and advise(Needs("facts", wanted=0.65), cheap).way == BOTH
    assert low.way == high.way == BOTH


def test_a_larger_model_calls_for_new_measurements():
    assert "R9" in advise(Needs("facts", small_model=False), made()).rules
    assert "R9" not in advise(Needs("facts"), made()).rules


def test_needs_that_exclude_everything_are_told_with_the_rules_to_blame():
    advice = advise(Needs("facts", "every week", budget=150, examples=0), made())
    assert advice.way is None and advice.left == ()
    assert str(advice).startswith("No way is left: R2, R3, R4 rule all five out")


@pytest.mark.parametrize("lack", ["facts", "behaviour", "both"])
@pytest.mark.parametrize("exact_form", [False, True])
@pytest.mark.parametrize("budget", [64, 256, 4096])
@pytest.mark.parametrize("examples", [0, 100, 1000])
@pytest.mark.parametrize("private", [False, True])
def test_the_way_chosen_is_never_one_a_rule_struck_out_and_each_rule_has_a_figure(lack, exact_form, budget, examples, private):
    advice = advise(Needs(lack, "every week", examples, exact_form, budget, private=private), made())
    out = {w for finding in advice.findings for w in finding.out}
    assert set(advice.left) == set(WAYS) - out and (advice.way in advice.left or (advice.way is None and not advice.left))
    assert set(advice.rules) <= set(RULES) and len(set(advice.rules)) == len(advice.rules)
    assert all(any(c.isdigit() for c in f.figure) for f in advice.findings if f.out)


@pytest.mark.parametrize(
    "bad", [{"lack": "luck"}, {"change": "daily"}, {"examples": -1}, {"budget": 1.5}, {"questions": True}, {"wanted": 50}]
)
def test_a_need_out_of_range_is_named(bad):
    with pytest.raises(LorakitError, match=f"need {next(iter(bad))}"):
        Needs(**bad)


def test_evidence_must_hold_every_way():
    whole = made()
    with pytest.raises(LorakitError, match="no figures of 'RAG'"):
        Evidence({w: r for w, r in whole.facts.items() if w != RAG}, whole.behaviour, whole.followed, whole.recited, 3)


@pytest.fixture
def panel():
    return DecisionPanel(made())


CHANGES = [
    ("lack", "behaviour"), ("lack", "both"), ("change", "every week"), ("examples", 0), ("budget", 64), ("wanted", 100),
    ("private", True), ("small_model", False), ("questions", 1_000_000),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_each_control_changes_the_panel_and_reset_brings_it_back(panel, name, value):
    before = (bytes(panel.image.value), panel.sentence.value, panel.rules.value)
    panel.controls[name].value = value
    assert (panel.sentence.value, panel.rules.value) != before[1:]
    assert all(finding.rule in panel.rules.value for finding in panel.result.findings)
    panel.controls["reset"].click()
    assert (bytes(panel.image.value), panel.sentence.value, panel.rules.value) == before


def test_every_control_works_at_its_ends_and_none_is_left_out(panel):
    for name, control in panel.controls.items():
        if hasattr(control, "options") or hasattr(control, "min"):
            ends = [o[1] if isinstance(o, tuple) else o for o in control.options] if hasattr(control, "options") else (0, 100)
            for value in ends:
                control.value = value
                assert panel.result is not None and getattr(panel.result, "findings", None), name


def test_problem_is_shown_as_a_sentence_and_escaped(panel, monkeypatch):
    from lorakit_helpers.widgets import decision_panel

    def broken(*_):
        raise ValueError("<b>no</b>")

    monkeypatch.setattr(decision_panel, "advise", broken)
    panel.controls["budget"].value = 64
    assert panel.result is None and "&lt;b&gt;no" in panel.sentence.value and panel.rules.value == ""


def test_redraw_is_quick(panel):
    times = []
    for change in ("every week", "hardly ever") * 5:
        start = time.process_time()
        panel.controls["change"].value = change
        times.append(time.process_time() - start)
    assert sorted(times)[5] < 0.06, times
