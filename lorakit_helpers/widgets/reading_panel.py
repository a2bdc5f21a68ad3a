"""Two models' answers side by side, ticket by ticket; or hidden behind "first" and "second", with votes."""

import html

import ipywidgets as w

from ..errors import LorakitError
from ..reading import Pair, deal, differing_fields, sentence, tally
from ..tickets import KEYS, parse_answer
from ._panel import Panel, side_by_side
from ._status import status

__all__ = ["ReadingPanel", "pair_html"]

_VOTES = {"first": "First is better", "second": "Second is better", "same": "No difference"}


def pair_html(pair: Pair, names: tuple[str, str], answers: tuple[str, str], *, wanted: bool = True) -> str:
    """One ticket and two answers as a table. Where they differ the row says so in words and in bold type.

    Args:
        pair: whose ticket and right answer are shown.
        names: heads of the two columns.
        answers: the texts under them; a text that is no valid answer is shown as it is. All text is escaped.
        wanted: whether the right answer has a column.
    """
    parsed = [parse_answer(text)[0] for text in answers]
    differ = differing_fields(*answers)
    heads = ["field", *names, *(["wanted"] if wanted else []), "differs"]
    rows = []
    for key in KEYS if any(parsed) else ():
        bold = key in differ
        cells = [_cell(answer[key] if answer else "(not valid)", bold) for answer in parsed]
        cells += [_cell(pair.ticket.answer[key], False)] if wanted else []
        rows.append(f'<tr><th scope="row">{key}</th>{"".join(cells)}<td>{"differs" if bold else ""}</td></tr>')
    raw = [
        f'<p><b>{name}</b> is not a valid answer ({html.escape(parse_answer(text)[1])}):</p>'
        f'<pre style="white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere;margin:0 0 .5em">{html.escape(text)}</pre>'
        for name, text, answer in zip(names, answers, parsed, strict=True) if answer is None
    ]  # fmt: skip
    head = "".join(f'<th scope="col" style="text-align:left">{html.escape(name)}</th>' for name in heads)
    table = f'<table style="border-spacing:1em .1em;text-align:left"><tr>{head}</tr>{"".join(rows)}</table>' if rows else ""
    text = f'<blockquote style="white-space:pre-wrap;margin:.5em 1em">{html.escape(pair.ticket.ticket)}</blockquote>'
    return f'<div style="max-width:60em;line-height:1.35">{text}{table}{"".join(raw)}</div>'


def _cell(value, bold: bool) -> str:
    text = "<em>null</em>" if value is None else html.escape(str(value))
    return f'<td style="text-align:left">{f"<b>{text}</b>" if bold else text}</td>'


class ReadingPanel(Panel):
    """Panel for notebook 09. ``controls`` and ``widget`` as in every panel; ``result`` is the vote's ``WinRate``.

    Args:
        pairs: what is read, from :func:`lorakit_helpers.reading.pairs_of`.
        seed: of the order in which hidden answers are shown.
    """

    def __init__(self, pairs: list[Pair], seed: int = 0):
        if not pairs:
            raise LorakitError("pairs to read", got="none", expected="at least one", do="Make them with pairs_of.")
        self.pairs, self.dealt, self.votes, self.revealed = list(pairs), deal(len(pairs), seed), {}, False
        style, self._quiet = {"description_width": "initial"}, False
        self.controls = {
            "ticket": w.IntSlider(
                value=1, min=1, max=len(pairs), description="Ticket", style=style, layout=w.Layout(width="400px")
            ),
            "previous": w.Button(description="Previous"), "next": w.Button(description="Next"),
            "blind": w.Checkbox(value=False, description="Blind: hide whose answer it is", style=style),
            **{name: w.Button(description=text, layout=w.Layout(width="10em")) for name, text in _VOTES.items()},
            "reveal": w.Button(description="Reveal"), "reset": w.Button(description="Reset"),
        }  # fmt: skip
        self.sentence, self.answers = w.HTML(), w.HTML(layout=w.Layout(width="95%"))
        c = self.controls
        self.widget = w.VBox([
            side_by_side(c["ticket"], c["previous"], c["next"]), c["blind"],
            side_by_side(*(c[name] for name in _VOTES), c["reveal"], c["reset"]), self.sentence, self.answers,
        ])  # fmt: skip
        self._start = {"ticket": 1, "blind": False}
        for name in self._start:
            c[name].observe(lambda _: self.run(), "value")
        c["previous"].on_click(lambda _: self._move(-1))
        c["next"].on_click(lambda _: self._move(1))
        for name in _VOTES:
            c[name].on_click(lambda _, name=name: self.vote("no difference" if name == "same" else name))
        c["reveal"].on_click(lambda _: self.reveal())
        c["reset"].on_click(lambda _: self._reset())
        self.run()

    def run(self):
        """Show the pair the controls ask for; a problem is shown as a sentence."""
        if self._quiet:
            return self.result
        try:
            place, blind = self.controls["ticket"].value - 1, self.controls["blind"].value
            pair, hidden = self.pairs[place], blind and not self.revealed
            self.result = tally(self.votes, self.dealt)
            if hidden:
                shown = ("first", "second"), pair.shown(self.dealt[place])
            else:
                shown = ("base", "tuned"), (pair.base, pair.tuned)
            self.answers.value = pair_html(pair, *shown, wanted=not hidden)
            state = {"votes": self.votes, "dealt": self.dealt, "revealed": self.revealed}
            self.sentence.value = status(sentence(self.pairs, place, blind=blind, **state))
        except Exception as error:  # a callback's exception would be invisible in the page
            self._refuse(error)
        return self.result

    def vote(self, choice: str) -> None:
        """Vote on the pair that is shown, one of ``reading.CHOICES``, and go on to the next one."""
        if not self.controls["blind"].value or self.revealed:
            reason = "Press Reset to vote again." if self.revealed else "Tick the box: votes count while the names are hidden."
            self.sentence.value = status(reason, alert=True)
            return
        votes = self.votes | {self.controls["ticket"].value - 1: choice}
        try:
            tally(votes, self.dealt)
        except LorakitError as error:
            self._refuse(error)
            return
        self.votes = votes
        if self.controls["ticket"].value < len(self.pairs):
            self._move(1)
        else:
            self.run()

    def reveal(self) -> None:
        """End the vote: whose answers they were, and the win rate with its interval."""
        if not self.votes:
            self.sentence.value = status("No vote yet: tick the box, read, and vote first.", alert=True)
            return
        self.revealed = True
        self.run()

    def _move(self, by: int) -> None:
        ticket = self.controls["ticket"]
        ticket.value = min(max(ticket.value + by, ticket.min), ticket.max)  # a changed value redraws by itself

    def _reset(self) -> None:
        self.votes, self.revealed = {}, False
        self._to_start()
        self.run()

    def _refuse(self, error: Exception) -> None:
        self.result, self.answers.value = None, ""
        self.sentence.value = status(str(error), alert=True)
