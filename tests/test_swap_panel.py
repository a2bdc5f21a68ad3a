"""The panel that asks the same text with different adapters on."""

import pytest

from lorakit_helpers.widgets import SwapPanel
from lorakit_helpers.widgets.swap_panel import answers_html

NAMES = ["tickets", "plain style", "base model"]


def panel(ask=None):
    asked = []

    def echo(name, text):
        asked.append((name, text))
        return f"<{name}> {text}", 2.5

    made = SwapPanel(ask or echo, NAMES, "my lamp broke")
    return made, asked


@pytest.mark.parametrize("name", NAMES)
def test_the_chosen_adapter_is_asked_about_the_text_in_the_box(name):
    made, asked = panel()
    made.controls["adapter"].value = name
    made.controls["text"].value = "  hello  "
    made.controls["ask"].click()
    assert asked == [(name, "hello")] and made.result == {name: f"<{name}> hello"}
    assert f"{name} answered in" in made.sentence.value and "2.5 ms" in made.sentence.value
    assert not made.controls["ask"].disabled


def test_answers_stay_for_comparison_the_newest_first_and_are_escaped():
    made, _ = panel()
    for name in (*NAMES, "tickets"):
        made.controls["adapter"].value = name
        made.controls["ask"].click()
    assert list(made.result) == ["plain style", "base model", "tickets"]
    html = made.answers.value
    assert html.index("&lt;tickets&gt;") < html.index("&lt;base model&gt;") < html.index("&lt;plain style&gt;")
    assert "<tickets>" not in html and answers_html({}) == ""


def test_an_empty_text_asks_nobody_and_a_fault_is_a_sentence():
    made, asked = panel()
    made.controls["text"].value = "   "
    made.controls["ask"].click()
    assert asked == [] and "Type a text first." in made.sentence.value

    def broken(name, text):
        raise RuntimeError("no <memory> left")

    made, _ = panel(broken)
    made.controls["ask"].click()
    assert "no &lt;memory&gt; left" in made.sentence.value and not made.controls["ask"].disabled and made.result == {}


def test_reset_brings_back_the_start():
    made, _ = panel()
    start = made.sentence.value
    made.controls["adapter"].value, made.controls["text"].value = "base model", "other"
    made.controls["ask"].click()
    made.controls["reset"].click()
    assert made.result == {} and made.answers.value == "" and made.sentence.value == start
    assert (made.controls["adapter"].value, made.controls["text"].value) == ("tickets", "my lamp broke")
