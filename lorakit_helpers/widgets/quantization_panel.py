"""Block size, format, kind of weights and an outlier: what they do to the rounding error."""

import ipywidgets as w
import numpy as np

from ..plots.figures import new_axes, png_bytes
from ..plots.quantization import describe_quantized, plot_quantized
from ..quantization import BLOCK_SIZES, CODEBOOKS, quantize
from ._panel import Panel
from ._status import status

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
        self._layer, self._ax, self.result = layer, new_axes(7.0, 3.0), None
        self._ax.figure.set_layout_engine("none")  # a fixed layout redraws faster and always the same
        self._ax.figure.subplots_adjust(left=0.08, right=0.98, bottom=0.17, top=0.96)
        style, wide = {"description_width": "initial"}, w.Layout(width="400px")
        marked = [(f"{size} (bitsandbytes' default)" if size == 64 else str(size), size) for size in BLOCK_SIZES]
        self.controls = {
            "format": w.Dropdown(options=CODEBOOKS, value="nf4", description="Format", style=style, layout=wide),
            "block_size": w.SelectionSlider(
                continuous_update=False,
                options=marked,
                value=64,
                description="Block size (weights)",
                style=style,
                layout=w.Layout(width="480px"),
            ),
            "source": w.Dropdown(options=SOURCES, value="normal", description="Weights", style=style, layout=wide),
            "outlier": w.FloatSlider(
                continuous_update=False,
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
        for control in self._inputs.values():
            control.observe(lambda _: self.run(), "value")
        self.controls["reset"].on_click(lambda _: self._reset())
        self.run()

    def run(self):
        """Read the controls, quantize, draw; a problem is shown as a sentence."""
        try:
            choice = {name: control.value for name, control in self._inputs.items()}
            weights = sample_weights(choice["source"], self._layer, choice["outlier"])
            self.result = quantize(weights, choice["format"], choice["block_size"], choice["double_quant"])
            self._ax.clear()
            plot_quantized(weights, self.result, ax=self._ax)
            self.image.value = png_bytes(self._ax.figure)
            self.sentence.value = status(describe_quantized(weights, self.result))
        except Exception as error:  # a callback's exception would be invisible in the page
            self.result = None
            self.sentence.value = status(str(error), alert=True)
        return self.result

    def _reset(self):
        for name, value in self._start.items():
            self._inputs[name].value = value
