"""What r, alpha, rsLoRA, dropout and the targets do: counts and megabytes at once, a real toy training at a button."""

import ipywidgets as w
from matplotlib.figure import Figure

from ..lowrank import ToyRun, adapter_size, lora_scaling, train_toy
from ..lowrank.adapter import TARGETS
from ..memory import find_model
from ..plots.figures import png_bytes
from ..plots.lowrank import describe_adapter, move_adapter, plot_adapter, plot_toy
from ._panel import Panel, columns, labelled, new_image
from ._picture import Picture
from ._status import status

__all__ = ["LoRAPanel", "toy_sentence"]

_MODELS = ("SmolLM2-135M", "Llama-2-7B", "Llama-3.1-8B", "Llama-3.3-70B")
_POWERS = [2**i for i in range(9)]
TOY_SIDE = 32


def toy_sentence(run: ToyRun) -> str:
    """How one toy training ended, and what held it back."""
    ended = f"Toy training, rank {run.r}, scale {run.scaling:g}: {run.losses[-1]:.1%} of the loss is left"
    floor = f"The best rank-{run.r} matrix leaves {run.floor:.1%}: no training gets below that."
    enough = "The rank is enough; what is left is up to the optimizer."
    return f"{ended} after {len(run.losses) - 1} steps. {floor if run.r < run.target_rank else enough}"


class LoRAPanel(Panel):
    """Choose an adapter; see its size; train the toy layer with the same rank, alpha and dropout.

    Attributes:
        controls: ``model``, ``r``, ``lora_alpha``, ``use_rslora``, ``lora_dropout``, ``targets``, ``train``, ``reset``.
        result: the :class:`lorakit_helpers.lowrank.AdapterSize` on show, or None after a problem.
        runs: the toy trainings so far, the latest of each rank.
        widget: what is displayed.
    """

    def __init__(self, model: str = "Llama-3.1-8B", *, toy_steps: int = 300):
        find_model(model)
        self._toy_steps, self.runs, made = toy_steps, [], labelled(420)
        controls = {
            "model": w.Dropdown(options=_MODELS, value=model, description="base model", **made),
            "r": w.SelectionSlider(options=_POWERS, value=16, description="rank r", **made),
            "lora_alpha": w.SelectionSlider(options=_POWERS, value=16, description="lora_alpha", **made),
            "use_rslora": w.Checkbox(description="rsLoRA: scale by alpha / √r", indent=False, layout=made["layout"]),
            "lora_dropout": w.FloatSlider(min=0, max=0.5, step=0.05, readout_format=".2f", description="lora_dropout", **made),
            "targets": w.Dropdown(options=list(TARGETS), value="all seven", description="target modules", **made),
            "train": w.Button(description="Train the toy layer", button_style="primary", layout=w.Layout(width="200px")),
            "reset": w.Button(description="Reset"),
        }  # fmt: skip
        self.toy = w.HTML()
        self.image, self.toy_image = (new_image("49%") for _ in range(2))
        *knobs, train, reset = controls.values()
        figures = (Figure(figsize=(4.4, 2.9), dpi=110) for _ in range(2))
        self._axes = tuple(f.add_axes((left, 0.17, 0.95 - left, 0.7)) for f, left in zip(figures, (0.25, 0.14), strict=False))
        train.on_click(lambda _: self.train())
        self._forget_runs()
        self._wire(
            controls,
            rows=[columns(knobs[:3], knobs[3:]), w.HBox([train, reset])],
            pictures=w.VBox([self.toy, w.HBox([self.image, self.toy_image])]),
        )

    def _show(self, values):
        self.result = adapter_size(find_model(values["model"]).shape, values["r"], TARGETS[values["targets"]])
        scale = lora_scaling(values["lora_alpha"], values["r"], values["use_rslora"])
        return f"{values['model']}: {describe_adapter(self.result)} The update is scaled by {scale:g}.", self._drawn()

    def _drawn(self) -> bytes:
        ax = self._axes[0]
        if self._picture is None:
            plot_adapter(self.result, ax=ax, most_mb=1e5)
            self._picture = Picture(ax.figure, (*ax.patches, *ax.texts, ax.spines["left"]))
        move_adapter(ax, self.result)
        return self._picture.png()

    def train(self) -> ToyRun | None:
        """Train the toy layer with the chosen rank (at most ``TOY_SIDE``, its layer's side), alpha, scaling and dropout."""
        button = self.controls["train"]
        button.disabled = True
        self.toy.value = status("The toy layer is training …")
        run = None
        try:
            knobs = {name: self.controls[name].value for name in ("r", "lora_alpha", "use_rslora", "lora_dropout")}
            asked = knobs.pop("r")
            run = train_toy(min(asked, TOY_SIDE), steps=self._toy_steps, **knobs)
            self.runs = [old for old in self.runs if old.r != run.r] + [run]
            self._redraw_toy()
            cut = f" The toy layer is {TOY_SIDE} × {TOY_SIDE}, so rank {asked} counts as {run.r}." if asked > run.r else ""
            self.toy.value = status(toy_sentence(run) + cut)
        except Exception as error:
            self.toy.value = status(str(error), alert=True)
        finally:
            button.disabled = False
        return run

    def _redraw_toy(self):
        self._axes[1].clear()
        plot_toy(self.runs, ax=self._axes[1])
        self.toy_image.value = png_bytes(self._axes[1].figure)

    def _forget_runs(self):
        self.runs = []
        self.toy.value = status("Toy layer: not trained yet.")
        self._redraw_toy()

    def _reset(self):
        self._forget_runs()
        super()._reset()
