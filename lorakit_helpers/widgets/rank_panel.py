"""A rank slider on any matrix: the picture, the singular values, and what the rank keeps."""

from io import BytesIO

import ipywidgets as w
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..errors import LorakitError
from ..lowrank import decompose
from ..plots.lowrank import describe_compression, plot_compression, plot_spectra
from ._panel import Panel
from ._status import status

__all__ = ["RankPanel"]


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
        self._canvas = FigureCanvasAgg(Figure(figsize=(8.2, 2.9), dpi=110))
        places = ((0.01, 0.08, 0.51, 0.82), (0.64, 0.17, 0.34, 0.77))
        self._axes = tuple(self._canvas.figure.add_axes(place) for place in places)
        self.matrix.observe(lambda change: self._switch(), names="value")
        self.rank.observe(lambda change: self.draw(), names="value")
        self.reset.on_click(lambda _: self._reset())
        self._switch()

    def draw(self) -> None:
        """Show what the controls say; a problem is shown as a sentence."""
        try:
            parts, rank = self._parts[self.matrix.value], self.rank.value
            self.result = parts.compression(rank)
            self.image.value = self._png(parts, rank)
            self.sentence.value = status(f"{self.matrix.value}: {describe_compression(parts, rank)}")
        except Exception as error:  # a callback's exception would be invisible in the page
            self.result = None
            self.sentence.value = status(str(error), alert=True)

    def _paint_background(self, parts):
        """Everything that does not depend on the rank, drawn once for a matrix."""
        picture, curve = self._axes
        for ax in self._axes:
            ax.clear()
        plot_compression(parts, 0, ax=picture)
        picture.set_xticklabels([f"all {parts.max_rank} ranks", "up to the slider's rank"])
        plot_spectra({"": parts.s}, ax=curve, rank=0)
        curve.set(xlim=(0, parts.max_rank + 1), ylim=(1e-4, 2), xlabel="number of the singular value")
        for artist in (picture.images[0], curve.lines[-1]):
            artist.set_animated(True)
        self._canvas.draw()
        self._background = self._canvas.copy_from_bbox(self._canvas.figure.bbox)

    def _png(self, parts, rank) -> bytes:
        picture, curve = self._axes
        shown, mark = picture.images[0], curve.lines[-1]
        width = min(parts.shape[1], 96)
        values = shown.get_array().copy()
        values[:, -width:] = parts.at(rank, 96)
        shown.set_data(values)
        mark.set_xdata([rank + 0.5] * 2)
        self._canvas.restore_region(self._background)
        picture.draw_artist(shown)
        curve.draw_artist(mark)
        buffer = BytesIO()
        Image.fromarray(np.asarray(self._canvas.buffer_rgba())).convert("RGB").save(buffer, "png", compress_level=3)
        return buffer.getvalue()

    def _switch(self):
        parts, before = self._parts[self.matrix.value], self.rank.value
        self._paint_background(parts)
        self.rank.max = parts.max_rank  # lowers the value, and so redraws, when it lies above
        if self.rank.value == before:
            self.draw()

    def _reset(self):
        self.matrix.value, self.rank.value = self._start
