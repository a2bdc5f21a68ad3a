"""Each rule finds its mistake in a minimal bad file, and says nothing about the good rows it was made from."""

import json
import random
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit_helpers.data import as_messages, lint, write_rows
from lorakit_helpers.data.rules import RULE_IDS
from lorakit_helpers.data.rules.labels import one_edit, runs_z
from lorakit_helpers.tickets import load_split, to_conversation

QUICK = settings(max_examples=100, deadline=None, database=None)
SPLITS = ("train", "validation", "test")


def turn(role, content) -> dict:
    return {"role": role, "content": content}


def chat(asked, answer, system="Be brief.") -> dict:
    return {"messages": [turn("system", system), turn("user", asked), turn("assistant", answer)]}


QUESTIONS = (
    "How do I clean a cast iron pan?", "Which month is best for sowing peas?", "Why does my bike chain squeak?",
    "Can I freeze cooked rice?", "What keeps moths out of a wardrobe?", "Is rain water good for house plants?",
    "My door sticks in winter, what helps?", "How long does an open jar of pesto last?",
)  # fmt: skip
ANSWERS = (
    "Wipe it with salt and a little oil.", "March, once the ground is no longer frozen.", "It is dry; one drop of oil a link.",
    "Yes, cool it quickly and use it within a month.", "Cedar wood and a clean shelf do.", "Yes, most like it more.",
    "Plane a millimetre off the edge.", "About five days in the fridge.",
)  # fmt: skip


def good() -> list[dict]:
    return [chat(asked, answer) for asked, answer in zip(QUESTIONS, ANSWERS, strict=True)]


def with_row(row) -> list[dict]:
    return [*good(), row]


def labelled(values, name="intent") -> list[dict]:
    return [chat(f"Question number {i} about {i * 7919 % 1000}?", json.dumps({name: value})) for i, value in enumerate(values)]


def shuffled(counts: dict, seed=0) -> list:
    values = [value for value, count in counts.items() for _ in range(count)]
    random.Random(seed).shuffle(values)
    return values


def lint_file(tmp_path, rows, **options):
    write_rows(tmp_path / "rows.jsonl", rows)
    return lint(tmp_path / "rows.jsonl", **({"near_duplicates": False} | options))


ROW_RULES = [
    ("empty-turn", chat("How?", "  \n")),
    ("empty-turn", chat("", "An answer to nothing at all.")),
    ("role-order", {"messages": [turn("user", "How so?"), turn("system", "Be brief."), turn("assistant", "Like this, see.")]}),
    ("role-order", {"messages": [turn("system", "Be brief."), turn("assistant", "I begin the talk.")]}),
    ("role-order", {"messages": [turn("system", "B"), turn("user", "A?"), turn("user", "B?"), turn("assistant", "C it is.")]}),
    ("role-order", {"messages": [turn("system", "B"), turn("user", "A?"), turn("tool", "1"), turn("assistant", "C it is.")]}),
    ("role-order", {"messages": [turn("system", "B"), turn("user", "A?"), turn("assistant", "I ask."), turn("tool", "1"),
                                 turn("user", "And?"), turn("assistant", "C it is.")]}),
    ("assistant-not-last", {"messages": [turn("system", "Be brief."), turn("user", "Is anybody there?")]}),
    ("template-token", chat("How?", "Like this.<|im_end|>")),
    ("template-token", chat("[INST] How? [/INST]", "Like this, see.")),
    ("template-token", chat("How?", "<start_of_turn>model Like this.")),
    ("template-token", chat("How?", "Like this.</s>")),
    ("template-token", chat("Say.\n### Response:\nWhat?", "Like this, see.")),
    ("no-system-prompt", {"messages": [turn("user", "How is it?"), turn("assistant", "Like this, see.")]}),
    ("mojibake", chat("Where is the cafÃ©?", "Round the corner, see.")),
    ("mojibake", chat("How?", "Itâ€™s like this.")),
    ("mojibake", chat("How?", "Like th\ufffds, I think.")),
    ("unbalanced-quotes", chat("Who said it?", 'The sign says "closed.')),
    ("unbalanced-quotes", chat("Show me.", "Here:\n```python\nprint(1)\n and more")),
    ("unbalanced-quotes", chat("Show me.", "Here: {one, two.")),
    ("too-short", chat("How do I do it?", "ok")),
    ("personal-data", chat("Write to ann.lee@gmail.com for me.", "I have written, see.")),
    ("personal-data", chat("Pay with 4111 1111 1111 1111.", "That is paid, thank you.")),
    ("personal-data", chat("My IBAN is DE89 3704 0044 0532 0130 00.", "Noted, thank you.")),
    ("personal-data", chat("Ring me on 07700 900417 please.", "I shall ring you then.")),
    ("personal-data", chat("It is +44 20 7946 0811, as ever.", "I shall ring you then.")),
    ("contradiction", chat(QUESTIONS[2].upper() + " ", "Rust; throw it away.")),
    ("duplicate", good()[3]),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "row"), ROW_RULES)
def test_one_bad_row_among_good_ones_is_found_with_its_line(tmp_path, rule, row):
    found = lint_file(tmp_path, with_row(row)).found(rule)
    assert len(found) == 1 and found[0].count == 1 and found[0].rows == (9,)
    assert found[0].message and found[0].why and found[0].fix


def test_the_good_rows_alone_are_given_no_finding(tmp_path):
    assert lint_file(tmp_path, good(), near_duplicates=True, max_length=1000).findings == ()


FINE = [
    chat("Die 6\" pipe, naïve café, “quoted”, 中文テスト, ¿qué?", 'A 6" pipe and a 12" one, as she said: "yes".'),
    chat("Is a < b, and c[0] > 1 in 2026-11-03?", "Yes, a < b | b > 1, [x] or {y} alike."),
    chat("Write to help@example.com about order 4111-1111-1111-1112.", "I did so at 10:30 on 01.02.2026."),
    {"messages": [turn("system", "B"), turn("user", "What is 2+2?"), turn("assistant", "I shall ask the tool."),
                  turn("tool", "4"), turn("tool", "still 4"), turn("assistant", "It is four, says the tool.")]},
]  # fmt: skip


@pytest.mark.parametrize("row", FINE)
def test_rows_that_only_look_odd_are_let_pass(tmp_path, row):
    assert lint_file(tmp_path, with_row(row)).findings == ()


def test_the_same_words_under_another_system_text_are_another_task(tmp_path):
    def told(system, answer):
        row = chat("Good morning", answer)
        return {"messages": [{"role": "system", "content": system}, *(m for m in row["messages"] if m["role"] != "system")]}

    rows = [told("Translate to French.", "Bonjour"), told("Translate to German.", "Guten Morgen")]
    path = tmp_path / "rows.jsonl"
    write_rows(path, rows)
    assert not lint(path, near_duplicates=False).found("contradiction")
    write_rows(path, [*rows, told("translate to  French.", "Salut")])
    assert lint(path, near_duplicates=False).found("contradiction")[0].count == 1


def test_answers_of_another_shape_than_a_list_are_told_so(tmp_path):
    rows = [chat(f"Item {i}?", json.dumps([i, "screw"])) for i in range(30)] + [chat("Item 31?", '{"n": 31}')]
    path = tmp_path / "rows.jsonl"
    write_rows(path, rows)
    assert "than the usual JSON list" in lint(path, near_duplicates=False).text()


def test_personal_data_is_masked_in_the_report(tmp_path):
    report = lint_file(tmp_path, with_row(chat("I am ann.lee@gmail.com, see.", "Hello there, Ann.")))
    assert "ann.lee" not in report.text() + report.html() + report.to_json()


def test_unreadable_rows_are_counted_beside_the_others(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, good())
    path.write_bytes(path.read_bytes() + b'{"messages": 7}\n{"messages": [\n\xeb\n')
    report = lint(path, near_duplicates=False)
    assert (report.rows, report.unreadable, report.ok) == (8, 3, False)
    assert report.found("unreadable")[0].count == 3
    assert ["line 9" in report.text(), "line 10" in report.text(), "line 11" in report.text()] == [True] * 3


def test_no_system_prompt_anywhere_is_one_finding_about_the_whole(tmp_path):
    found = lint_file(tmp_path, [{"messages": row["messages"][1:]} for row in good()]).found("no-system-prompt")
    assert [one.message for one in found] == ["no row has a system prompt"]


def test_broken_json_among_json_is_an_error_and_other_keys_a_warning(tmp_path):
    rows = labelled(shuffled({"refund": 15, "cancel": 15}))
    assert not lint_file(tmp_path, rows).found("broken-json")
    rows[4] = chat("Broken?", '{"intent": "refund"')
    rows[9] = chat("Prose?", "It is a refund, I think.")
    rows[20] = chat("Other?", '{"intention": "refund"}')
    found = lint_file(tmp_path, rows).found("broken-json")
    assert [(one.severity, one.count, one.rows) for one in found] == [("error", 2, (5, 10)), ("warning", 1, (21,))]


def test_two_usual_sets_of_keys_are_no_finding(tmp_path):
    rows = labelled(shuffled({"refund": 15, "cancel": 15})) + labelled(shuffled({"red": 10, "blue": 10}, seed=1), name="colour")
    assert not lint_file(tmp_path, rows).found("broken-json")


def test_json_here_and_there_makes_no_rule_for_the_other_answers(tmp_path):
    assert not lint_file(tmp_path, with_row(chat("As JSON?", '{"yes": true}'))).found("broken-json")
    assert lint_file(tmp_path, with_row(chat("As JSON?", '{"yes": tru'))).findings == ()


@pytest.mark.parametrize(("usual", "rare"), [(["A", "B"], "E"), (["2023", "2021"], "2024")])
def test_a_rare_letter_or_number_is_no_typo(tmp_path, usual, rare):
    rows = labelled([*shuffled(dict.fromkeys(usual, 40)), rare])
    assert not lint_file(tmp_path, rows).found("label-typo")


@pytest.mark.parametrize("typo", ["refnud", "refunds", "reund", "Refund", "refund "])
def test_misspelt_label_is_named_with_the_usual_one(tmp_path, typo):
    rows = labelled(shuffled({"refund": 40, "cancel": 40}))
    assert not lint_file(tmp_path, rows).found("label-typo")
    rows[17] = chat("Misspelt?", json.dumps({"intent": typo}))
    found = lint_file(tmp_path, rows).found("label-typo")
    assert found[0].message.startswith("answer.intent")
    assert [one.rows for one in found] == [(18,)] and repr(typo) in found[0].message and "'refund'" in found[0].message


def test_plain_labels_are_seen_too(tmp_path):
    rows = [chat(f"Is {i} {'even' if i % 2 else 'odd'}?", value) for i, value in enumerate(shuffled({"true": 30, "false": 30}))]
    assert not lint_file(tmp_path, rows).found("too-short"), "short answers that come back again and again are labels"
    rows[5]["messages"][-1]["content"] = "fasle"
    assert lint_file(tmp_path, rows).found("label-typo")[0].rows == (6,)


def test_one_sided_labels_are_found_and_balanced_ones_are_not(tmp_path):
    assert not lint_file(tmp_path, labelled(shuffled({"refund": 60, "cancel": 40}))).found("class-imbalance")
    found = lint_file(tmp_path, labelled(shuffled({"refund": 95, "cancel": 5}))).found("class-imbalance")
    assert ["answer.intent is 'refund' in 95 of 100" in one.message for one in found] == [True]
    found = lint_file(tmp_path, labelled(shuffled({"refund": 400, "cancel": 400, "question": 10}))).found("class-imbalance")
    assert ["'question' in 10" in one.message for one in found] == [True]


def test_the_same_answer_always_is_an_error(tmp_path):
    rows = [chat(question, "I cannot help with that.") for question in QUESTIONS]
    report = lint_file(tmp_path, rows)
    assert report.found("constant-answer")[0].count == 8 and not report.ok
    assert not lint_file(tmp_path, good()).found("constant-answer")


@pytest.mark.parametrize("column", [None, "topic"])
def test_rows_sorted_by_label_or_topic_are_found_and_shuffled_ones_are_not(tmp_path, column):
    values = ["refund"] * 40 + ["cancel"] * 40 + ["question"] * 40
    rows = labelled(values)
    if column:
        rows = [chat(f"How about {i * 7919 % 1000}?", f"Number {i} it is, then.") | {column: v} for i, v in enumerate(values)]
    assert lint_file(tmp_path, rows).found("not-shuffled")
    random.Random(0).shuffle(rows)
    assert not lint_file(tmp_path, rows).found("not-shuffled")


def test_a_slight_drift_in_many_rows_is_sure_but_does_not_matter(tmp_path):
    chance, values = random.Random(0), ["refund"]
    for _ in range(4000):
        values.append(values[-1] if chance.random() < 0.56 else {"refund": "cancel", "cancel": "refund"}[values[-1]])
    runs = 1 + sum(a != b for a, b in pairwise(values))
    expected, z = runs_z(runs, [values.count("refund"), values.count("cancel")])
    assert z < -5 and runs > 0.8 * expected
    assert not lint_file(tmp_path, labelled(values)).found("not-shuffled")


def test_rows_sorted_by_length_are_found_and_shuffled_ones_are_not(tmp_path):
    rows = [chat(f"Question {i * 7919 % 1000}?", "word " * (3 + i // 4)) for i in range(400)]
    assert any("length" in one.message for one in lint_file(tmp_path, rows).found("not-shuffled"))
    random.Random(0).shuffle(rows)
    assert not lint_file(tmp_path, rows).found("not-shuffled")


def test_a_longer_row_is_an_error_by_a_tokenizer_and_a_warning_by_characters(tmp_path):
    rows = with_row(chat("word " * 50, "A long question, that."))
    counted = lint_file(tmp_path, rows, max_length=30, count_tokens=lambda ms: sum(len(m["content"].split()) for m in ms))
    assert [(f.severity, f.rows, f.examples) for f in counted.found("too-long")] == [("error", (9,), ("56 tokens",))]
    estimated = lint_file(tmp_path, rows, max_length=50).found("too-long")
    assert [(f.severity, f.rows) for f in estimated] == [("warning", (9,))] and "characters / 4" in estimated[0].message


LONG = "My blue lamp from the spring sale flickers every evening since the last storm and I should like to have it mended soon"


def test_near_copies_are_found_and_other_rows_are_not(tmp_path):
    rows = [*good(), chat(LONG, "Send it in, please."), chat(LONG.replace("lamp", "LANTERN"), "Please do send it.")]
    found = lint_file(tmp_path, rows, near_duplicates=True).found("near-duplicate")
    assert [one.rows for one in found] == [(10,)] and found[0].examples == ("line 10 is like line 9",)


def test_leaks_between_splits_are_found_exactly_and_nearly(tmp_path):
    other = tmp_path / "other.jsonl"
    write_rows(other, [chat("Something else?", "Quite so, indeed."), chat(QUESTIONS[1], "May."), chat(LONG, "Send it in.")])
    rows = [*good(), chat(LONG.replace("lamp", "lantern"), "Please do send it.")]
    report = lint_file(tmp_path, rows, near_duplicates=True, against=other)
    assert [one.rows for one in report.found("leak")] == [(2,)] and "line 2 there" in report.found("leak")[0].examples[0]
    assert [one.rows for one in report.found("near-leak")] == [(9,)] and not report.ok
    assert lint_file(tmp_path, good()[2:], near_duplicates=True, against=other).ok


def test_prompts_from_one_template_are_too_alike_and_written_ones_are_not(tmp_path):
    things = ("lamp", "chair", "table", "mug", "rug", "bag")
    rows = [
        chat(f"Hello, I would like a refund for my {things[i % 6]}, order {i * 7919}. Ann", f"Order {i} it is.")
        for i in range(60)
    ]
    assert lint_file(tmp_path, rows).found("low-diversity")
    assert not lint([as_messages(to_conversation(t)) for t in load_split("test")[:60]]).found("low-diversity")


def test_the_same_words_in_another_order_are_too_alike_though_they_do_not_compress(tmp_path):
    texts = [ticket.ticket for ticket in load_split("test")[:60]]
    rows = [chat(text, f"Number {i} it is.") for i, text in enumerate(texts)]
    assert not lint_file(tmp_path, rows).found("low-diversity")
    rows += [chat(" ".join(reversed(text.split())), f"The {i}th it is.") for i, text in enumerate(texts)]
    assert lint_file(tmp_path, rows).found("low-diversity")


def test_every_rule_is_tried_here():
    source = open(__file__, encoding="utf-8").read()
    assert [rule for rule in RULE_IDS if f'"{rule}"' not in source] == []


@pytest.mark.parametrize("split", SPLITS)
def test_the_courses_own_tickets_are_clean_but_for_the_phone_numbers_invented_in_them(tmp_path, split):
    tickets = load_split(split)
    against = [as_messages(to_conversation(t)) for other in SPLITS if other != split for t in load_split(other)]
    report = lint_file(
        tmp_path, [as_messages(to_conversation(t)) for t in tickets], near_duplicates=True, max_length=1024, against=against
    )
    assert report.rows == len(tickets) and {one.rule for one in report.findings} <= {"personal-data"}
    calls = re.compile(r"(?i)(phone|call|ring|mobile|tel)\D{0,30}\d[\d -]{5,}")
    lines = [line for one in report.findings for line in one.rows]
    assert lines, "tickets do give phone numbers; the rule would have gone blind"
    assert [tickets[line - 1].id for line in lines if not calls.search(tickets[line - 1].ticket)] == []


@QUICK
@given(st.text("abc", min_size=1, max_size=5), st.text("abc", min_size=1, max_size=5))
def test_one_edit_is_what_trying_every_edit_gives(a, b):
    swaps = {a[:i] + a[i + 1] + a[i] + a[i + 2 :] for i in range(len(a) - 1)}
    removed = {a[:i] + a[i + 1 :] for i in range(len(a))}
    added = {a[:i] + letter + a[i:] for i in range(len(a) + 1) for letter in "abc"}
    changed = {a[:i] + letter + a[i + 1 :] for i in range(len(a)) for letter in "abc"}
    assert one_edit(a, b) == (b in (swaps | removed | added | changed) - {a})


@pytest.mark.parametrize("counts", [(30, 30), (50, 10), (20, 15, 25), (40, 5, 5, 10)])
def test_expected_runs_and_their_spread_are_those_of_random_orders(counts):
    chance = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(counts)), counts)
    runs = [1 + int(np.count_nonzero(np.diff(chance.permutation(labels)))) for _ in range(20_000)]
    expected, z = runs_z(0, counts)
    assert expected == pytest.approx(np.mean(runs), abs=0.15)
    assert (0 - expected) / z == pytest.approx(np.std(runs), rel=0.03)
