"""Facts are found whatever their form, and nothing that only looks like a fact is."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit_helpers.facts import check_facts, facts

QUICK = settings(max_examples=100, deadline=None, database=None)
MONTHS = ["January", "May", "August", "December"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("until 14 March 2026.", {"14 March": "date", "2026": "figure"}),
        ("on 5, 7 and 9 June,", {"5 June": "date", "7 June": "date", "9 June": "date"}),
        ("from 3 to 17 August", {"3 August": "date", "17 August": "date"}),
        ("at 09:10 to 15 May", {"09:10": "figure", "15 May": "date"}),
        ("for EUR 1,640.50.", {"EUR 1,640.50": "amount"}),
        ("for £12 now", {"£ 12": "amount"}),
        ("a 3.2% rate", {"3.2": "figure"}),
        ("code HX20PD or 4407-B.", {"HX20PD": "figure", "4407-B": "figure"}),
        ("RP/2026/0448, FN-882-K", {"RP/2026/0448": "figure", "FN-882-K": "figure"}),
        ("the 36th week, under 16s", {"36th": "figure", "16": "figure"}),
        ("within five days", {"5": "number word"}),
        ("by Mrs Okonjo-Lund's dog", {"Okonjo-Lund": "name"}),
        ("the plan 'Vela Home'", {"Vela": "name", "Home": "name"}),
        ("Velmora Cycles will pay.", {"Velmora": "name", "Cycles": "name"}),
        ("it pays. Pell & Dray come.", {"Pell": "name", "Dray": "name"}),
        ("closed on Fridays", {"Friday": "name"}),
        ("Please wait. We're late. Your Honour", {"Honour": "name"}),
        ("and I'm told the Bank won't pay, Dr. Vaal", {"Vaal": "name"}),
        ("", {}),
    ],
)  # fmt: skip
def test_facts_of_each_form_are_found_and_no_others(text, wanted):
    assert facts(text) == wanted


def test_a_copy_keeps_every_fact():
    text = "Ms Holt pays EUR 5.40 on 3 May at 10:15 for two nights."
    done = check_facts(text, text)
    assert done.faithful and done.retention == 1.0 and set(done.kept) == set(facts(text))


def test_an_empty_rewriting_loses_every_fact():
    done = check_facts("Ms Holt pays EUR 5.40.", "")
    assert done.kept == () and done.retention == 0.0 and set(done.lost) == {"Holt", "EUR 5.40"} and not done.added


def test_a_source_without_facts_cannot_lose_any():
    assert check_facts("we will pay", "we'll pay you").retention == 1.0


@pytest.mark.parametrize(
    ("source", "rewriting"),
    [
        ("within three months", "in 3 months"),
        ("not on Fridays", "never on a Friday"),
        ("the Company pays", "we pay"),
        ("an identity card", "bring your ID"),
        ("one document", "two things are missing"),
        ("Mr Pell's key", "the key of Pell"),
        ("by the committee", "the Committee says"),
    ],
)
def test_the_same_fact_in_other_words_is_neither_lost_nor_added(source, rewriting):
    assert check_facts(source, rewriting).faithful


@pytest.mark.parametrize(
    ("source", "rewriting", "lost", "added"),
    [
        ("EUR 5.40", "GBP 5.40", {"EUR 5.40"}, {"GBP 5.40"}),
        ("on 3 May and 4 June", "on 4 May and 3 June", {"3 May", "4 June"}, {"4 May", "3 June"}),
        ("in three days", "in four days", {"3"}, set()),
        ("to Ms Holt", "to Ms Halt", {"Holt"}, {"Halt"}),
        ("order 77-419", "order 77-491", {"77-419"}, {"77-491"}),
    ],
)
def test_changed_facts_are_named_on_both_sides(source, rewriting, lost, added):
    done = check_facts(source, rewriting)
    assert (set(done.lost), set(done.added)) == (lost, added) and not done.faithful
    assert all(fact in str(done) for fact in lost | added)


def test_facts_that_change_places_are_not_noticed():
    assert check_facts("from EUR 3 to EUR 4", "from EUR 4 to EUR 3").faithful, "the datasheet says so; tell it if this changes"


@QUICK
@given(st.integers(1, 28), st.sampled_from(MONTHS), st.integers(0, 99999))
def test_any_date_and_amount_is_found_as_written(day, month, cents):
    amount = f"{cents / 100:,.2f}"
    assert facts(f"pay EUR {amount} by {day} {month}") == {f"{day} {month}": "date", f"EUR {amount}": "amount"}


@QUICK
@given(st.text(max_size=80), st.text(max_size=80))
def test_every_fact_of_the_source_is_either_kept_or_lost(source, rewriting):
    done = check_facts(source, rewriting)
    assert sorted(done.kept + done.lost) == sorted(facts(source))
    assert 0 <= done.retention <= 1 and not set(done.added) & set(facts(source))


@QUICK
@given(st.text(max_size=80))
def test_no_figure_of_a_text_escapes(text):
    assert bool(re.search(r"\d", text)) <= bool(facts(text))
