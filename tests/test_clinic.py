"""The clinic's cases are well made, its record judges by the figures, its instruments agree with independent counts."""

import json
import math

import numpy as np
import pytest

from lorakit_helpers.clinic import (
    RECIPE,
    clinic_table,
    score_guesses,
    short_tickets,
    stop_share,
    tiny_llama,
    tune,
    visit,
)
from lorakit_helpers.clinic_cases import CASES
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.plots.clinic import describe_losses, describe_visit, move_visit, plot_losses, plot_visit
from lorakit_helpers.plots.figures import png_bytes
from lorakit_helpers.tickets import to_conversation, to_messages


def test_the_fourteen_cases_of_the_course_are_there():
    assert len(CASES) == 14 and all(name == case.id for name, case in CASES.items())


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_every_case_has_three_options_each_with_its_reason_and_one_right(case):
    assert len(case.options) == len(case.why) == 3 == len(set(case.options))
    assert [case.judge(place)[0] for place in range(3)].count(True) == 1
    assert case.symptom and case.tool and case.cure and not any("*" in text for text in case.options)
    assert json.loads(json.dumps(case.to_dict()))["title"] == case.title


def test_the_right_answer_is_not_always_at_the_same_place():
    places = [case.right for case in CASES.values()]
    assert max(places.count(place) for place in range(3)) <= 7


def test_a_case_asks_and_answers_by_letter():
    case = CASES["memory"]
    assert case.ask().splitlines()[0] == case.symptom and len(case.ask().splitlines()) == 4
    assert case.ask("C").startswith("C is right") and case.ask("A").startswith("A is wrong")
    assert case.why[0] in case.ask("A")
    for other in ("D", "a", "", 1):
        with pytest.raises(LorakitError, match="one of A, B, C"):
            case.ask(other)


@pytest.mark.parametrize(
    ("sick", "well", "lower", "outcome"),
    [
        (2.0, 1.0, True, "cured"),
        (2.0, 1.9, True, "not cured"),
        (2.0, 3.0, True, "not cured"),
        (0.1, 1.0, False, "cured"),
        (1.0, 1.05, False, "not cured"),
        (None, 1.0, True, "not shown here"),
        (1.0, math.nan, True, "not shown here"),
        (7, 0, True, "cured"),
    ],
)
def test_outcome_follows_the_figures(sick, well, lower, outcome):
    assert visit("mask", sick, well, "%", "tool", lower_is_better=lower).outcome == outcome


def test_a_better_test_than_the_tenth_decides():
    assert visit("alike", 1.0, 0.5, "nats", "", cured=False).outcome == "not cured"
    assert visit("alike", None, 0.5, "nats", "", cured=True).outcome == "not shown here"  # nothing was shown to be cured


def test_unknown_case_is_answered_with_the_nearest():
    with pytest.raises(LorakitError, match="Did you mean 'too fast'"):
        visit("too fats", 1, 0, "", "")


def test_table_has_a_line_for_each_case_with_both_figures():
    made = [visit(name, 12.345, 0.5, "nats", "x\ny") for name in CASES]
    lines = clinic_table(made).splitlines()
    assert len(lines) == 2 + 14 and len({line.count("|") for line in lines}) == 1
    assert "12.35 nats" in lines[2] and "0.50 nats" in lines[2] and made[0].tool == "x y"


def test_score_counts_first_answers_of_known_cases_only():
    cases = list(CASES.values())
    guesses = {case.id: case.right for case in cases[:5]} | {cases[6].id: (cases[6].right + 1) % 3, "other": 0}
    assert score_guesses(guesses, cases) == (5, 6)
    assert score_guesses({}, cases) == (0, 0)


def test_short_tickets_are_the_first_short_ones():
    some = short_tickets("validation", 10, words=12)
    assert len(some) == 10 and max(len(t.ticket.split()) for t in some) <= 12
    assert [t.id for t in some] == [t.id for t in short_tickets("validation", 30, words=12)][:10]


def test_pictures_say_what_their_sentences_say():
    ax = plot_losses({"a": [1.0, 20.0, 3.0], "b": [2.0, 1.0]})
    assert ax.get_yscale() == "log" and len(ax.lines) == 2
    assert "a: 1.00 at first, 20.00 at most, 3.00 at the end" in describe_losses({"a": [1.0, 20.0, 3.0]})
    shown = visit("too fast", 4.0, 1.0, "nats", "x")
    ax = plot_visit(shown, answered=False)
    assert [p.get_width() for p in ax.patches] == [1.0, 0.0] and "1.00" not in describe_visit(shown, answered=False)
    assert ax.texts[1].get_text() == "(answer first)"
    move_visit(ax, shown)
    assert [p.get_width() for p in ax.patches] == [1.0, 0.25] and [t.get_text() for t in ax.texts] == ["4.00", "1.00"]
    for odd in (visit("too fast", None, 1.0, "nats", ""), visit("too fast", 0.0, 0.0, "nats", ""),
                visit("baseline", 45.0, -4.0, "points", ""), visit("too fast", math.inf, 1.0, "nats", "")):  # fmt: skip
        move_visit(ax, odd)
        assert all(0 <= p.get_width() <= 1 for p in ax.patches) and png_bytes(ax.figure)


@pytest.fixture(scope="module")
def base():
    from lorakit_helpers.models import base_model

    return base_model(log=lambda line: None)


@pytest.fixture(scope="module")
def loaded(base):
    from lorakit_helpers.models import load_model

    return load_model(base)


def test_tiny_llama_has_the_tokenizers_own_vocabulary_and_repeats(loaded):
    import torch

    _, tokenizer = loaded
    one, two = (tiny_llama(tokenizer, seed=3) for _ in range(2))
    assert one.config.vocab_size == len(tokenizer)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_stop_share_equals_a_count_answer_by_answer(loaded):
    model, tokenizer = loaded[0].float(), loaded[1]  # in 16 bits a batch may decide a near-tie otherwise
    chats = [
        to_messages("Where is my lamp?"),
        [{"role": "user", "content": "Say yes."}],
        to_messages("Cancel order 12, please."),
    ]
    lengths = []
    for chat in chats:
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        out = model.generate(**ids, max_new_tokens=20, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
        lengths.append(len(out) if tokenizer.eos_token_id in out else math.inf)
    share, mean = stop_share(model, tokenizer, chats, max_new_tokens=20)
    assert share == pytest.approx(np.mean([math.isfinite(n) for n in lengths]))
    assert mean == pytest.approx(np.mean([min(n, 20) for n in lengths]))
    with pytest.raises(LorakitError, match="at least one"):
        stop_share(model, tokenizer, [])


@pytest.mark.training
def test_a_training_logs_every_update_and_its_planted_fault_is_seen_in_the_labels(base):
    rows = [to_conversation(t) for t in short_tickets("train", 4, words=10)]
    recipe = RECIPE.but(max_steps=2, per_device_train_batch_size=2)

    def no_end(batch):
        batch["labels"][batch["labels"] == 2] = -100

    healthy = tune(recipe, rows, base)
    assert len(healthy.losses) == 2 and healthy.seconds > 0
    assert healthy.record.labels.cut == 0 and healthy.record.labels.empty == 0
    assert healthy.tokenizer.eos_token_id == 2 and healthy.tokenizer.pad_token_id == 2
    sick = tune(recipe, rows, base, change_batch=no_end)
    assert sick.record.labels.cut == 4
    assert sick.record.labels.trained_tokens < healthy.record.labels.trained_tokens
