"""The plain-style data: readable, large enough, the same figures on both sides, and without leaks between the splits."""

import json
import re
from collections import Counter
from functools import cache
from itertools import combinations

import pytest
from jsonschema import Draft202012Validator
from leaks import near_copy, near_pairs, sketch

from lorakit_helpers.facts import facts
from lorakit_helpers.files import project_root
from lorakit_helpers.plain_style import load_pairs, load_split, score_rewritings
from lorakit_helpers.plain_style_report import hand_listed_names, planted_names, planted_numbers, planted_words, separation

FOLDER = project_root() / "data" / "plain_style"
SPLITS = {"train": 200, "validation": 40, "test": 40}
PAIRS = [*combinations(SPLITS, 2)]
#: Words of names that two splits may share: kinds of thing, not who it is.
GENERIC = {
    "academy", "air", "article", "basic", "board", "ceramics", "co-operative", "club", "committee", "conditions", "court",
    "dental", "department", "fund", "glass", "hall", "harbour", "heron", "lane", "little", "office", "online", "plot",
    "practice", "rise", "road", "room", "row", "scheme", "second", "section", "society", "square", "street", "terms",
    "unit", "water", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "january", "october",
}  # fmt: skip


@cache
def rows(split) -> list[dict]:
    """The file as the json module reads it, without the package."""
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").split("\n") if line]


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_loads_as_it_is_written(split):
    loaded = load_pairs(FOLDER / f"{split}.jsonl")
    assert [(p.id, p.stiff, p.plain, p.voice) for p in loaded] == [
        (r["id"], r["stiff"], r["plain"], r["voice"]) for r in rows(split)
    ]
    assert load_split(split) == loaded


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_keeps_the_schema(split):
    schema = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    assert [error.message for row in rows(split) for error in Draft202012Validator(schema).iter_errors(row)] == []


@pytest.mark.parametrize(("split", "least"), SPLITS.items())
def test_split_is_large_enough(split, least):
    assert len(rows(split)) >= least


def test_ids_are_unique_over_all_splits_and_name_their_split():
    every = [(split, row["id"]) for split in SPLITS for row in rows(split)]
    assert len({identifier for _, identifier in every}) == len(every)
    assert all(identifier.startswith(split + "-") for split, identifier in every)


@pytest.mark.parametrize("split", SPLITS)
def test_both_texts_of_a_pair_hold_the_same_figures(split):
    figure = re.compile(r"\d[\d.,:/-]*\d|\d")
    for row in rows(split):
        assert set(figure.findall(row["stiff"])) == set(figure.findall(row["plain"])), row["id"]


@pytest.mark.parametrize("split", SPLITS)
def test_texts_have_no_space_around_them_and_a_sane_length(split):
    for row in rows(split):
        for key, most in (("stiff", 85), ("plain", 70)):
            assert row[key] == row[key].strip() and 8 <= len(row[key].split()) <= most, (row["id"], key)


@pytest.mark.parametrize("key", ["stiff", "plain"])
def test_no_three_texts_open_with_the_same_five_words(key):
    opened = Counter(" ".join(row[key].casefold().split()[:5]) for split in SPLITS for row in rows(split))
    assert [words for words, times in opened.items() if times > 2] == []


@cache
def found(split, kind) -> set[str]:
    """Names, or codes of letters and digits or of four digits and more, in either text of a split."""
    every = [item for row in rows(split) for key in ("stiff", "plain") for item in facts(row[key]).items()]
    if kind == "name":
        return {fact.casefold() for fact, its in every if its == "name" and len(fact) > 1}
    codes = {fact for fact, its in every if its == "figure" and re.fullmatch(r"(?=.*\d)(?=.*[A-Z])\S{4,}|\d{4,}|\d+-\S+", fact)}
    return {code for code in codes if not re.fullmatch(r"(19|20)\d\d", code)}


@pytest.mark.parametrize(("seen", "held_out"), PAIRS)
@pytest.mark.parametrize("kind", ["name", "code"])
def test_no_name_or_code_is_shared_between_splits(seen, held_out, kind):
    assert (found(seen, kind) & found(held_out, kind)) - GENERIC == set()


@pytest.mark.parametrize("kind", ["name", "code"])
def test_there_are_many_names_and_codes_to_share(kind):
    assert all(len(found(split, kind)) >= 5 for split in SPLITS)


def test_hand_listed_names_stand_in_both_texts_and_nowhere_in_training():
    held_out = {row["id"]: row for split in ("validation", "test") for row in rows(split)}
    training = "\n".join(row[key] for row in rows("train") for key in ("stiff", "plain"))
    for identifier, names in hand_listed_names().items():
        for name in names:
            assert name in held_out[identifier]["stiff"] and name in held_out[identifier]["plain"], (identifier, name)
            assert name not in training, (identifier, name)


@pytest.fixture(scope="module", params=["stiff", "plain"])
def sketches(request):
    made = {split: {row["id"]: sketch(row[request.param]) for row in rows(split)} for split in SPLITS}
    return request.param, made


@pytest.mark.parametrize(("seen", "held_out"), PAIRS)
def test_no_text_is_a_near_copy_of_one_in_another_split(sketches, seen, held_out):
    _, made = sketches
    assert near_pairs(made[seen], made[held_out]) == []


@pytest.mark.parametrize(("seen", "held_out"), PAIRS)
def test_a_planted_near_copy_is_found(sketches, seen, held_out):
    key, made = sketches
    victim = max(rows(seen), key=lambda row: len(row[key]))
    near = near_pairs(made[seen], made[held_out] | {"planted": sketch(near_copy(victim[key]))})
    assert [pair[:2] for pair in near] == [("planted", victim["id"])]


@pytest.mark.parametrize("split", SPLITS)
def test_references_look_plain_and_faithful_to_the_metric(split):
    pairs = load_split(split)
    assert score_rewritings([pair.plain for pair in pairs], pairs).metrics["plain and faithful"].value >= 0.97
    assert score_rewritings([pair.stiff for pair in pairs], pairs).metrics["plain and faithful"].value == 0.0
    easier, fewer, either = (metric.value for metric in separation(pairs))
    assert easier >= 0.98 and fewer >= 0.90 and either >= 0.98


def test_planted_faults_are_nearly_all_noticed():
    pairs = [pair for split in SPLITS for pair in load_split(split)]
    assert planted_numbers(pairs[::5]).mean() >= 0.99
    assert planted_words(pairs).mean() >= 0.95 and len(planted_words(pairs)) >= 40
    assert planted_names(pairs).mean() >= 0.95 and len(planted_names(pairs)) >= 90
