"""Pairs are read strictly, asked in one way, and scored by figures whose oracle is the plain formula."""

import json
import socket

import numpy as np
import pytest
from faulty_files import fault_of
from faulty_files import write_lines as write

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.evaluation import compare
from lorakit_helpers.plain_style import (
    STIFF_PHRASES,
    SYSTEM_PROMPT,
    Pair,
    load_pairs,
    reading_grade,
    score_rewriting,
    score_rewritings,
    stiff_phrases,
    to_conversation,
    to_messages,
)

STIFF = "Kindly be advised that the remittance of EUR 5.40 to Ms Holt shall be effected prior to 4 May."
PLAIN = "We'll pay Ms Holt EUR 5.40. You'll see it before 4 May."


def row(identifier="p-1", **more) -> dict:
    return {"id": identifier, "stiff": STIFF, "plain": PLAIN} | more


def fault(path) -> str:
    return fault_of(load_pairs, path)


def test_right_rows_come_back_as_json_reads_them(tmp_path):
    path = write(tmp_path / "p.jsonl", row("a", voice="bank, grudging"), b"", row("b", plain="Zoë"))
    assert load_pairs(path) == [Pair("a", STIFF, PLAIN, "bank, grudging"), Pair("b", STIFF, "Zoë")]


@pytest.mark.parametrize("key", ["id", "stiff", "plain"])
def test_missing_key_is_named_with_its_line(tmp_path, key):
    bad = {name: value for name, value in row("b").items() if name != key}
    message = fault(write(tmp_path / "p.jsonl", row("a"), bad))
    assert "line 2, row" in message and f"'{key}'" in message and message.endswith("Add the key.")


@pytest.mark.parametrize(
    ("bad", "place", "says"),
    [
        (row("b", mood="sour"), "row", "'mood'"),
        (row("b", plain=" "), "plain", "some text"),
        (row("b", plain=None), "plain", "None"),
        (row("b", stiff=["x"]), "stiff", "string"),
        (row("a"), "id", "a new id (line 1 has it)"),
    ],
)
def test_wrong_row_is_named_with_line_place_and_datasheet_or_fix(tmp_path, bad, place, says):
    message = fault(write(tmp_path / "p.jsonl", row("a"), bad))
    assert f"line 2, {place}" in message and says in message
    assert any(fix in message for fix in ("Remove the key", "data/plain_style/README.md", "its own id"))


@pytest.mark.parametrize("line", [b"{broken", b"[1]", b"\xff", b'{"id": "a", "id": "b"}'])
def test_line_that_is_no_row_is_named(tmp_path, line):
    assert "line 2" in fault(write(tmp_path / "p.jsonl", row("a"), line))


@pytest.mark.parametrize("content", [None, b"", b"\n\n"])
def test_missing_or_empty_file_is_an_error(tmp_path, content):
    path = tmp_path / "p.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert "pair file" in fault(path)


def test_training_row_is_prompt_and_completion_without_the_voice():
    turn = to_conversation(Pair("a", STIFF, PLAIN, voice="grudging clerk"))
    assert [t["role"] for t in turn["prompt"] + turn["completion"]] == ["system", "user", "assistant"]
    assert turn["prompt"] == to_messages(STIFF) and turn["completion"][0]["content"] == PLAIN
    assert turn["prompt"][0]["content"] == SYSTEM_PROMPT and "grudging clerk" not in json.dumps(turn)


@pytest.mark.parametrize("text", ["We pay you back. It takes two days.", "The quick brown fox jumps over a lazy dog today."])
def test_reading_grade_is_the_published_formula(text):
    words, sentences = text.split(), text.count(".")
    characters = sum(len(word) for word in words)
    assert reading_grade(text) == pytest.approx(4.71 * characters / len(words) + 0.5 * len(words) / sentences - 21.43)


def test_dots_in_figures_and_titles_end_no_sentence():
    with_dots = "We will pay Dr. Vaal the sum of EUR 1,640.50 at 10.15 on Monday and no later."
    assert reading_grade(with_dots) == pytest.approx(
        reading_grade("We will pay Dr Vaal the sum of EUR 164050 at 1015 on Monday and no later.")
    )


def test_reading_grade_asks_the_network_for_nothing(monkeypatch):
    monkeypatch.setattr(socket, "socket", None)
    monkeypatch.setattr(socket, "create_connection", None)
    assert reading_grade("A sentence that was not scored before, about incomprehensibilities and 1 number.") > 0


def test_an_empty_text_has_a_grade_and_no_phrase_and_is_not_plain():
    score = score_rewriting("we will pay", "")
    assert (score.grade, score.phrases_per_100_words, score.words, score.plain_and_faithful) == (0.0, 0.0, 0, False)


def test_stiff_phrases_are_found_as_whole_words_whatever_their_case():
    assert stiff_phrases("PURSUANT TO clause 3, hereby") == ["PURSUANT TO", "hereby"]
    assert stiff_phrases("Marshall and Thuston whereby") == ["whereby"]


def test_no_phrase_is_listed_twice():
    assert len(set(STIFF_PHRASES)) == len(STIFF_PHRASES)


def test_score_has_each_part_and_says_it():
    score = score_rewriting(STIFF, "We shall pay Ms Holt EUR 4.50.")
    assert score.phrases == ("shall",) and score.phrases_per_100_words == pytest.approx(100 / 7)
    assert set(score.facts.lost) == {"EUR 5.40", "4 May"} and score.facts.added == ("EUR 4.50",)
    assert score.source_grade == reading_grade(STIFF) and not score.plain_and_faithful
    assert "14.3 stiff phrases per 100 words" in str(score) and "EUR 4.50" in str(score)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        (PLAIN, True),
        (STIFF, False),  # keeps all, but is no easier
        (PLAIN.replace("5.40", "4.50"), False),
        (PLAIN.replace("4 May", "then"), False),
        (PLAIN + " Ask Mr Renn.", False),
        ("Kindly note: " + PLAIN, False),
    ],
)
def test_plain_and_faithful_needs_all_three(text, right):
    assert score_rewriting(STIFF, text).plain_and_faithful is right


def test_aggregate_is_the_mean_of_the_single_scores_within_its_interval():
    outputs = [PLAIN, STIFF, "We'll pay."] * 4
    scores = score_rewritings(outputs, [Pair(str(i), STIFF, PLAIN) for i in range(12)])
    single = [score_rewriting(STIFF, text) for text in outputs]
    means = {
        "reading grade": [s.grade for s in single],
        "stiff phrases": [s.phrases_per_100_words for s in single],
        "facts kept": [s.facts.retention for s in single],
        "all facts kept": [not s.facts.lost for s in single],
        "plain and faithful": [s.plain_and_faithful for s in single],
    }
    for name, values in means.items():
        metric = scores.metrics[name]
        assert metric.value == pytest.approx(np.mean(values)) and metric.low < metric.value < metric.high and metric.n == 12
    assert "years" in str(scores.metrics["reading grade"]) and "%" in str(scores.metrics["facts kept"])
    assert json.loads(json.dumps(scores.to_dict())) == json.loads(json.dumps(scores.to_dict(), sort_keys=True))


def test_two_models_compare_on_the_same_pairs():
    pairs = [Pair(str(i), STIFF, PLAIN) for i in range(10)]
    before, after = score_rewritings([STIFF] * 10, pairs), score_rewritings([PLAIN] * 10, pairs)
    assert compare(before, after, "plain and faithful").difference == 1.0


@pytest.mark.parametrize("outputs", [[], ["one"]])
def test_outputs_must_match_the_pairs(outputs):
    with pytest.raises(LorakitError, match="one output per pair"):
        score_rewritings(outputs, [Pair("a", STIFF, PLAIN)] * 2 if outputs else [])
