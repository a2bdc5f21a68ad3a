"""Reading and voting: hidden names stay hidden, votes are counted as dealt, and model text cannot become HTML."""

import itertools
import time
from collections import Counter

import pytest
from scipy.stats import beta

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.reading import CHOICES, deal, differing_fields, pairs_of, representative, sentence, side_by_side, tally
from lorakit_helpers.tickets import KEYS, answer_text, load_split
from lorakit_helpers.widgets.reading_panel import ReadingPanel, pair_html

EVIL = "<script>alert('x')</script>&<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def tickets():
    return load_split("test")


def some_pairs(tickets):
    base = [EVIL if i % 2 else answer_text(t.answer | {"intent": "refund"}) for i, t in enumerate(tickets[:16])]
    return pairs_of(tickets[:16], base, [answer_text(t.answer) for t in tickets[:16]])


@pytest.fixture(scope="module")
def pairs(tickets):
    return some_pairs(tickets)


@pytest.fixture
def panel(pairs):
    return ReadingPanel(pairs)


def press(panel, *names):
    for name in names:
        panel.controls[name].click()


@pytest.mark.parametrize("n", [20, 24, 30])
def test_representative_tickets_have_the_intents_in_nearly_the_shares_of_the_whole(tickets, n):
    chosen = representative(tickets, n)
    assert len({t.id for t in chosen}) == n
    whole, part = (Counter(t.answer["intent"] for t in group) for group in (tickets, chosen))
    assert all(abs(part[intent] - n * count / len(tickets)) <= 1 for intent, count in whole.items())
    assert representative(tickets[::-1], n) == chosen


@pytest.mark.parametrize("n", [0, 151, 2.5])
def test_representative_refuses_a_number_it_cannot_take(tickets, n):
    with pytest.raises(LorakitError, match="150"):
        representative(tickets, n)


def test_differing_fields_are_those_in_which_the_values_differ(tickets):
    answer = tickets[0].answer
    for size in range(len(KEYS) + 1):
        for keys in itertools.combinations(KEYS, size):
            other = answer | {k: "low" if k == "urgency" else "cancel" if k == "intent" else "other" for k in keys}
            wanted = tuple(k for k in KEYS if answer[k] != other[k])
            assert differing_fields(answer_text(answer), answer_text(other)) == wanted
    assert differing_fields("text", answer_text(answer)) == KEYS and differing_fields("text", "text") == ()


def test_win_rate_counts_votes_for_the_model_that_was_dealt_there():
    for dealt in itertools.product((True, False), repeat=3):
        for choices in itertools.product(CHOICES, repeat=3):
            found = tally(dict(enumerate(choices)), dealt)
            for_tuned = ["first" if first else "second" for first in dealt]
            wins = sum(a == b for a, b in zip(choices, for_tuned, strict=True))
            ties = choices.count("no difference")
            assert (found.wins, found.ties, found.losses) == (wins, ties, 3 - wins - ties)


@pytest.mark.parametrize(("wins", "losses"), [(7, 3), (1, 19), (12, 12), (20, 0)])
def test_interval_of_the_win_rate_is_clopper_pearson_by_the_beta_distribution(wins, losses):
    n = wins + losses
    found = tally({i: "first" if i < wins else "second" for i in range(n)}, [True] * n)
    assert found.low == pytest.approx(beta.ppf(0.025, wins, losses + 1), abs=1e-9)
    assert found.high == pytest.approx(beta.ppf(0.975, wins + 1, losses) if losses else 1.0, abs=1e-9)
    assert found.verdict == {(1, 19): "the base model", (20, 0): "the tuned model"}.get((wins, losses), "neither")


def test_no_votes_or_only_ties_decide_nothing():
    assert tally({}, [True]).rate is None and tally({0: "no difference"}, [True]).verdict == "neither"
    assert "nothing is decided" in str(tally({}, [True]))


@pytest.mark.parametrize("votes", [{0: "left"}, {5: "first"}, {-1: "first"}])
def test_odd_votes_are_refused(votes):
    with pytest.raises(LorakitError, match="vote"):
        tally(votes, [True, False])


def test_deal_repeats_with_its_seed_and_is_a_fair_coin():
    assert deal(20, 3) == deal(20, 3) != deal(20, 4)
    assert 450 < sum(deal(1000)) < 550


def test_pairs_need_one_answer_of_each_model(tickets):
    for base, tuned in ((["a"], ["a", "b"]), (["a", "b"], ["a"]), ([], [])):
        with pytest.raises(LorakitError, match="one output per ticket"):
            pairs_of(tickets[:2], base, tuned)
    with pytest.raises(LorakitError, match="at least one"):
        ReadingPanel([])


def test_side_by_side_shows_ticket_answers_and_difference(pairs):
    text = side_by_side(pairs[1])
    assert pairs[1].ticket.ticket in text and EVIL in text and "differ in: " + ", ".join(KEYS) in text


def test_every_text_is_escaped(pairs):
    for names in (("base", "tuned"), ("first", "second")):
        page = pair_html(pairs[1], names, (EVIL, pairs[1].tuned))
        assert "<script" not in page and "<img" not in page and "&lt;script" in page
    trap = pairs_of([load_split("test")[0]], [EVIL], [answer_text(pairs[0].ticket.answer | {"product": EVIL})])
    assert "<script" not in pair_html(trap[0], ("base", "tuned"), (trap[0].base, trap[0].tuned))


def test_difference_is_told_in_words_not_only_in_type(pairs):
    page = pair_html(pairs[0], ("base", "tuned"), (pairs[0].base, pairs[0].tuned))
    differing = differing_fields(pairs[0].base, pairs[0].tuned)
    assert page.count("<td>differs</td>") == len(differing) == 1 or not differing


def test_slider_and_buttons_walk_through_the_tickets_and_stop_at_the_ends(panel, pairs):
    press(panel, "previous")
    assert panel.controls["ticket"].value == 1
    press(panel, *["next"] * 20)
    assert panel.controls["ticket"].value == len(pairs)
    for value in (1, 2, len(pairs)):
        panel.controls["ticket"].value = value
        assert sentence(pairs, value - 1) in panel.sentence.value


def test_blind_mode_shows_neither_names_nor_the_right_answer(panel):
    panel.controls["blind"].value = True
    for value in range(1, 17):
        panel.controls["ticket"].value = value
        page = panel.answers.value + panel.sentence.value
        assert not {"base", "tuned", "wanted"} & set(page.replace("<", " ").replace(">", " ").replace(".", " ").split())


def test_blind_mode_deals_answers_as_deal_says(panel, pairs):
    panel.controls["blind"].value = True
    for i, first in enumerate(deal(len(pairs))):
        panel.controls["ticket"].value = i + 1
        assert panel.answers.value == pair_html(pairs[i], ("first", "second"), pairs[i].shown(first), wanted=False)


def test_votes_by_button_are_the_votes_of_the_pure_function_and_revealed_at_the_end(panel):
    panel.controls["blind"].value = True
    press(panel, "first", "second", "same", "first")
    votes = {0: "first", 1: "second", 2: "no difference", 3: "first"}
    assert panel.votes == votes and panel.controls["ticket"].value == 5 and "4 of 16 voted" in panel.sentence.value
    assert "win rate" not in panel.sentence.value
    press(panel, "reveal")
    assert panel.result == tally(votes, panel.dealt) and str(panel.result) in panel.sentence.value
    assert "wanted" in panel.answers.value
    press(panel, "first")
    assert panel.votes == votes and "Reset" in panel.sentence.value


def test_votes_outside_blind_mode_and_a_reveal_without_votes_are_explained(panel):
    press(panel, "first")
    assert not panel.votes and "Tick the box" in panel.sentence.value
    press(panel, "reveal")
    assert not panel.revealed and "No vote yet" in panel.sentence.value


def test_last_pair_can_be_voted_on_and_a_vote_changed(panel):
    panel.controls["blind"].value = True
    panel.controls["ticket"].value = 16
    press(panel, "first", "second")
    assert panel.votes == {15: "second"}


def test_reset_forgets_the_votes_and_goes_to_the_first_ticket(panel):
    start = (panel.sentence.value, panel.answers.value)
    panel.controls["blind"].value = True
    press(panel, "first", "reveal", "next", "reset")
    assert (panel.sentence.value, panel.answers.value) == start and panel.votes == {} and not panel.revealed


def test_problem_is_shown_as_a_sentence(panel):
    panel.pairs = panel.pairs[:1]
    panel.controls["ticket"].value = 9
    assert panel.result is None and panel.answers.value == "" and "range" in panel.sentence.value


def test_redraw_is_quick(panel):
    begun = time.process_time()
    for value in (2, 5, 9, 3, 7, 1, 4, 8, 6, 10):
        panel.controls["ticket"].value = value
    assert (time.process_time() - begun) / 10 < 0.1
