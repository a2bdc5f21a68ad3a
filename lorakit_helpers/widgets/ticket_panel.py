"""A text box for the learner's own ticket and a button that asks the model."""

import html

import ipywidgets as w

from ..evaluation import generate
from ..tickets import KEYS, SYSTEM_PROMPT, parse_answer, to_messages
from ._panel import Panel
from ._status import status

__all__ = ["TicketPanel", "answer_html", "ask"]


def ask(model, tokenizer, text: str, system_prompt: str = SYSTEM_PROMPT) -> str:
    """The model's greedy answer to one ticket, as text.

    Raises:
        LorakitError: when the ticket is empty.
    """
    from ..errors import LorakitError

    if not text.strip():
        raise LorakitError("ticket", got="an empty text", expected="what a customer wrote", do="Type a few words.")
    return generate(model, tokenizer, [to_messages(text.strip(), system_prompt)], batch_size=1)[0]


def answer_html(output: str) -> str:
    """An answer as a table when it is valid, else the raw text and the reason. Model text is escaped."""
    answer, reason = parse_answer(output)
    if answer is None:
        return f"<pre style='white-space:pre-wrap'>{html.escape(output)}</pre><p>Not a valid answer: {html.escape(reason)}</p>"
    rows = "".join(
        f"<tr><th scope='row' style='text-align:left'>{key}</th><td style='text-align:left'>"
        f"{'<em>null</em>' if answer[key] is None else html.escape(str(answer[key]))}</td></tr>"
        for key in KEYS
    )
    return f"<table><caption>The model's answer</caption>{rows}</table>"


class TicketPanel(Panel):
    """Ask a model about a ticket you type. ``controls``, ``result`` and ``widget`` as in every panel."""

    def __init__(self, model, tokenizer, example: str, system_prompt: str = SYSTEM_PROMPT):
        self._ask = lambda text: ask(model, tokenizer, text, system_prompt)
        self.result = ""
        wide = w.Layout(width="95%")
        self.text = w.Textarea(example, description="Ticket", layout=w.Layout(width="95%", height="7em"))
        self.button = w.Button(description="Ask the model", button_style="primary")
        self.reset = w.Button(description="Reset")
        self.sentence = w.HTML(status("Press the button to ask."))
        self.answer = w.HTML(layout=wide)
        self.controls = {"text": self.text, "button": self.button, "reset": self.reset}
        self.widget = w.VBox([self.text, w.HBox([self.button, self.reset]), self.sentence, self.answer])
        self.button.on_click(lambda _: self.run())
        self.reset.on_click(lambda _: self._reset(example))

    def run(self) -> str:
        """Ask about the text in the box and show the answer; a problem is shown as a sentence."""
        self.button.disabled = True
        self.sentence.value = status("The model is answering …")
        try:
            self.result = self._ask(self.text.value)
            self.answer.value = answer_html(self.result)
            valid = parse_answer(self.result)[0] is not None
            self.sentence.value = status("Valid JSON with the five keys." if valid else "Not the JSON that was asked for.")
        except Exception as error:  # a callback's exception would be invisible in the page
            self.answer.value, self.result = "", ""
            self.sentence.value = status(str(error), alert=True)
        finally:
            self.button.disabled = False
        return self.result

    def _reset(self, example):
        self.text.value, self.answer.value, self.result = example, "", ""
        self.sentence.value = status("Press the button to ask.")
