"""The clinic's cases as a ward round: read what is seen, choose a diagnosis, learn whether it was right and why."""

import html

import ipywidgets as w
from matplotlib.figure import Figure

from ..clinic import Visit, score_guesses
from ..errors import LorakitError
from ..plots.clinic import describe_visit, move_visit, plot_visit
from ._panel import Panel, columns, labelled
from ._picture import Picture
from ._status import status

__all__ = ["CasePanel", "case_sentence"]

LETTERS = "ABC"
_BLOCK = "max-width:50em;line-height:1.4"


def case_sentence(visits: list[Visit], number: int, guess: str, guesses: dict) -> str:
    """What a learner is told: the figures as far as they may be known, the verdict, and the score.

    Args:
        visits: all cases.
        number: the one on show, from 1.
        guess: the letter that is chosen.
        guesses: first answers so far, ``{case id: place}``.
    """
    visit = visits[number - 1]
    case, place = visit.case, guesses.get(visit.case.id)
    head = f"Case {number} of {len(visits)}. {describe_visit(visit, answered=place is not None)}"
    if place is None:
        return f"{head} Chosen: {guess}, {case.options[LETTERS.index(guess)]}. Press Answer."
    right, why = case.judge(place)
    said = "Right" if right else "Not quite"
    points, given = score_guesses(guesses, [v.case for v in visits])
    end = "All cases seen: " if given == len(visits) else ""
    return f"{head} {said}: you said {LETTERS[place]}. {why} {end}{points} of {given} right so far."


class CasePanel(Panel):
    """Panel for notebook 11. ``controls``, ``result`` (the ``Visit`` on show) and ``widget`` as in every panel.

    Args:
        visits: the cases of this run.

    Attributes:
        guesses: first answers, case id to the chosen option's place.
    """

    def __init__(self, visits: list[Visit]):
        visits = list(visits)
        if not visits:
            raise LorakitError("cases", got="none", expected="at least one", do="Pass [visits[name] for name in CASES].")
        self.visits, self.guesses = visits, {}
        self.symptom, self.report, made = w.HTML(), w.HTML(), labelled(420)
        controls = {
            "case": w.IntSlider(value=1, min=1, max=len(visits), description="Case", **made),
            "guess": w.Dropdown(options=list(LETTERS), value="A", description="Diagnosis", **made),
            "answer": w.Button(description="Answer"),
            "reset": w.Button(description="Reset"),
        }
        controls["answer"].on_click(lambda _: self.answer())
        buttons = w.HBox([controls["answer"], controls["reset"]])
        rows = [controls["case"], self.symptom, columns([controls["guess"]], [buttons])]
        self._wire(controls, rows=rows, below=[self.report])

    def answer(self) -> None:
        """Answer the case on show with the letter that is chosen; the first answer stays."""
        case = self.visits[self.controls["case"].value - 1].case
        if case.id in self.guesses:
            self.sentence.value = status("This case is answered: the first answer counts.", alert=True)
            return
        self.guesses = self.guesses | {case.id: LETTERS.index(self.controls["guess"].value)}
        self.run()

    def _show(self, values):
        visit = self.result = self.visits[values["case"] - 1]
        answered = visit.case.id in self.guesses
        self.symptom.value = _symptom(visit)
        self.report.value = _report(visit) if answered else ""
        return case_sentence(self.visits, values["case"], values["guess"], self.guesses), self._drawn(visit, answered)

    def _drawn(self, visit, answered) -> bytes:
        if self._picture is None:
            self._ax = Figure(figsize=(7.0, 1.5), dpi=110).add_axes((0.18, 0.05, 0.8, 0.9))
            plot_visit(visit, answered=answered, ax=self._ax)
            self._picture = Picture(self._ax.figure, (*self._ax.patches, *self._ax.texts, self._ax.spines["left"]))
        move_visit(self._ax, visit, answered)
        return self._picture.png()

    def _reset(self) -> None:
        self.guesses = {}
        super()._reset()

    def _refuse(self, error):
        self.symptom.value = self.report.value = ""
        super()._refuse(error)


def _symptom(visit: Visit) -> str:
    """What is seen and the three options, all text escaped."""
    options = zip(LETTERS, visit.case.options, strict=True)
    listed = "".join(f"<li><b>{letter}</b> {html.escape(text)}</li>" for letter, text in options)
    style = "list-style:none;margin:.3em 0;padding-left:1em"
    return f'<div style="{_BLOCK}">{html.escape(visit.case.symptom)}<ul style="{style}">{listed}</ul></div>'


def _report(visit: Visit) -> str:
    """Name, tool and cure, shown after an answer."""
    case = visit.case
    found = (f"Found by {case.tool}", visit.tool or "nothing")
    lines = (("Diagnosis", case.title), found, ("Cure", case.cure), ("Here", visit.outcome))
    told = "".join(f"<div><b>{html.escape(name)}:</b> {html.escape(text)}</div>" for name, text in lines)
    return f'<div style="{_BLOCK}">{told}</div>'
