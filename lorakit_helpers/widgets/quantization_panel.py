"""Block size, format, kind of weights and an outlier: what they do to the rounding error."""

import ipywidgets as w
import numpy as np
from matplotlib.figure import Figure

from ..plots.quantization import describe_quantized, move_quantized, plot_quantized
from ..quantization import BLOCK_SIZES, CODEBOOKS, quantize
from ._panel import Panel, labelled
from ._picture import Picture

__all__ = ["QuantizationPanel", "sample_weights"]

SOURCES = ("real layer", "normal", "uniform")


def sample_weights(source: str, layer, outlier: float = 0.0, n: int = 4096) -> np.ndarray:
    """``n`` weights of a kind; ``outlier`` standard deviations replace the first one when it is above 0."""
    rng = np.random.default_rng(0)
    made = {
        "real layer": lambda: np.asarray(layer, np.float32).ravel()[:n].copy(),
        "normal": lambda: rng.standard_normal(n).astype(np.float32),
        "uniform": lambda: rng.uniform(-1, 1, n).astype(np.float32),
    }
    weights = made[source]()
    if outlier > 0:
        weights[0] = outlier * weights.std()
    return weights


class QuantizationPanel(Panel):
    """Panel for notebook 04. ``controls``, ``result`` (a ``Quantized``) and ``widget`` as in every panel."""

    def __init__(self, layer):
        self._layer, made = layer, labelled(440)
        marked = [(f"{size} (default)" if size == 64 else str(size), size) for size in BLOCK_SIZES]
        controls = {
            "format": w.Dropdown(options=CODEBOOKS, value="nf4", description="Format", **made),
            "block_size": w.SelectionSlider(options=marked, value=64, description="Block size (weights)", **made),
            "source": w.Dropdown(options=SOURCES, value="normal", description="Weights", **made),
            "outlier": w.FloatSlider(value=0, min=0, max=100, step=5, description="Outlier (standard deviations)", **made),
            "double_quant": w.Checkbox(value=False, description="Double quantization", style=made["style"]),
            "reset": w.Button(description="Reset"),
        }
        self._wire(controls)

    def _show(self, values):
        weights = sample_weights(values["source"], self._layer, values["outlier"])
        self.result = quantize(weights, values["format"], values["block_size"], values["double_quant"])
        return describe_quantized(weights, self.result), self._drawn(weights)

    def _drawn(self, weights) -> bytes:
        if self._picture is None:
            self._ax = Figure(figsize=(7, 3), dpi=110).add_axes((0.08, 0.17, 0.9, 0.79))
            plot_quantized(weights, self.result, ax=self._ax)
            moving = (self._ax.patches[0], self._ax.collections[0], self._ax.get_legend())
            self._picture = Picture(self._ax.figure, moving)
        move_quantized(self._ax, weights, self.result)
        return self._picture.png()
