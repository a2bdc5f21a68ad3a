"""The ward round: the first answer counts, nothing is told before it, and every state is a sentence."""

import time

import pytest

from lorakit_helpers.clinic import visit
from lorakit_helpers.clinic_cases import CASES
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.widgets import CasePanel
from lorakit_helpers.widgets.case_panel import LETTERS, case_sentence


def made():
    """All cases with figures; one of them could not be shown."""
    found = [visit(name, 8.0 + i, 1.0, "nats", "tool <said> so") for i, name in enumerate(CASES)]
    found[7] = visit("4-bit evaluation", None, 1.0, "cosine", "", lower_is_better=False)
    return found


@pytest.fixture
def panel():
    return CasePanel(made())


def test_panel_tells_neither_name_nor_cure_nor_second_figure_before_an_answer(panel):
    for number, name in enumerate(CASES, 1):
        panel.controls["case"].value = number
        shown = panel.sentence.value + panel.symptom.value + panel.report.value
        case = CASES[name]
        assert case.cure not in shown and "After the cure" not in shown and panel.report.value == ""
        assert "Press Answer" in panel.sentence.value


def test_panel_says_right_or_not_with_the_reason_and_the_first_answer_stays(panel):
    case = CASES["too fast"]
    panel.controls["guess"].value = LETTERS[(case.right + 1) % 3]
    panel.controls["answer"].click()
    assert "Not quite" in panel.sentence.value and case.cure in panel.report.value and "0 of 1 right" in panel.sentence.value
    panel.controls["guess"].value = LETTERS[case.right]
    panel.controls["answer"].click()
    assert "first answer counts" in panel.sentence.value and panel.guesses == {"too fast": (case.right + 1) % 3}


def test_panel_all_cases_right_is_the_whole_score(panel):
    for number, case in enumerate(CASES.values(), 1):
        panel.controls["case"].value = number
        panel.controls["guess"].value = LETTERS[case.right]
        panel.controls["answer"].click()
    assert "All cases seen: 14 of 14 right" in panel.sentence.value


def test_panel_reset_forgets_the_answers(panel):
    panel.controls["answer"].click()
    panel.controls["case"].value = 9
    panel.controls["reset"].click()
    assert panel.guesses == {} and panel.controls["case"].value == 1 and panel.report.value == ""


def test_panel_sentence_is_that_of_the_pure_function_at_every_place(panel):
    import html

    for number in (1, 8, 14):
        for guess in LETTERS:
            panel.controls["case"].value, panel.controls["guess"].value = number, guess
            assert html.escape(case_sentence(panel.visits, number, guess, {})) in panel.sentence.value


def test_panel_escapes_what_tools_said(panel):
    panel.controls["answer"].click()
    assert "&lt;said&gt;" in panel.report.value and "<said>" not in panel.report.value


def test_panel_picture_changes_with_the_answer(panel):
    before = panel.image.value
    panel.controls["answer"].click()
    assert panel.image.value[:4] == b"\x89PNG" and panel.image.value != before


def test_panel_redraws_within_a_tenth_of_a_second(panel):
    times = []
    for number in range(1, 15):
        start = time.process_time()
        panel.controls["case"].value = number
        times.append(time.process_time() - start)
    assert sorted(times)[len(times) // 2] < 0.1


def test_panel_problem_is_a_sentence(panel, monkeypatch):
    monkeypatch.setattr("lorakit_helpers.widgets.case_panel.move_visit", lambda *_: 1 / 0)
    panel.controls["case"].value = 3
    assert "division by zero" in panel.sentence.value and panel.result is None and panel.symptom.value == ""


def test_panel_without_cases_is_refused():
    with pytest.raises(LorakitError, match="at least one"):
        CasePanel([])
