"""Block size, format, kind of weights and an outlier: what they do to the rounding error."""

import ipywidgets as w
import numpy as np
from matplotlib.figure import Figure

from ..plots.quantization import describe_quantized, move_quantized, plot_quantized
from ..quantization import BLOCK_SIZES, CODEBOOKS, quantize
from ._panel import Panel
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
        self._layer, self._picture, self.result = layer, None, None
        style, wide = {"description_width": "initial"}, w.Layout(width="400px")
        marked = [(f"{size} (bitsandbytes' default)" if size == 64 else str(size), size) for size in BLOCK_SIZES]
        self.controls = {
            "format": w.Dropdown(options=CODEBOOKS, value="nf4", description="Format", style=style, layout=wide),
            "block_size": w.SelectionSlider(
                options=marked,
                value=64,
                description="Block size (weights)",
                style=style,
                layout=w.Layout(width="480px"),
            ),
            "source": w.Dropdown(options=SOURCES, value="normal", description="Weights", style=style, layout=wide),
            "outlier": w.FloatSlider(
                value=0,
                min=0,
                max=100,
                step=5,
                description="Outlier (standard deviations)",
                style=style,
                layout=wide,
            ),
            "double_quant": w.Checkbox(value=False, description="Double quantization", style=style),
            "reset": w.Button(description="Reset"),
        }
        self._inputs = {name: c for name, c in self.controls.items() if name != "reset"}
        self._start = {name: control.value for name, control in self._inputs.items()}
        self.sentence, self.image = w.HTML(), w.Image(format="png", layout=w.Layout(max_width="100%", align_self="flex-start"))
        self.widget = w.VBox([*self.controls.values(), self.sentence, self.image])
        self._quiet = False
        for control in self._inputs.values():
            control.observe(lambda _: self.run(), "value")
        self.controls["reset"].on_click(lambda _: self._reset())
        self.run()

    def run(self):
        """Read the controls, quantize, draw; a problem is shown as a sentence."""
        if self._quiet:
            return self.result
        try:
            choice = {name: control.value for name, control in self._inputs.items()}
            weights = sample_weights(choice["source"], self._layer, choice["outlier"])
            self.result = quantize(weights, choice["format"], choice["block_size"], choice["double_quant"])
            self._tell(describe_quantized(weights, self.result), self._drawn(weights))
        except Exception as error:  # a callback's exception would be invisible in the page
            self._refuse(error)
        return self.result

    def _drawn(self, weights) -> bytes:
        if self._picture is None:
            self._ax = Figure(figsize=(7, 3), dpi=110).add_axes((0.08, 0.17, 0.9, 0.79))
            plot_quantized(weights, self.result, ax=self._ax)
            moving = (self._ax.patches[0], self._ax.collections[0], self._ax.get_legend())
            self._picture = Picture(self._ax.figure, moving)
        move_quantized(self._ax, weights, self.result)
        return self._picture.png()

    def _reset(self):
        self._to_start()
        self.run()
