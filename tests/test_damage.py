"""The mistakes of lesson 05 do what they say, and nothing else; the linter warns of each."""

import json
from collections import Counter
from itertools import pairwise

import pytest

from lorakit_helpers.data import diversity, lint
from lorakit_helpers.data.damage import (
    MISTAKES,
    add_copies,
    answer_of,
    cut_short,
    damage,
    make_homogeneous,
    make_noisy,
    remove_system_prompt,
    sort_by_label,
)
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.files import project_root
from lorakit_helpers.tickets import load_split, parse_answer, to_conversation

WARNS = {
    "too homogeneous": "low-diversity", "too noisy": "contradiction", "too short": "too-short",
    "no system prompt": "no-system-prompt", "not shuffled": "not-shuffled",
}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    short = [to_conversation(t) for t in load_split("train") if len(t.ticket.split()) <= 25]
    return [{"messages": row["prompt"] + row["completion"]} for row in short[:80]]


def prompt(row):
    return row["messages"][-2]["content"]


def answer(row):
    return row["messages"][-1]["content"]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_as_many_rows_come_back_and_the_given_ones_stay_as_they_are(rows, mistake):
    before = json.dumps(rows)
    made = damage(rows, mistake)
    assert len(made) == len(rows) and json.dumps(rows) == before and json.dumps(made) != before
    made[0]["messages"][-1]["content"] = "changed"
    made[0]["messages"].append("changed")
    assert json.dumps(rows) == before


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_seed_decides(rows, mistake):
    assert damage(rows, mistake, seed=3) == damage(rows, mistake, seed=3)
    if mistake in ("too homogeneous", "too noisy", "too short"):
        assert damage(rows, mistake, seed=3) != damage(rows, mistake, seed=4)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_the_linter_warns_of_the_damage_and_not_of_the_clean_rows(rows, mistake):
    assert not lint(rows).found(WARNS[mistake])
    assert lint(damage(rows, mistake)).found(WARNS[mistake])


def test_homogeneous_rows_keep_right_answers_on_few_patterns(rows):
    made = make_homogeneous(rows, patterns=4)
    for row in [row for seed in range(20) for row in make_homogeneous(rows, seed, patterns=4)]:
        found, reason = parse_answer(answer(row))
        assert found, reason
        for name in ("order_id", "customer", "product"):
            assert found[name] is None or found[name] in prompt(row)
    assert len({answer_of(row)["product"] for row in made}) == 4
    assert len({prompt(row) for row in made}) > 40, "names and numbers change"
    half = diversity([prompt(row) for row in rows]).distinct_1 / 2
    assert diversity([prompt(row) for row in made]).distinct_1 < half


def test_noise_spoils_about_the_share_asked_for_and_every_kind_is_there(rows):
    made = make_noisy(rows, seed=0, share=0.4)
    changed = [(old, new) for old, new in zip(rows, made, strict=True) if old != new]
    assert 0.3 * len(rows) <= len(changed) <= 0.55 * len(rows)
    reasons = Counter(parse_answer(answer(new))[1].split(":")[0] or "valid" for _, new in changed)
    assert reasons["not JSON"] >= 5 and reasons["wrong value"] >= 4 and reasons["valid"] >= 8
    assert max(Counter(map(prompt, made)).values()) == 2
    assert make_noisy(rows, share=0) == rows


def test_short_answers_are_the_intent_and_the_urgency_of_half_the_rows(rows):
    made = cut_short(rows, share=0.5)
    short = [(old, new) for old, new in zip(rows, made, strict=True) if old != new]
    assert len(short) == 40
    assert all(answer(new) == "{intent}, {urgency}".format(**json.loads(answer(old))) for old, new in short)


def test_only_the_system_turn_goes(rows):
    made = remove_system_prompt(rows)
    assert [[t for t in row["messages"] if t["role"] != "system"] for row in rows] == [row["messages"] for row in made]
    assert len(made[0]["messages"]) == len(rows[0]["messages"]) - 1


def test_sorting_keeps_every_row_and_leaves_one_run_for_each_label(rows):
    made = sort_by_label(rows)
    assert sorted(map(json.dumps, made)) == sorted(map(json.dumps, rows))
    labels = [json.loads(answer(row))["intent"] for row in made]
    assert sum(a != b for a, b in pairwise(labels)) == len(set(labels)) - 1


def test_copies_come_on_top_of_the_rows_given(rows):
    made = add_copies(rows, 20, seed=1)
    assert len(made) == 100 and made[:80] != rows
    counts = Counter(map(json.dumps, made))
    assert set(counts) == set(map(json.dumps, rows)) and sum(n - 1 for n in counts.values()) == 20


def test_bad_arguments_are_named():
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": '{"intent": "refund"}'}]}
    calls = {
        "mistake": lambda: damage([row], "to noisy"),
        "rows to damage": lambda: damage([], "too noisy"),
        "share of rows": lambda: make_noisy([row], share=1.5),
        "patterns": lambda: make_homogeneous([row], patterns=0),
    }
    for what, call in calls.items():
        with pytest.raises(LorakitError, match=what):
            call()
    for bad in ({}, {"messages": []}, {"messages": [{"role": "assistant", "content": "[1]"}]}, {"messages": [row]}):
        with pytest.raises(LorakitError, match="no JSON answer"):
            answer_of(bad)


BAD = project_root() / "data" / "lessons" / "05_bad.jsonl"


def test_every_fault_the_datasheet_lists_is_found_in_its_line():
    report = lint(BAD, max_length=200)
    listed = {}
    for line in (BAD.parent / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.replace("<|im_end|>", "").strip("|").split("|")]
        if len(cells) == 3 and cells[0][:1].isdigit():
            for rule in cells[2].split("`")[1::2]:
                listed.setdefault(rule, set()).update(map(int, cells[0].split(",")))
    unreadable = {int(text.split("line ")[1].split(",")[0]) for text in report.found("unreadable")[0].examples}
    assert listed.pop("unreadable") == unreadable and report.unreadable == 4
    found = {}
    for finding in report.findings:
        if finding.rule not in ("unreadable", "not-shuffled"):
            found.setdefault(finding.rule, set()).update(finding.rows)
    assert found == listed and report.found("not-shuffled")
    assert report.rows + report.unreadable == len(BAD.read_bytes().splitlines()) == 58


def test_the_bad_file_shares_no_ticket_with_the_courses_own():
    text = BAD.read_bytes().decode("utf-8", "replace")
    for split in ("train", "validation", "test", "examiner"):
        assert not [ticket.id for ticket in load_split(split) if ticket.ticket in text]
