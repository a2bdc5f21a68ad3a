"""Panels: the controls do what they say, problems are shown as sentences, and model text cannot become HTML."""

import json
from html.parser import HTMLParser
from io import BytesIO

import matplotlib.image
import pytest

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.tickets import INTENTS, KEYS, SYSTEM_PROMPT, URGENCIES
from lorakit_helpers.training import TrainingLog
from lorakit_helpers.widgets import TicketPanel, TrainingPanel, ticket_panel
from lorakit_helpers.widgets._status import status
from lorakit_helpers.widgets.ticket_panel import answer_html, ask

EVIL = "<script>alert('x')</script>&<img src=x onerror=alert(1)>"
RIGHT = dict(zip(KEYS, ("A-1", None, "lamp", INTENTS[0], URGENCIES[0]), strict=True))


class Reader(HTMLParser):
    """Collects tags and text as a browser would."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def model(monkeypatch):
    """A stub that answers with what ``say`` holds and records what it was asked."""

    class Stub:
        say, asked = json.dumps(RIGHT), []

        def __call__(self, model, tokenizer, chats, **options):
            self.asked.append(chats)
            if isinstance(self.say, BaseException):
                raise self.say
            return [self.say] * len(chats)

    stub = Stub()
    stub.asked = []
    monkeypatch.setattr(ticket_panel, "generate", stub)
    return stub


def panel(prompt=SYSTEM_PROMPT):
    return TicketPanel(None, None, "My lamp A-1 broke", prompt)


def test_status_is_announced_and_escaped():
    page = Reader(status(EVIL, alert=True))
    assert page.tags == ["div"] and page.text == EVIL
    assert page.attributes[0]["role"] == "status" and page.attributes[0]["aria-live"] == "polite"
    assert status("x") != status("x", alert=True)


@pytest.mark.parametrize("output", [EVIL, json.dumps(RIGHT | {"product": EVIL}), json.dumps(RIGHT | {EVIL: 1})])
def test_model_text_never_becomes_html(output):
    page = Reader(answer_html(output))
    assert not {"script", "img"} & set(page.tags) and "alert" in page.text


def test_valid_answer_is_a_table_of_the_five_keys():
    page = Reader(answer_html(json.dumps(RIGHT)))
    assert page.tags.count("th") == page.tags.count("td") == len(KEYS) and page.tags.count("em") == 1
    assert all(key in page.text and str(RIGHT[key] or "null") in page.text for key in KEYS)
    assert [a.get("scope") for tag, a in zip(page.tags, page.attributes, strict=True) if tag == "th"] == ["row"] * len(KEYS)


def test_null_and_the_word_null_look_different():
    assert answer_html(json.dumps(RIGHT)) != answer_html(json.dumps(RIGHT | {"customer": "null"}))


def test_invalid_answer_is_shown_raw_with_its_reason():
    page = Reader(answer_html("Dear customer,\n hello"))
    assert "Dear customer,\n hello" in page.text and "not JSON" in page.text and "table" not in page.tags


def test_ask_sends_the_stripped_ticket_with_the_prompt(model):
    assert ask(None, None, "  broken lamp \n", "Be brief.") == model.say
    (chat,) = model.asked[0]
    assert [turn["content"] for turn in chat] == ["Be brief.", "broken lamp"]


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_empty_ticket_is_refused_without_asking(model, text):
    with pytest.raises(LorakitError, match="ticket"):
        ask(None, None, text)
    assert not model.asked


def test_nothing_is_asked_before_the_button(model):
    shown = panel()
    assert not model.asked and shown.result == "" and shown.answer.value == ""


def test_button_asks_about_the_text_in_the_box(model):
    shown = panel("Be brief.")
    shown.controls["text"].value = "Where is my chair?"
    shown.controls["button"].click()
    assert [turn["content"] for turn in model.asked[0][0]] == ["Be brief.", "Where is my chair?"]
    assert shown.result == model.say and "lamp" in shown.answer.value and "Valid JSON" in shown.sentence.value
    assert not shown.button.disabled


@pytest.mark.parametrize("text", ["x", "My lamp A-1 broke", "long " * 5000], ids=["shortest", "default", "very long"])
def test_text_of_any_length_is_asked(model, text):
    shown = panel()
    shown.text.value = text
    assert shown.run() == model.say and model.asked[0][0][1]["content"] == text.strip()


def test_button_is_off_while_the_model_answers(model, monkeypatch):
    shown, seen = panel(), []
    shown._ask = lambda text: seen.append((shown.button.disabled, shown.sentence.value)) or model.say
    shown.run()
    assert seen[0][0] is True and "answering" in seen[0][1] and shown.button.disabled is False


def test_invalid_output_is_said_and_its_markup_is_inert(model):
    model.say = EVIL
    shown = panel()
    assert shown.run() == EVIL
    assert "script" not in Reader(shown.answer.value).tags and EVIL in Reader(shown.answer.value).text
    assert "Not the JSON" in shown.sentence.value


@pytest.mark.parametrize("fault", [RuntimeError(f"out of memory {EVIL}"), LorakitError("tokenizer", got="x", do="Load it.")])
def test_problem_in_the_callback_is_shown_as_a_sentence(model, fault):
    shown = panel()
    shown.run()
    model.say = fault
    assert shown.run() == ""
    assert shown.answer.value == "" and str(fault) in Reader(shown.sentence.value).text
    assert Reader(shown.sentence.value).tags == ["div"] and not shown.button.disabled


def test_empty_box_is_answered_with_what_to_do(model):
    shown = panel()
    shown.text.value = " "
    shown.button.click()
    assert "Type a few words" in shown.sentence.value and not model.asked


def test_reset_brings_the_example_back(model):
    shown = panel()
    fresh = (shown.text.value, shown.answer.value, shown.sentence.value, shown.result)
    shown.text.value = "something else"
    shown.run()
    assert (shown.text.value, shown.answer.value, shown.sentence.value, shown.result) != fresh
    shown.controls["reset"].click()
    assert (shown.text.value, shown.answer.value, shown.sentence.value, shown.result) == fresh


def test_every_control_is_labelled_and_in_the_widget():
    shown = panel()
    inside = [shown.text, *shown.widget.children[1].children]
    assert set(shown.controls.values()) == set(inside) and all(control.description for control in inside)


def log(step, max_steps=10, losses=((2, 3.5), (4, 1.25))):
    steps = [s for s, _ in losses if s <= step]
    return TrainingLog(max_steps, step, steps, [loss for s, loss in losses if s <= step], 1000, 4.0, 1.5)


def test_training_panel_shows_step_and_sentence_before_the_first_loss():
    shown = TrainingPanel()
    shown.update(log(1))
    assert (shown.bar.value, shown.bar.max) == (1, 10)
    assert "Step 1 of 10" in shown.sentence.value and not shown.image.value


def test_training_panel_draws_the_curve_as_png():
    shown = TrainingPanel(seconds_between_redraws=0)
    shown.update(log(4))
    pixels = matplotlib.image.imread(BytesIO(shown.image.value), format="png")
    assert pixels.shape[0] > 100 and pixels.shape[1] > pixels.shape[0] and pixels.std() > 0
    assert shown._ax.lines[0].get_xydata().tolist() == [[2, 3.5], [4, 1.25]]
    assert "1.250 at step 4" in shown.sentence.value


def test_training_panel_redraws_rarely_but_always_at_the_end():
    shown = TrainingPanel(seconds_between_redraws=1e9)
    shown._drawn = 0.0
    shown.update(log(4))
    assert not shown.image.value and shown.bar.value == 4
    shown.update(log(10))
    assert shown.image.value and shown.bar.value == shown.bar.max == 10


def test_training_panel_keeps_one_curve_over_many_redraws():
    shown = TrainingPanel(seconds_between_redraws=0)
    for step in (2, 4, 10):
        shown.update(log(step))
    assert len(shown._ax.lines) == 1


def test_training_panel_follows_its_own_log():
    shown = TrainingPanel(seconds_between_redraws=0)
    shown.log.max_steps, shown.log.step = 5, 3
    shown.log._tell()
    assert (shown.bar.value, shown.bar.max) == (3, 5)


@pytest.mark.parametrize(("step", "most"), [(0, 0), (3, 2), (0, 1)])
def test_training_panel_stands_odd_step_counts(step, most):
    shown = TrainingPanel()
    shown.update(log(9, 10))
    shown.update(log(step, most, ()))
    assert shown.bar.value <= shown.bar.max
