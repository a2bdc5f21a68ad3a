"""The same text to one model with different adapters on: choose, ask, compare."""

import html
import time

import ipywidgets as w

from ._panel import Panel, labelled
from ._status import status

__all__ = ["SwapPanel", "answers_html"]


def answers_html(answers: dict[str, str]) -> str:
    """Adapters and what they wrote, newest first, as a table; all text is escaped."""
    rows = "".join(
        f'<tr><th scope="row" style="text-align:left;vertical-align:top;padding-right:1em">{html.escape(name)}</th>'
        f'<td style="text-align:left;white-space:pre-wrap">{html.escape(text)}</td></tr>'
        for name, text in reversed(answers.items())
    )
    return f'<table style="line-height:1.35;max-width:60em">{rows}</table>' if answers else ""


class SwapPanel(Panel):
    """Panel for notebook 10. ``controls``, ``result`` (answers by adapter) and ``widget`` as in every panel.

    Args:
        ask: from an adapter's name and a text to ``(answer, milliseconds of the switch)``.
        names: the adapters' names, in the order shown.
        example: the text in the box at first.
    """

    def __init__(self, ask, names: list[str], example: str):
        self._ask, self.result = ask, {}
        self.controls = {
            "adapter": w.Dropdown(options=list(names), description="Adapter", **labelled(320)),
            "text": w.Textarea(example, description="Text", layout=w.Layout(width="95%", height="7em")),
            "ask": w.Button(description="Ask", button_style="primary"),
            "reset": w.Button(description="Reset"),
        }
        self._start = {"adapter": names[0], "text": example}
        self.sentence, self.answers = w.HTML(), w.HTML(layout=w.Layout(width="95%"))
        c = self.controls
        self.widget = w.VBox([c["adapter"], c["text"], w.HBox([c["ask"], c["reset"]]), self.sentence, self.answers])
        c["ask"].on_click(lambda _: self.run())
        c["reset"].on_click(lambda _: self._reset())
        self._say("Choose an adapter and press Ask; the answers stay for comparison.")

    def run(self) -> dict[str, str]:
        """Ask the chosen adapter about the text in the box; a problem is shown as a sentence."""
        name, text = self.controls["adapter"].value, self.controls["text"].value.strip()
        self.controls["ask"].disabled = True
        self._say(f"{name} is answering …")
        try:
            if not text:
                self._say("Type a text first.", alert=True)
                return self.result
            start = time.perf_counter()
            answer, switch_ms = self._ask(name, text)
            self.result = {key: value for key, value in self.result.items() if key != name} | {name: answer}
            self.answers.value = answers_html(self.result)
            seconds = time.perf_counter() - start
            self._say(f"{name} answered in {seconds:.1f} s, of which the switch took {switch_ms:.1f} ms.")
        except Exception as error:  # a callback's exception would be invisible in the page
            self._say(str(error), alert=True)
        finally:
            self.controls["ask"].disabled = False
        return self.result

    def _say(self, text: str, alert: bool = False) -> None:
        self.sentence.value = status(text, alert=alert)

    def _reset(self) -> None:
        self._to_start()
        self.result, self.answers.value = {}, ""
        self._say("Choose an adapter and press Ask; the answers stay for comparison.")
