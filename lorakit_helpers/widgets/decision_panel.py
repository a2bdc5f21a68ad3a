"""Your needs in, an advice with its rules out; every figure behind it was measured in the lesson."""

import html

import ipywidgets as w
from matplotlib.figure import Figure

from ..advice import CHANGE, LACKS, RULES, Evidence, Needs, advise
from ..plots.choices import move_advice, plot_advice
from ._panel import Panel, labelled
from ._picture import Picture

__all__ = ["DecisionPanel", "needs_of"]

EXAMPLES = (0, 3, 10, 30, 100, 200, 300, 500, 1000, 5000)
BUDGETS = (64, 128, 256, 512, 1024, 2048, 4096)
QUESTIONS = (100, 1_000, 10_000, 100_000, 1_000_000)


def needs_of(values: dict) -> Needs:
    """The needs that the controls' values stand for.

    Example:
        >>> needs_of({"lack": "facts", "wanted": 50}).wanted
        0.5
    """
    return Needs(**values | {"wanted": values["wanted"] / 100})


class DecisionPanel(Panel):
    """Panel for notebook 01. ``controls``, ``result`` (an ``Advice``) and ``widget`` as in every panel."""

    def __init__(self, evidence: Evidence):
        self._evidence, self.rules, made = evidence, w.HTML(), labelled(480)
        style = made["style"]

        def counts(options, value, description):
            marked = [(f"{n:,}", n) for n in options]
            return w.SelectionSlider(options=marked, value=value, description=description, **made)

        controls = {
            "lack": w.Dropdown(options=LACKS, value="facts", description="The model lacks", **made),
            "change": w.Dropdown(options=CHANGE, value=CHANGE[0], description="Facts change", **made),
            "examples": counts(EXAMPLES, 1000, "Labelled examples"),
            "budget": counts(BUDGETS, 2048, "Tokens a question, at most"),
            "questions": counts(QUESTIONS, 10_000, "Questions to come"),
            "wanted": w.IntSlider(value=50, min=0, max=100, step=5, description="Right answers needed (%)", **made),
            "exact_form": w.Checkbox(value=False, description="A program reads the answers", style=style),
            "private": w.Checkbox(value=False, description="Texts must stay removable", style=style),
            "small_model": w.Checkbox(value=True, description="It must run on a small model", style=style),
            "reset": w.Button(description="Reset"),
        }  # fmt: skip
        self._wire(controls, below=[self.rules])

    def _show(self, values):
        self.result = advise(needs_of(values), self._evidence)
        self.rules.value = _table(self.result)
        return str(self.result), self._drawn()

    def _refuse(self, error):
        self.rules.value = ""
        super()._refuse(error)

    def _drawn(self) -> bytes:
        if self._picture is None:
            self._ax = Figure(figsize=(7.4, 2.5), dpi=110).add_axes((0.2, 0.2, 0.79, 0.77))
            plot_advice(self.result, ax=self._ax)
            moving = (*self._ax.patches, *self._ax.collections, *self._ax.texts, self._ax.spines["left"])
            self._picture = Picture(self._ax.figure, moving)
        move_advice(self._ax, self.result)
        return self._picture.png()


def _table(advice) -> str:
    """The rules that fired as an HTML table, all text escaped."""
    cells = [(f.rule, RULES[f.rule], f.figure, ", ".join(f.out) or "–") for f in advice.findings]
    rows = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in cells)
    head = "".join(
        f'<th scope="col" style="text-align:left">{name}</th>'
        for name in ("rule", "what it says", "measured here", "rules out")
    )
    return f'<table style="border-spacing:.8em .2em;line-height:1.3"><tr>{head}</tr>{rows}</table>'
