"""A rank slider on any matrix: the picture, the singular values, and what the rank keeps."""

import ipywidgets as w
from matplotlib.figure import Figure

from ..errors import LorakitError
from ..lowrank import decompose
from ..plots.lowrank import describe_compression, plot_compression, plot_spectra
from ._panel import Panel
from ._picture import Picture

__all__ = ["RankPanel"]

WINDOW = 96  # rows and columns drawn of a larger matrix


class RankPanel(Panel):
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
        self._pictures = {name: self._painted(parts) for name, parts in self._parts.items()}
        self.matrix.observe(lambda change: self._switch(), names="value")
        self.rank.observe(lambda change: self.draw(), names="value")
        self.reset.on_click(lambda _: self._reset())
        self._switch()

    def draw(self) -> None:
        """Show what the controls say; a problem is shown as a sentence."""
        try:
            name, rank = self.matrix.value, self.rank.value
            parts, picture = self._parts[name], self._pictures[name]
            self.result = parts.compression(rank)
            shown, mark = picture.moving
            values = shown.get_array().copy()
            kept = parts.at(rank, WINDOW)
            values[:, -kept.shape[1] :] = kept
            shown.set_data(values)
            mark.set_xdata([rank + 0.5] * 2)
            self._tell(f"{name}: {describe_compression(parts, rank)}", picture.png())
        except Exception as error:  # a callback's exception would be invisible in the page
            self._refuse(error)

    def _painted(self, parts) -> Picture:
        """Matrix and singular values; only the compressed half and the rank's mark move."""
        figure = Figure(figsize=(8.2, 2.9), dpi=110)
        left, right = (figure.add_axes(place) for place in ((0.01, 0.08, 0.51, 0.82), (0.64, 0.17, 0.34, 0.77)))
        plot_compression(parts, 0, ax=left, window=WINDOW)
        left.set_xticklabels([f"all {parts.max_rank} ranks", "up to the slider's rank"])
        plot_spectra({"": parts.s}, ax=right, rank=0)
        right.set(xlim=(0, parts.max_rank + 1), ylim=(1e-4, 2), xlabel="number of the singular value")
        return Picture(figure, [left.images[0], right.lines[-1]])

    def _switch(self):
        parts, before = self._parts[self.matrix.value], self.rank.value
        self.rank.max = parts.max_rank  # lowers the value, and so redraws, when it lies above
        if self.rank.value == before:
            self.draw()

    def _reset(self):
        self.matrix.value, self.rank.value = self._start
