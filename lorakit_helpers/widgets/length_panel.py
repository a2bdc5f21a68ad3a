"""A ``max_length`` and a batch size: what they cut and pad, and what memory and time they take."""

import ipywidgets as w
from matplotlib.figure import Figure

from ..data import length_choice
from ..memory import CATALOGUE, TrainSetup, find_model
from ..plots.lengths import describe_lengths, move_lengths, move_padding, plot_lengths, plot_padding
from ._panel import Panel, labelled
from ._picture import Picture
from .memory_panel import METHODS

__all__ = ["LengthPanel"]

_SHORTEST, _STEP = 32, 8


class LengthPanel(Panel):
    """Panel for notebook 06.

    Attributes:
        controls: ``rows``, ``max_length``, ``batch_size``, ``model``, ``method``, ``reset``.
        result: the :class:`lorakit_helpers.data.LengthChoice` on show, or None after a problem.
        widget: what is displayed.
    """

    def __init__(self, data: dict, *, max_length: int = 128, model: str = "Llama-3.1-8B", tokens_per_s: float | None = None):
        """Args:
        data: name to ``(lengths, answer_lengths)``, as for :func:`lorakit_helpers.data.length_choice`.
        max_length: at the start; brought to the slider's next step.
        model: at the start.
        tokens_per_s: measured speed, padding included; None shows no time.
        """
        self._data, self._tokens_per_s = data, tokens_per_s
        self._longest = max(max(lengths) for lengths, _ in data.values())
        self._wire(_controls(data, max_length, self._longest, find_model(model).name))

    def _show(self, values):
        lengths, answers = self._data[values["rows"]]
        self.result = length_choice(
            lengths, answers, values["max_length"], batch_size=values["batch_size"], model=values["model"],
            setup=TrainSetup(**METHODS[values["method"]]), tokens_per_s=self._tokens_per_s,
        )  # fmt: skip
        return describe_lengths(self.result, f"{values['rows']}, {values['method']}"), self._drawn(lengths)

    def _drawn(self, lengths) -> bytes:
        length = self.result.cost.max_length
        if self._picture is None:
            figure = Figure(figsize=(7.4, 4.6), dpi=110)
            self._rows, self._bars = figure.add_axes((0.09, 0.49, 0.89, 0.44)), figure.add_axes((0.23, 0.12, 0.75, 0.2))
            plot_lengths(lengths, length, ax=self._rows, longest=max(self._longest, self.controls["max_length"].max),
                         top=_top(self._data))  # fmt: skip
            plot_padding(self.result, ax=self._bars)
            self._picture = Picture(
                figure, [*move_lengths(self._rows, lengths, length), *move_padding(self._bars, self.result)]
            )  # fmt: skip
        move_lengths(self._rows, lengths, length)
        move_padding(self._bars, self.result)
        return self._picture.png()


def _top(data) -> float:
    """A height, in per cent, that holds the histogram of every data set."""
    tops = []
    for lengths, _ in data.values():
        bins = [(n - 1) // _STEP for n in lengths]
        tops.append(100 * max(bins.count(b) for b in set(bins)) / len(lengths))
    return 1.15 * max(tops)


def _controls(data, max_length, longest, model) -> dict:
    made = labelled(440)
    most = -(-max(longest, _SHORTEST + _STEP) // _STEP) * _STEP
    start = min(max(_SHORTEST, round(max_length / _STEP) * _STEP), most)
    powers = [2**i for i in range(7)]
    return {
        "rows": w.Dropdown(options=list(data), description="rows", **made),
        "max_length": w.IntSlider(
            value=start, min=_SHORTEST, max=most, step=_STEP, description="max_length (tokens)", **made
        ),
        "batch_size": w.SelectionSlider(options=powers, value=4, description="batch size (rows)", **made),
        "model": w.Dropdown(options=list(CATALOGUE), value=model, description="model (for memory)", **made),
        "method": w.Dropdown(options=list(METHODS), value="QLoRA (NF4 weights)", description="method (for memory)", **made),
        "reset": w.Button(description="Reset"),
    }  # fmt: skip
