"""BM25 finds what shares rare words, in the order of the plain formula, and says so when nothing does."""

import math
from collections import Counter

import numpy as np
import pytest

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.handbook import load_articles, load_questions
from lorakit_helpers.retrieval import Hit, Retriever, found_within, stems

TEXTS = [article.passage for article in load_articles()]
SHELF = Retriever(TEXTS)


def by_formula(query, texts, k1=1.5, b=0.75) -> list[float]:
    """Lucene's BM25, written out."""
    many = [Counter(words) for words in stems(texts)]
    mean = sum(sum(one.values()) for one in many) / len(many)
    scores = []
    for one in many:
        score = 0.0
        for word in stems([query])[0]:
            n = sum(word in other for other in many)
            if n:
                idf = math.log(1 + (len(many) - n + 0.5) / (n + 0.5))
                score += idf * one[word] / (one[word] + k1 * (1 - b + b * sum(one.values()) / mean))
        scores.append(score)
    return scores


@pytest.mark.parametrize("question", load_questions("train")[::24], ids=lambda q: q.id)
def test_scores_are_those_of_the_formula(question):
    wanted = by_formula(question.question, TEXTS)
    hits = SHELF.search(question.question, 5)
    assert [hit.score for hit in hits] == pytest.approx([wanted[hit.index] for hit in hits], rel=1e-4)
    assert [hit.score for hit in hits] == pytest.approx([s for s in sorted(wanted, reverse=True)[:5] if s > 0], rel=1e-4)


@pytest.mark.parametrize("query", ["", "the of and", "xyzzy plugh", "..."])
def test_a_query_without_a_known_word_finds_nothing(query):
    assert SHELF.search(query, 3) == []


def test_only_texts_that_share_a_word_are_found_and_ties_keep_their_order():
    shelf = Retriever(["red kettle", "blue tent", "red kettle", "green boots"])
    assert [hit.index for hit in shelf.search("a red kettle", 4)] == [0, 2]


def test_endings_do_not_hide_a_word():
    assert stems(["Kettles blinking"]) == stems(["kettle blinks"])


def test_more_than_there_is_gives_all_that_match():
    assert len(SHELF.search("warranty guarantee box", 500)) <= len(TEXTS)


@pytest.mark.parametrize("k", [0, -1, 1.5, True, "3"])
def test_k_must_be_a_whole_number(k):
    with pytest.raises(LorakitError, match="whole number of at least 1"):
        SHELF.search("kettle", k)


@pytest.mark.parametrize(("texts", "told"), [([], "none"), ("a text", "one text"), (["the", "of"], "stop words")])
def test_nothing_to_search_is_an_error(texts, told):
    with pytest.raises(LorakitError, match=told):
        Retriever(texts)


def test_found_within_counts_the_first_k_only():
    hits = [[Hit(4, 2.0), Hit(1, 1.5), Hit(0, 1.0)], [], [Hit(2, 3.0)]]
    for k, wanted in ((1, [0, 0, 1]), (2, [0, 0, 1]), (3, [1, 0, 1])):
        assert found_within(hits, [0, 5, 2], k).tolist() == wanted
    with pytest.raises(LorakitError, match="one of each per question"):
        found_within(hits, [0], 1)


def test_recall_grows_with_k_on_the_handbook():
    questions = load_questions("train")
    places = {article.id: i for i, article in enumerate(load_articles())}
    hits = [SHELF.search(q.question, 5) for q in questions]
    recall = [float(np.mean(found_within(hits, [places[q.article] for q in questions], k))) for k in (1, 3, 5)]
    assert recall == sorted(recall) and recall[0] > 0.9


def test_nothing_is_printed(capfd):
    Retriever(TEXTS).search("Which kettle?", 2)
    assert capfd.readouterr() == ("", "")
