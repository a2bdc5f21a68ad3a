"""Several GPUs: what each way of sharing the work out leaves on every card, and which ways fit."""

import ipywidgets as w
from matplotlib.figure import Figure

from ..memory import CATALOGUE, GPUS, TrainSetup, find_gpu, find_model
from ..plots.sharding import describe_sharding, move_sharding, plot_sharding
from ..scale.sharding import STRATEGIES, shard_memory
from ._panel import Panel, columns, labelled
from ._picture import Picture

__all__ = ["ScalePanel", "all_strategies"]


def all_strategies(model: str, gpus: int, *, cpu_offload: bool = False, method: str = "qlora", **setup) -> dict:
    """``{strategy: ShardedMemory}`` for every strategy, gradient checkpointing on.

    Args:
        model: a catalogue name.
        gpus: how many train together.
        cpu_offload: where a strategy can, shares wait in the computer's memory.
        method: ``"lora"`` or ``"qlora"``.
        setup: other fields of a :class:`lorakit_helpers.memory.TrainSetup`, for one GPU.
    """
    shape = find_model(model).shape
    train = TrainSetup(method=method, gradient_checkpointing=True, **setup)
    return {name: shard_memory(shape, train, gpus, name, cpu_offload=cpu_offload and name != "ddp") for name in STRATEGIES}


class ScalePanel(Panel):
    """Panel for notebook 12.

    Attributes:
        controls: ``model``, ``method``, ``gpu``, ``gpus``, ``micro_batch``, ``seq_len``, ``cpu_offload``, ``reset``.
        result: ``{strategy: ShardedMemory}`` on show, or None after a problem.
        widget: what is displayed.
    """

    def __init__(self, model: str = "Llama-2-70B", gpu: str = "RTX 4090"):
        controls = _controls(find_model(model).name, find_gpu(gpu).name)
        shown = list(controls.values())
        self._wire(controls, rows=[columns(shown[:4], shown[4:])])

    def _show(self, values):
        names = ("method", "micro_batch", "seq_len", "cpu_offload")
        self.result = all_strategies(values["model"], values["gpus"], **{name: values[name] for name in names})
        card = GPUS[values["gpu"]].memory_gib
        count = f"{values['gpus']} × {values['gpu']}" if values["gpus"] > 1 else values["gpu"]
        sentence = f"{values['model']}, {values['method']}, on {count}: {describe_sharding(self.result, card)}"
        waiting = max(memory.cpu_gib for memory in self.result.values())
        if waiting:
            sentence += f" Up to {waiting:.1f} GiB wait in the computer's memory."
        return sentence, self._drawn(card)

    def _drawn(self, card) -> bytes:
        """The bars on an axis of twice the card."""
        if self._picture is None:
            self._ax = Figure(figsize=(7.8, 2.9), dpi=110).add_axes((0.08, 0.17, 0.9, 0.6))
            plot_sharding(self.result, card, most_gib=2 * card, ax=self._ax).tick_params(left=False)
            self._picture = Picture(self._ax.figure, move_sharding(self._ax, self.result, card))
        move_sharding(self._ax, self.result, card, most_gib=2 * card)
        return self._picture.png()


def _controls(model, gpu) -> dict:
    made = labelled(420)

    def powers(description, value, low, high):
        options = [2**i for i in range(low, high + 1)]
        return w.SelectionSlider(options=options, value=value, description=description, **made)

    methods = [("QLoRA (NF4 weights)", "qlora"), ("LoRA on bf16 weights", "lora")]
    return {
        "model": w.Dropdown(options=list(CATALOGUE), value=model, description="model", **made),
        "method": w.Dropdown(options=methods, value="qlora", description="method", **made),
        "gpu": w.Dropdown(options=[(str(card), name) for name, card in GPUS.items()], value=gpu, description="card", **made),
        "gpus": powers("GPUs", 2, 0, 5),
        "micro_batch": powers("sequences at once on each GPU", 1, 0, 5),
        "seq_len": powers("sequence length (tokens)", 2048, 7, 13),
        "cpu_offload": w.Checkbox(value=False, description="offload to the CPU's memory", indent=False, layout=made["layout"]),
        "reset": w.Button(description="Reset"),
    }
