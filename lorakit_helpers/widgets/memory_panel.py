"""Does it fit? A model, a way to train it and a card: the memory's bar, the verdict, and what to change first."""

import html

import ipywidgets as w
from matplotlib.figure import Figure

from ..lowrank.adapter import TARGETS
from ..memory import CATALOGUE, GPUS, Plan, TrainSetup, find_gpu, find_model, plan
from ..plots.memory import move_memory, plot_memory
from ._panel import Panel, columns, labelled
from ._picture import Picture

__all__ = ["METHODS", "MemoryPanel", "fit_sentence", "ladder_html"]

#: What the panel calls each method, with the fields of a ``TrainSetup`` it stands for.
METHODS = {
    "full fine-tuning, fp32": {"method": "full", "weights_dtype": "fp32"},
    "full fine-tuning, bf16": {"method": "full", "weights_dtype": "bf16"},
    "LoRA on bf16 weights": {"method": "lora"},
    "QLoRA (NF4 weights)": {"method": "qlora"},
}
_FIELDS = ("r", "micro_batch", "seq_len", "gradient_checkpointing", "fused_loss", "optimizer")
_OPTIMIZERS = ("adamw", "adamw_8bit", "paged_adamw_8bit", "sgd")


def fit_sentence(found: Plan) -> str:
    """Whether it fits and by how much; then what to change first, or how far it could go."""
    verdict = found.estimate.verdict(found.gpu_gib)
    if found.fits:
        names = {"micro_batch": "micro-batch {}", "seq_len": "{} tokens", "r": "rank {}"}
        most = [text.format(found.largest[name]) for name, text in names.items() if found.largest[name]]
        return f"{verdict} The most that fits, changing one thing alone: {', '.join(most)}."
    if found.answer is None:
        return f"{verdict} No change on the list is enough: take a smaller model or a larger card."
    actions = [rung.action for rung in found.changes if rung.saves_gib > 0] or [found.changes[-1].action]
    then = f" Then {', then '.join(actions[1:])}." if actions[1:] else ""
    return f"{verdict} Change first: {actions[0]}.{then}"


def ladder_html(found: Plan) -> str:
    """The changes from the cheapest on, each on top of the ones before, as a table."""
    if found.fits:
        return ""
    look = "text-align:left;padding-right:1.2em;line-height:1.5;vertical-align:top"
    rows = ""
    for rung in found.changes:
        texts = (rung.action, f"{rung.estimate.needed_gib:.2f}", "fits" if rung.fits else "too large", rung.cost)
        rows += "<tr>" + "".join(f'<td style="{look}">{html.escape(text)}</td>' for text in texts) + "</tr>"
    titles = ("change, on top of those above", "needs (GiB)", "verdict", "what it costs")
    head = "".join(f'<th scope="col" style="{look}">{text}</th>' for text in titles)
    return f"<table><tr>{head}</tr>{rows}</table>"


class MemoryPanel(Panel):
    """Panel for notebook 02.

    Attributes:
        controls: ``model``, ``method``, ``r``, ``targets``, ``micro_batch``, ``seq_len``, ``gradient_checkpointing``,
            ``fused_loss``, ``optimizer``, ``gpu``, ``reset``.
        result: the :class:`lorakit_helpers.memory.Plan` on show, or None after a problem.
        widget: what is displayed.
    """

    def __init__(self, model: str = "Llama-3.1-8B", gpu: str = "RTX 3060"):
        model, gpu = find_model(model).name, find_gpu(gpu).name
        controls, self.ladder = _controls(model, gpu), w.HTML()
        shown = list(controls.values())
        self._wire(controls, rows=[columns(shown[:5], shown[5:])], below=[self.ladder])

    def _show(self, values):
        full = values["method"].startswith("full")
        self.controls["r"].disabled = self.controls["targets"].disabled = full
        own = {name: values[name] for name in _FIELDS}
        setup = TrainSetup(**METHODS[values["method"]], target_modules=TARGETS[values["targets"]], **own)
        card = GPUS[values["gpu"]].memory_gib
        self.result = plan(find_model(values["model"]).shape, card, setup)
        picture = self._drawn(self.result.estimate, card)
        self.ladder.value = ladder_html(self.result)
        return f"{values['model']} on {values['gpu']}: {fit_sentence(self.result)}", picture

    def _refuse(self, error):
        self.ladder.value = ""
        super()._refuse(error)

    def _drawn(self, estimate, card) -> bytes:
        """The bar on an axis of twice the card."""
        sizes = {"gpu_gib": card, "most_gib": 2 * card}
        if self._picture is None:
            self._ax = Figure(figsize=(7.8, 2.0), dpi=110).add_axes((0.02, 0.25, 0.96, 0.48))
            plot_memory(estimate, ax=self._ax, **sizes).tick_params(left=False)
            self._picture = Picture(self._ax.figure, move_memory(self._ax, estimate))
        move_memory(self._ax, estimate, **sizes)
        return self._picture.png()


def _controls(model, gpu) -> dict:
    made = labelled(420)

    def powers(description, value, low, high):
        options = [2**i for i in range(low, high + 1)]
        return w.SelectionSlider(options=options, value=value, description=description, **made)

    cards = [(str(card), name) for name, card in GPUS.items()]
    check = {"indent": False, "layout": made["layout"]}
    return {
        "model": w.Dropdown(options=list(CATALOGUE), value=model, description="model", **made),
        "method": w.Dropdown(options=list(METHODS), value="QLoRA (NF4 weights)", description="method", **made),
        "r": powers("rank r", 16, 0, 10),
        "targets": w.Dropdown(options=list(TARGETS), value="all seven", description="target modules", **made),
        "gpu": w.Dropdown(options=cards, value=gpu, description="GPU", **made),
        "micro_batch": powers("micro-batch (sequences)", 2, 0, 6),
        "seq_len": powers("sequence length (tokens)", 512, 6, 15),
        "gradient_checkpointing": w.Checkbox(value=False, description="gradient checkpointing", **check),
        "fused_loss": w.Checkbox(value=False, description="fused loss (Unsloth, Liger)", **check),
        "optimizer": w.Dropdown(options=_OPTIMIZERS, value="adamw", description="optimizer", **made),
        "reset": w.Button(description="Reset"),
    }
