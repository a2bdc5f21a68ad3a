"""The handbook's rows are right and read strictly, its splits are apart, and an answer counts when it should."""

import json
import re
from difflib import SequenceMatcher

import numpy as np
import pytest
from faulty_files import fault_of
from faulty_files import write_lines as write
from leaks import near_copy, near_pairs, sketch

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.files import project_root
from lorakit_helpers.handbook import (
    ANSWER_WORDS,
    SYSTEM_PROMPT,
    answered,
    exactly,
    load_articles,
    load_changes,
    load_questions,
    question_rows,
    score_answers,
    to_question,
    with_changes,
    words,
)

FOLDER = project_root() / "data" / "handbook"
ARTICLES = {article.id: article for article in load_articles()}
QUESTIONS = load_questions()
CHANGES = load_changes()


def row(**changes) -> dict:
    start = {"id": "hb-A01-q1", "article": "hb-A01", "fact": "f1", "split": "train", "question": "How much?"}
    return start | {"answers": ["1.3 litres"]} | changes


def plain(text) -> str:
    return f" {' '.join(re.findall(r'[a-z0-9.]+', text.casefold()))} "


def test_there_are_as_many_rows_as_the_datasheet_says():
    sheet = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, found in (("articles", ARTICLES), ("questions", QUESTIONS), ("changes", CHANGES)):
        assert int(re.search(rf"`{name}.jsonl` \| (\d+) \|", sheet)[1]) == len(found)
    counts = re.search(r"(\d+) training and (\d+) test questions; (\d+) of the test", sheet)
    taught = [q for q in QUESTIONS if q.split == "test" and q.taught]
    assert [int(n) for n in counts.groups()] == [len(load_questions("train")), len(load_questions("test")), len(taught)]


@pytest.mark.parametrize("identifier", ARTICLES)
def test_each_article_is_asked_seven_times_and_two_of_its_facts_only_in_the_test(identifier):
    mine = [q for q in QUESTIONS if q.article == identifier]
    train, test = ([q.fact for q in mine if q.split == split] for split in ("train", "test"))
    assert len(train) == 4 and set(train) == {"f1", "f2", "f3"}
    assert len(test) == 3 and set(test) - set(train) == {"f4", "f5"}
    assert 55 <= len(ARTICLES[identifier].text.split()) <= 95


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.id)
def test_first_answer_stands_once_in_the_article_and_no_answer_in_the_question(question):
    text = ARTICLES[question.article].text
    assert question.id.startswith(question.article) and question.answers[0] in text
    whole = rf"(?<![\w.]){re.escape(question.answers[0].casefold())}(?!\w)"
    assert len(re.findall(whole, text.casefold())) == 1
    assert not answered(question.question, question.answers, longest=1000)


def test_both_training_questions_about_a_fact_have_an_answer_in_common_and_other_words():
    pairs = {}
    for question in load_questions("train"):
        pairs.setdefault((question.article, question.fact), []).append(question)
    twice = [pair for pair in pairs.values() if len(pair) == 2]
    assert len(twice) == len(ARTICLES)
    for one, other in twice:
        assert set(one.answers) & set(other.answers) and words(one.question) != words(other.question)


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.id)
def test_a_change_replaces_one_fact_that_a_taught_test_question_asks_for(change):
    question = next(q for q in QUESTIONS if q.id == change.question)
    old, new = ARTICLES[change.id].text.split(), change.text.split()
    parts = [op for op in SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if op[0] != "equal"]
    assert len(parts) == 1 and parts[0][2] - parts[0][1] <= 3
    assert question.article == change.id and question.split == "test" and question.taught
    assert change.answers[0] in change.text and not answered(change.answers[0], question.answers)
    assert not any(answered(change.text, [answer], longest=1000) for answer in question.answers)


def test_changes_replace_their_articles_only():
    after = with_changes(list(ARTICLES.values()), CHANGES)
    changed = {a.id: a.text for a in after if a != ARTICLES[a.id]}
    assert changed == {c.id: c.text for c in CHANGES} and [a.id for a in after] == list(ARTICLES)


def test_no_two_articles_share_their_name():
    names = [article.title.split()[0] for article in ARTICLES.values()]
    products = [name for name in names if name not in {"Policy:", "When", "Taking", "Hygiene", "Delivery"}]
    assert len(set(products)) == len(products)


def test_no_test_question_is_a_near_copy_of_a_training_question():
    train, test = ({q.id: sketch(q.question) for q in load_questions(split)} for split in ("train", "test"))
    assert near_pairs(train, test) == []


def test_a_planted_near_copy_would_be_found():
    victim = max(QUESTIONS, key=lambda q: len(q.question))
    found = near_pairs({victim.id: sketch(victim.question)}, {"planted": sketch(near_copy(victim.question))})
    assert [set(pair[:2]) for pair in found] == [{victim.id, "planted"}]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (row(article="hb-Z99"), "an article of the handbook"),
        (row(answers=["9 litres"]), "words that stand in article hb-A01"),
        (row(answers=[]), "a list of at least 1"),
        (row(split="dev"), "one of train, test"),
        (row(fact="f9"), "one of f1, f2"),
        (row(id="A01"), "text like ^hb-"),
        (row(mood="sour"), "Remove the key"),
    ],
)
def test_a_wrong_question_is_named_with_its_line(tmp_path, bad, told):
    path = write(tmp_path / "q.jsonl", row(), bad | ({} if bad["id"] == "A01" else {"id": "hb-A01-q2"}))
    message = fault_of(lambda place: load_questions(path=place), path)
    assert "line 2" in message and told in message


def test_a_change_without_its_new_answer_is_refused(tmp_path):
    change = {"id": "hb-A01", "text": "Holds 2 litres.", "question": "hb-A01-q5", "answers": ["3 litres"]}
    assert "words that stand in the new text" in fault_of(load_changes, write(tmp_path / "c.jsonl", change))


def test_an_unknown_split_is_refused():
    with pytest.raises(LorakitError, match="train or test"):
        load_questions("validation")


def test_rows_hold_question_passage_and_the_first_answer():
    questions = load_questions("train")[:2]
    bare, given = question_rows(questions), question_rows(questions, [["PAGE"], []])
    assert [r["completion"][0]["content"] for r in bare] == [q.answers[0] for q in questions]
    assert bare[0]["prompt"] == [*given[0]["prompt"][:1], {"role": "user", "content": questions[0].question}]
    assert given[0]["prompt"][1]["content"].startswith("PAGE") and questions[0].question in given[0]["prompt"][1]["content"]
    assert given[1] == bare[1] and to_question("x")[0] == {"role": "system", "content": SYSTEM_PROMPT}
    with pytest.raises(LorakitError, match="one list for each question"):
        question_rows(questions, [["PAGE"]])


RIGHT = [
    ("It holds 1.3 litres.", ["1.3 litres"]), ("1.3l", ["1.3 l"]), ("CR 2450 cell", ["CR2450"]),
    ("On THURSDAYS!", ["Thursdays"]),
    ("The motor: 38mm", ["38 mm"]), ("SPL-3B", ["SPL3B"]), ("Setu\u0301bal", ["Setúbal"]), ("£4.30", ["4.30"]),
]  # fmt: skip
WRONG = [
    ("21.3 litres", ["1.3 litres"]), ("1.35 l", ["1.3"]), ("17", ["7"]), ("70 minutes", ["7 minutes"]), ("left", ["eft"]),
    ("", ["7"]), ("9 mm", ["9 m"]), ("1:48", ["48"]), ("3,600 mm", ["600 mm"]), ("seventy", ["seven"]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "answers"), RIGHT)
def test_an_answer_counts_in_any_case_with_any_marks_and_spacing(text, answers):
    assert answered(text, answers) and not answered(text, ["something else"])


@pytest.mark.parametrize(("text", "answers"), WRONG)
def test_a_part_of_a_word_or_a_figure_is_no_answer(text, answers):
    assert not answered(text, answers)


@pytest.mark.parametrize("question", QUESTIONS[::20], ids=lambda q: q.id)
def test_reciting_the_article_does_not_win_and_a_sentence_does(question):
    text = ARTICLES[question.article].text
    assert answered(text, question.answers, longest=1000) and not answered(text, question.answers)
    assert answered(f"As far as I can tell it is {question.answers[0]}, dear customer.", question.answers)


def test_the_cap_is_where_it_is_said_to_be():
    filler = "word " * (ANSWER_WORDS - 1)
    assert answered(filler + "blue", ["blue"]) and not answered(filler + "word blue", ["blue"])


def test_exactly_takes_the_answer_and_nothing_else():
    assert exactly("1.3 Litres.", ["1.3 litres", "1.3 l"]) and exactly("1.3 L", ["1.3 litres", "1.3 l"])
    assert not exactly("about 1.3 litres", ["1.3 litres"]) and not exactly("", ["1.3 litres"])


def test_scores_are_the_means_of_the_rows():
    outputs, answers = ["blue", "It is blue.", "red", "blue"], [("blue",)] * 3 + [("green", "red")]
    scores = score_answers(outputs, answers)
    assert scores.correct["answered"].tolist() == [1, 1, 0, 0] and scores.correct["exact answer"].tolist() == [1, 0, 0, 0]
    for name, metric in scores.metrics.items():
        assert metric.value == np.mean(scores.correct[name]) and metric.low <= metric.value <= metric.high
    with pytest.raises(LorakitError, match="one output per question"):
        score_answers(outputs, answers[:2])


def test_files_are_as_json_reads_them():
    raw = [json.loads(line) for line in (FOLDER / "questions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(q.id, list(q.answers), q.split) for q in QUESTIONS] == [(r["id"], r["answers"], r["split"]) for r in raw]
