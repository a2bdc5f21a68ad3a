"""Splits keep near-copies together, lengths cost what counting says, packing is within its bound."""

import collections
import random

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from trl import pack_dataset

from lorakit_helpers.data import (
    diversity,
    length_cost,
    length_stats,
    near_duplicate_groups,
    pack_first_fit,
    shuffle_rows,
    size_advice,
    split_rows,
)
from lorakit_helpers.data.similarity import Sketches, shingles
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.tickets import load_split, to_conversation

QUICK = settings(max_examples=60, deadline=None, database=None)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=60)


def jaccard(a: set, b: set) -> float:
    return len(a & b) / len(a | b)


def copies(count=120, seed=0) -> list[dict]:
    """Rows in families of 1 to 4: the text and copies of it with one word changed."""
    chance = random.Random(seed)
    rows = []
    for family in range(count):
        words = [f"w{chance.randrange(5000)}" for _ in range(40)]
        for _ in range(1 + family % 4):
            words[chance.randrange(40)] = f"x{chance.randrange(5000)}"
            rows.append({"instruction": " ".join(words), "output": "Yes, indeed.", "family": family})
    chance.shuffle(rows)
    return rows


@pytest.mark.parametrize("seed", range(5))
def test_no_family_of_near_copies_is_in_two_parts_and_no_row_is_lost(seed):
    rows = copies(seed=seed)
    made = split_rows(rows, validation=0.1, test=0.2, seed=seed)
    parts = [{row["family"] for row in part} for part in (made.train, made.validation, made.test)]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]
    together = [*made.train, *made.validation, *made.test]
    assert sorted(map(id, together)) == sorted(map(id, rows))
    assert made.groups == 120 and (len(parts[1]), len(parts[2])) == (12, 24)


def test_a_split_without_groups_would_have_leaked():
    rows = copies()
    made = split_rows(rows, groups=range(len(rows)))
    assert {row["family"] for row in made.train} & {row["family"] for row in made.test}


def test_the_seed_decides_the_split_and_the_order():
    rows = copies()
    assert split_rows(rows, seed=3) == split_rows(rows, seed=3) != split_rows(rows, seed=4)
    assert shuffle_rows(rows, 3) == shuffle_rows(rows, 3) != shuffle_rows(rows, 4)
    assert sorted(map(id, shuffle_rows(rows, 3))) == sorted(map(id, rows))


@pytest.mark.parametrize(("kinds", "validation", "test"), [(3, 0.5, 0.25), (5, 0.8, 0.1), (3, 0.9, 0.05), (4, 0.1, 0.8)])
def test_every_part_that_is_asked_for_gets_a_group(kinds, validation, test):
    rows = [{"n": i} for i in range(20)]
    made = split_rows(rows, validation=validation, test=test, groups=[i % kinds for i in range(20)])
    assert made.train and made.validation and made.test
    assert len(made.train) + len(made.validation) + len(made.test) == 20


def test_given_groups_stay_whole_whatever_they_are():
    rows = [{"n": i} for i in range(60)]
    groups = [None if i % 5 == 0 else ("customer", i % 7) for i in range(60)]
    made = split_rows(rows, validation=0, test=0.3, groups=groups)
    assert made.validation == [] and len(made.train) + len(made.test) == 60
    assert not {groups[row["n"]] for row in made.train} & {groups[row["n"]] for row in made.test}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"test": 1.0}, "share for test"),
        ({"test": -0.1}, "share for test"),
        ({"test": 0.5, "validation": 0.5}, "less than 1 together"),
        ({"groups": [1, 2]}, "one for each of"),
        ({"groups": [0] * 300}, "at least 3"),
    ],
)
def test_a_split_that_cannot_be_is_refused(options, said):
    rows = copies()
    assert len(rows) == 300
    with pytest.raises(LorakitError, match=said):
        split_rows(rows, **options)


def test_found_pairs_are_those_of_the_plain_formula():
    texts = [row["instruction"] for row in copies(60)] + [t.ticket for t in load_split("test")]
    for text in texts[:60]:  # half alike: often candidates, never near-copies
        words = text.split()
        words[::9] = ["other", "words", "stand", "here", "now"]
        texts.append(" ".join(words))
    sketches = Sketches()
    for text in texts:
        sketches.add(text)
    found = set(sketches.pairs(0.7))
    pieces = [shingles(text) for text in texts]
    exact = {(a, b): jaccard(pieces[a], pieces[b]) for b in range(len(texts)) for a in range(b)}
    assert found >= {pair for pair, alike in exact.items() if alike > 0.85}
    assert all(exact[pair] > 0.55 for pair in found) and found
    assert sum(0.35 < alike < 0.55 for alike in exact.values()) >= 60


def test_a_crowd_of_equal_texts_is_one_group_and_costs_a_chain_only():
    texts = ["the very same words over and over again in this text"] * 2000 + ["another thing altogether and nothing like it"]
    sketches = Sketches()
    for text in texts:
        sketches.add(text)
    assert len(sketches.pairs()) < 3 * 2000
    groups = near_duplicate_groups(texts)
    assert set(groups[:2000]) == {groups[0]} and groups[-1] != groups[0]


def test_diversity_by_hand_and_its_order():
    measured = diversity(["a b c", "a b d", "e f g"])
    assert (measured.distinct_1, measured.distinct_2) == (7 / 9, 5 / 6)
    tickets = [t.ticket for t in load_split("test")]
    same = [f"Please refund order {i} at once, thank you." for i in range(len(tickets))]
    varied, alike = diversity(tickets), diversity(same)
    assert alike.distinct_2 < varied.distinct_2 and alike.self_similarity > varied.self_similarity
    assert alike.compression_ratio > 2 * varied.compression_ratio and "distinct-2" in str(varied)


@QUICK
@given(LENGTHS)
def test_percentiles_are_the_smallest_length_that_covers_the_share(lengths):
    made = length_stats(lengths)
    for percent, got in ((50, made.p50), (90, made.p90), (95, made.p95), (99, made.p99)):
        assert got == min(x for x in lengths if sum(y <= x for y in lengths) * 100 >= percent * len(lengths))
    assert (made.rows, made.tokens, made.longest, made.shortest) == (len(lengths), sum(lengths), max(lengths), min(lengths))


@QUICK
@given(LENGTHS, st.integers(1, 70), st.integers(1, 9))
def test_costs_are_what_building_the_batches_gives(lengths, limit, size):
    made = length_cost(lengths, limit, batch_size=size, prompt_lengths=[x // 2 for x in lengths])
    cut = [min(x, limit) for x in lengths]

    def computed(rows):
        batches = [rows[i : i + size] for i in range(0, len(rows), size)]
        filled = [[row + [0] * (max(map(len, batch)) - len(row)) for row in batch] for batch in batches]
        return sum(len(row) for batch in filled for row in batch)

    assert made.tokens_padded == computed([[1] * x for x in cut])
    assert made.tokens_padded_sorted == computed([[1] * x for x in sorted(cut)])
    if len(cut) % size == 0:  # a smaller last batch can turn it round: 2, 2 | 1 costs 5, 1, 2 | 2 costs 6
        assert made.tokens_padded_sorted <= made.tokens_padded and made.padding_share_sorted <= made.padding_share
    assert made.tokens_kept + made.tokens_cut == sum(lengths) and made.rows_cut == sum(x > limit for x in lengths)
    assert made.answers_lost == sum(x > limit and x // 2 >= limit for x in lengths) <= made.answers_cut == made.rows_cut
    assert 0 <= made.padding_share_sorted < 1 and 0 <= made.padding_share < 1 and 0 < made.packing_efficiency <= 1


@QUICK
@given(LENGTHS, st.integers(1, 70))
def test_packing_is_plain_first_fit_decreasing_and_fits(lengths, limit):
    made = pack_first_fit(lengths, limit)
    cut = [min(x, limit) for x in lengths]
    assert sorted(i for one in made for i in one) == list(range(len(lengths)))
    rooms, plain = [], []
    for i in sorted(range(len(cut)), key=lambda i: -cut[i]):
        at = next((b for b, room in enumerate(rooms) if room >= cut[i]), len(rooms))
        if at == len(rooms):
            rooms.append(limit)
            plain.append([])
        rooms[at] -= cut[i]
        plain[at].append(i)
    assert made == plain
    assert length_cost(lengths, limit).sequences_packed == len(plain)


def test_packing_needs_about_as_many_sequences_as_trls_best_fit():
    chance = random.Random(0)
    lengths = [min(512, int(chance.lognormvariate(4.5, 0.8)) + 1) for _ in range(900)]
    rows = Dataset.from_dict({"input_ids": [[1] * n for n in lengths]})
    best_fit = len(pack_dataset(rows, 512, "bfd"))
    assert abs(len(pack_first_fit(lengths, 512)) - best_fit) <= 0.02 * best_fit


@pytest.mark.parametrize(
    "call",
    [
        lambda: length_stats([]),
        lambda: length_stats([3, 0]),
        lambda: length_cost([1], 0),
        lambda: length_cost([1], 8, batch_size=True),
        lambda: length_cost([1], 8, prompt_lengths=[1, 2]),
        lambda: pack_first_fit([1], 1.5),
        lambda: size_advice("styel", 3),
        lambda: size_advice("style", -1),
    ],
)
def test_impossible_sizes_are_refused(call):
    with pytest.raises(LorakitError) as caught:
        call()
    assert caught.value.got and caught.value.expected and caught.value.do


@pytest.mark.parametrize(
    ("goal", "verdicts"),
    [
        ("style", {99: "too few", 100: "enough", 500: "enough", 501: "more than needed"}),
        ("task", {499: "too few", 500: "enough", 5_000: "enough", 5_001: "more than needed"}),
        ("domain", {4_999: "too few", 5_000: "enough", 50_000: "enough", 50_001: "enough"}),
        ("general", {9_999: "too few", 10_000: "enough", 10**6: "enough"}),
    ],
)
def test_size_advice_follows_the_courses_table(goal, verdicts):
    assert {rows: size_advice(goal, rows).verdict for rows in verdicts} == verdicts
    assert all(f"{rows:,} rows" in str(size_advice(goal, rows)) for rows in verdicts)


def test_the_courses_own_tickets_split_without_a_group_of_copies():
    rows = [to_conversation(t) for t in load_split("test")]
    made = split_rows(rows)
    assert made.groups == len(rows) and collections.Counter(map(len, (made.train, made.validation, made.test)))[15] == 2
