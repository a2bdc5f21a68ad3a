"""A rank slider on any matrix: the picture, the singular values, and what the rank keeps."""

import ipywidgets as w
from matplotlib.figure import Figure

from ..errors import LorakitError
from ..lowrank import decompose
from ..plots.lowrank import describe_compression, plot_compression, plot_spectra
from ._panel import Panel, labelled
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
        most, made = self._parts[first].max_rank, labelled(460)
        controls = {
            "matrix": w.Dropdown(options=list(self._parts), value=first, description="matrix", **made),
            "rank": w.IntSlider(value=min(rank, most), min=0, max=most, description="rank (columns kept)", **made),
            "reset": w.Button(description="Reset"),
        }
        self._pictures = {name: self._painted(parts) for name, parts in self._parts.items()}
        self._wire(controls, rows=[w.HBox([controls["matrix"], controls["reset"]]), controls["rank"]])

    def _show(self, values):
        name = values["matrix"]
        parts, picture, rank = self._parts[name], self._pictures[name], self._within(name)
        self.result = parts.compression(rank)
        shown, mark = picture.moving
        drawn, kept = shown.get_array().copy(), parts.at(rank, WINDOW)
        drawn[:, -kept.shape[1] :] = kept
        shown.set_data(drawn)
        mark.set_xdata([rank + 0.5] * 2)
        return f"{name}: {describe_compression(parts, rank)}", picture.png()

    def _within(self, name) -> int:
        """The rank, after its slider was given the matrix's largest (which lowers a rank above it, without a redraw)."""
        self._quiet = True
        self.controls["rank"].max = self._parts[name].max_rank
        self._quiet = False
        return self.controls["rank"].value

    def _painted(self, parts) -> Picture:
        """Matrix and singular values; only the compressed half and the rank's mark move."""
        figure = Figure(figsize=(8.2, 2.9), dpi=110)
        left, right = (figure.add_axes(place) for place in ((0.01, 0.08, 0.51, 0.82), (0.64, 0.17, 0.34, 0.77)))
        plot_compression(parts, 0, ax=left, window=WINDOW)
        left.set_xticklabels([f"all {parts.max_rank} ranks", "up to the slider's rank"])
        plot_spectra({"": parts.s}, ax=right, rank=0)
        right.set(xlim=(0, parts.max_rank + 1), ylim=(1e-4, 2), xlabel="number of the singular value")
        return Picture(figure, [left.images[0], right.lines[-1]])

    def _to_start(self):
        self._within(self._start["matrix"])
        super()._to_start()
