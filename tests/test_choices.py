"""Ways of asking are measured alike: outputs scored as given, tokens counted by the tokenizer, one table for all."""

import numpy as np
import pytest

from lorakit_helpers.advice import Needs, advise
from lorakit_helpers.choices import WAYS, WayResult, after_a_change, ask, fields_right, in_turns, ways_table
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.evaluation import mean_metric, paired_difference, verdict
from lorakit_helpers.plots.choices import describe_ways, move_advice, plot_advice, plot_ways
from lorakit_helpers.tickets import KEYS, load_split


def result(way="RAG", values=(1, 0, 1, 1), **more):
    options = {"seconds": 0.25, "prompt_tokens": 100.0, "answer_tokens": 4.5} | more
    return WayResult(way, ("a", "b", "c", "d"), {"answered": np.array(values, float)}, **options)


def test_asking_counts_tokens_as_the_tokenizer_does_and_scores_the_outputs(tiny, tokenizer):
    from lorakit_helpers.models import load_model

    model, _ = load_model(tiny)
    chats = [[{"role": "user", "content": text}] for text in ("Hello", "A much longer question, is it not?", "Why?")]
    seen = []

    def score(outputs):
        seen.append(list(outputs))
        return {"long": np.array([len(output) for output in outputs], float)}

    found = ask(
        model,
        tokenizer,
        "RAG",
        chats,
        score,
        batch_size=2,
        max_new_tokens=3,
        training_seconds=7.0,
        training_tokens=50,
        examples=9,
    )
    assert list(found.outputs) == seen[0] and found.correct["long"].tolist() == [len(o) for o in found.outputs]
    ids = [tokenizer.apply_chat_template(c, add_generation_prompt=True, return_dict=True)["input_ids"] for c in chats]
    assert found.prompt_tokens == np.mean([len(i) for i in ids]) and 0 < found.seconds < 60
    assert found.answer_tokens == np.mean([len(tokenizer(o, add_special_tokens=False)["input_ids"]) for o in found.outputs])
    assert found.tokens == found.prompt_tokens + found.answer_tokens and (found.training_seconds, found.examples) == (7.0, 9)
    assert found.cost(10) - found.cost(0) == pytest.approx(10 * found.tokens) and found.cost(0) == 3 * 50


def test_a_metric_over_chosen_rows_looks_at_those_rows():
    found = result(values=(1, 0, 1, 0))
    assert found.metric("answered").value == 0.5
    assert found.metric("answered", [True, False, True, False]).value == 1.0
    assert found.metric("answered", [False, True, False, True]).n == 2


def test_ways_are_compared_question_by_question():
    a, b = result("zero-shot prompt", (0,) * 4), result("RAG", (1,) * 4)
    wanted = verdict(paired_difference("answered", a.correct["answered"], b.correct["answered"]))
    assert a.compared(b, "answered") == f"zero-shot prompt -> RAG. {wanted}"


def test_solved_examples_stand_between_system_line_and_question_and_the_chat_is_left_alone():
    chat = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    turns = in_turns(chat, [("a", "1"), ("b", "2")])
    assert [(t["role"][0], t["content"]) for t in turns] == [
        ("s", "s"), ("u", "a"), ("a", "1"), ("u", "b"), ("a", "2"), ("u", "q")
    ]  # fmt: skip
    assert len(chat) == 2 and in_turns(chat, []) == chat and in_turns(chat[1:], [("a", "1")])[-1] == chat[1]


def test_fields_right_is_the_share_of_the_five_fields():
    from lorakit_helpers.evaluation import score_tickets
    from lorakit_helpers.tickets import answer_text

    tickets = load_split("test")[:3]
    wrong = tickets[1].answer | {"intent": "refund" if tickets[1].answer["intent"] != "refund" else "cancel"}
    outputs = [answer_text(tickets[0].answer), answer_text(wrong), "no JSON"]
    assert fields_right(score_tickets(outputs, tickets).correct, KEYS) == pytest.approx([1.0, 0.8, 0.0])


def test_after_a_change_names_new_old_and_neither_and_both_is_neither():
    outputs = ["It is 95 minutes.", "70 minutes", "an hour", "70 minutes, now 95 minutes"]
    assert after_a_change(outputs, [("70 minutes",)] * 4, [("95 minutes",)] * 4) == ["new", "old", "other", "other"]
    with pytest.raises(LorakitError, match="one output per question"):
        after_a_change(outputs, [("a",)], [("b",)] * 4)


def test_table_has_a_line_per_way_with_its_figures_and_the_price_of_training():
    table = ways_table([result(), result("fine-tuned", training_seconds=61.6, examples=240)], ["answered"])
    lines = table.splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    metric = mean_metric("answered", np.array([1.0, 0, 1, 1]))
    assert f"{metric.value:.1%} [{metric.low:.1%}, {metric.high:.1%}]" in lines[2] and "0.25 | 104.5 | none" in lines[2]
    assert "240 examples, 62 s" in lines[3]
    with pytest.raises(LorakitError, match="'exact answer'"):
        ways_table([result()], ["exact answer"])


def groups():
    few = {way: mean_metric("x", np.array([1.0] * i + [0.0] * (4 - i))) for i, way in enumerate(WAYS)}
    return {"asked": few, "never": few}


def test_bars_show_each_figure_with_its_interval_and_the_words_say_the_same():
    ax = plot_ways(groups(), what="tickets")
    assert ax.get_xlabel().startswith("tickets (%)")
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0, 25, 50, 75, 100] * 2)
    assert [label.get_text() for label in ax.get_yticklabels()] == list(WAYS)
    words = describe_ways(groups())
    assert all(f"{way} {25 * i}%" in words for i, way in enumerate(WAYS)) and words.count("RAG 50%") == 2


def test_advice_is_drawn_as_it_is_and_moving_equals_drawing_anew():
    from test_advice import made

    first, second = (advise(needs, made()) for needs in (Needs("facts"), Needs("behaviour", examples=0)))
    moved = move_advice(plot_advice(first), second)
    fresh = plot_advice(second)
    for ax in (moved, fresh):
        assert [bar.get_width() for bar in ax.patches] == pytest.approx([100 * m.value for m in second.scores.values()])
        texts = [text.get_text() for text in ax.texts]
        assert texts == ["chosen", *["out: R3"] * 4]
    assert [s.tolist() for s in moved.collections[0].get_segments()] == [
        s.tolist() for s in fresh.collections[0].get_segments()
    ]
