"""The ticket data: readable, literal, balanced, large enough, and without leaks between the splits."""

import json
import re
from collections import Counter
from functools import cache
from itertools import combinations

import pytest
from leaks import near_copy, near_pairs, sketch

from lorakit_helpers.files import project_root
from lorakit_helpers.tickets import INTENTS, KEYS, URGENCIES, load_split, load_tickets

SPLITS = {"train": 600, "validation": 100, "test": 150, "examiner": 90}
PAIRS = [*combinations(SPLITS, 2)]  # (seen while training or choosing, held out)


def path(split):
    return project_root() / "data" / "tickets" / f"{split}.jsonl"


@cache
def rows(split) -> list[dict]:
    """The file as the json module reads it, without the package."""
    return [json.loads(line) for line in path(split).read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_loads_as_it_is_written(split):
    loaded = load_tickets(path(split))
    assert [(t.id, t.ticket, t.answer) for t in loaded] == [(r["id"], r["ticket"], r["answer"]) for r in rows(split)]
    assert load_split(split) == loaded


@pytest.mark.parametrize("split", SPLITS)
def test_labels_are_literal_pieces_of_their_ticket(split):
    for row in rows(split):
        for key in ("order_id", "customer", "product"):
            assert row["answer"][key] is None or row["answer"][key] in row["ticket"], (row["id"], key)


@pytest.mark.parametrize("split", SPLITS)
def test_labels_have_no_space_around_them(split):
    for row in rows(split):
        assert all(value is None or value == value.strip() for value in row["answer"].values()), row["id"]


@pytest.mark.parametrize(("split", "least"), SPLITS.items())
def test_split_is_large_enough(split, least):
    assert len(rows(split)) >= least


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(("key", "words"), [("intent", INTENTS), ("urgency", URGENCIES)])
def test_each_intent_and_urgency_has_its_share(split, key, words):
    counts = Counter(row["answer"][key] for row in rows(split))
    assert set(counts) == set(words) and min(counts.values()) >= 0.12 * len(rows(split)), counts


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("key", ["order_id", "customer"])
def test_missing_values_occur_so_that_null_can_be_learned(split, key):
    missing = sum(row["answer"][key] is None for row in rows(split))
    assert 0.05 * len(rows(split)) <= missing <= 0.5 * len(rows(split))


def test_ids_are_unique_over_all_splits_and_name_their_split():
    every = [(split, row["id"]) for split in SPLITS for row in rows(split)]
    assert len({identifier for _, identifier in every}) == len(every)
    assert all(identifier.startswith(split + "-") for split, identifier in every)


def labels(many, key) -> set[str]:
    return {" ".join(row["answer"][key].casefold().split()) for row in many if row["answer"][key]}


@pytest.mark.parametrize(("seen", "held_out"), PAIRS)
@pytest.mark.parametrize("key", ["order_id", "customer", "product"])
def test_no_label_is_shared_between_splits(seen, held_out, key):
    assert labels(rows(held_out), key) & labels(rows(seen), key) == set()


@pytest.mark.parametrize("key", ["order_id", "customer", "product"])
def test_a_shared_label_would_be_seen_whatever_its_case(key):
    victim = next(row for row in rows("test") if row["answer"][key])
    planted = {**victim, "answer": victim["answer"] | {key: "  " + victim["answer"][key].upper()}}
    assert labels(rows("test"), key) & labels([*rows("train"), planted], key)


@pytest.mark.parametrize(("seen", "held_out"), [pair for pair in PAIRS if pair != ("train", "validation")])
def test_no_test_order_number_stands_in_another_splits_text(seen, held_out):
    text = "\n".join(row["ticket"].casefold() for row in rows(seen))
    whole = (rf"(?<!\w){re.escape(order)}(?!\w)" for order in labels(rows(held_out), "order_id"))
    assert [order for order in whole if re.search(order, text)] == []


@pytest.fixture(scope="module")
def sketches():
    return {split: {row["id"]: sketch(row["ticket"]) for row in rows(split)} for split in SPLITS}


@pytest.mark.parametrize(("seen", "held_out"), PAIRS)
def test_no_ticket_is_a_near_copy_of_one_in_another_split(sketches, seen, held_out):
    assert near_pairs(sketches[seen], sketches[held_out]) == []


@pytest.mark.parametrize(("seen", "held_out"), PAIRS)
def test_a_planted_near_copy_is_found(sketches, seen, held_out):
    victim = max(rows(seen), key=lambda row: len(row["ticket"]))
    found = near_pairs(sketches[seen], sketches[held_out] | {"planted": sketch(near_copy(victim["ticket"]))})
    assert [pair[:2] for pair in found] == [("planted", victim["id"])]


def test_schema_file_and_package_name_the_same_keys_and_words():
    schema = json.loads((project_root() / "data" / "tickets" / "schema.json").read_text(encoding="utf-8"))
    answer = schema["properties"]["answer"]
    assert tuple(answer["required"]) == tuple(answer["properties"]) == KEYS
    assert tuple(answer["properties"]["intent"]["enum"]) == INTENTS
    assert tuple(answer["properties"]["urgency"]["enum"]) == URGENCIES
