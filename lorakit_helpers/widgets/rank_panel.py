"""A rank slider on any matrix: the picture, the singular values, and what the rank keeps."""

import ipywidgets as w
from matplotlib.figure import Figure

from ..errors import LorakitError
from ..lowrank import decompose
from ..plots.figures import png_bytes
from ..plots.lowrank import describe_compression, plot_compression, plot_spectra
from ._status import status

__all__ = ["RankPanel"]


class RankPanel:
    """Compress one of several matrices: ``RankPanel({"a picture": array, …})``.

    Attributes:
        controls: ``matrix``, ``rank`` and ``reset``.
        result: the :class:`lorakit_helpers.lowrank.Compression` on show, or None after a problem.
        widget: what is displayed.

    Raises:
        LorakitError: without a matrix, or for one that cannot be decomposed.
    """

    def __init__(self, matrices: dict, rank: int = 8):
        if not matrices:
            raise LorakitError("matrices", got="none", expected="at least one", do='Pass {"a picture": picture()}.')
        self._parts = {name: decompose(matrix) for name, matrix in matrices.items()}
        first = next(iter(self._parts))
        self._start = (first, min(rank, self._parts[first].max_rank))
        style, wide = {"description_width": "initial"}, w.Layout(width="460px")
        self.matrix = w.Dropdown(options=list(self._parts), value=first, description="matrix", style=style, layout=wide)
        self.rank = w.IntSlider(value=self._start[1], min=0, max=self._parts[first].max_rank, description="rank (columns kept)",
                                style=style, layout=wide)  # fmt: skip
        self.reset = w.Button(description="Reset")
        self.controls = {"matrix": self.matrix, "rank": self.rank, "reset": self.reset}
        self.sentence = w.HTML()
        self.image = w.Image(format="png", layout=w.Layout(max_width="100%", align_self="flex-start"))
        self.widget = w.VBox([w.HBox([self.matrix, self.reset]), self.rank, self.sentence, self.image])
        figure = Figure(figsize=(8.2, 2.9))
        self._axes = (figure.add_axes((0.01, 0.08, 0.52, 0.82)), figure.add_axes((0.63, 0.17, 0.35, 0.75)))
        self._drawn = None
        self.matrix.observe(lambda change: self._switch(), names="value")
        self.rank.observe(lambda change: self.draw(), names="value")
        self.reset.on_click(lambda _: self._reset())
        self.draw()

    def draw(self) -> None:
        """Show what the controls say; a problem is shown as a sentence."""
        try:
            name, rank = self.matrix.value, self.rank.value
            parts = self._parts[name]
            self.result = parts.compression(rank)
            for ax in self._axes:
                ax.clear()
            plot_compression(parts, rank, ax=self._axes[0])
            plot_spectra({name: parts.s}, ax=self._axes[1], rank=rank)
            self._axes[1].set(xlim=(0, parts.max_rank + 1), ylim=(1e-4, 2), xlabel="number of the singular value")
            self.image.value = png_bytes(self._axes[0].figure)
            self.sentence.value = status(f"{name}: {describe_compression(parts, rank)}")
        except Exception as error:  # a callback's exception would be invisible in the page
            self.result = None
            self.sentence.value = status(str(error), alert=True)

    def _switch(self):
        most, before = self._parts[self.matrix.value].max_rank, self.rank.value
        self.rank.max = most  # lowers the value, and so redraws, when it lies above
        if self.rank.value == before:
            self.draw()

    def _reset(self):
        self.matrix.value, self.rank.value = self._start

    def _ipython_display_(self):
        from IPython.display import display

        display(self.widget)
