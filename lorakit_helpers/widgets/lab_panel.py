"""The hyperparameter lab: every knob's consequences at once, and a short real training at a button."""

import html

import ipywidgets as w
from matplotlib.figure import Figure

from ..lab import RunPlan, plan_run
from ..lowrank.adapter import TARGETS
from ..plots.figures import png_bytes
from ..plots.lab import describe_rates, describe_runs, move_rates, plot_rates, plot_runs
from ..recipes import Recipe
from ._panel import Panel, columns, labelled, new_image, side_by_side
from ._picture import Picture
from ._status import status

__all__ = ["LabPanel", "recipe_of", "run_label"]

RATES = (5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3)
_POWERS = [2**i for i in range(9)]
MOST_RUNS = 5  # curves that can be told apart


def recipe_of(values: dict, start: Recipe) -> Recipe:
    """The recipe that the controls' values stand for; what has no control is as in ``start``.

    Example:
        >>> recipe_of({"targets": "q and v", "epochs": 2}, Recipe()).num_train_epochs
        2
    """
    names = {
        "epochs": "num_train_epochs",
        "batch": "per_device_train_batch_size",
        "accumulation": "gradient_accumulation_steps",
    }
    changes = {names.get(name, name): value for name, value in values.items() if name != "targets"}
    if "targets" in values:
        changes["target_modules"] = TARGETS[values["targets"]]
    return start.but(**changes)


def run_label(recipe: Recipe) -> str:
    """A recipe in one short line, for a legend."""
    short = {tuple(modules): name.split(" (")[0] for name, modules in TARGETS.items()}
    text = f"r {recipe.r}, alpha {recipe.lora_alpha}, {recipe.learning_rate:.0e} {recipe.lr_scheduler_type}, "
    text += f"{short.get(recipe.target_modules, 'other targets')}, "
    dropout = f", dropout {recipe.lora_dropout:g}" if recipe.lora_dropout else ""
    warm_up = f", warm-up {recipe.warmup_steps}" if recipe.warmup_steps else ""
    return f"{text}{recipe.per_device_train_batch_size} × {recipe.gradient_accumulation_steps} rows{dropout}{warm_up}"


class LabPanel(Panel):
    """Panel for notebook 08.

    Args:
        recipe: where the controls start; ``max_steps`` is left out, epochs count.
        lengths: tokens of every training row.
        shape: the base model's sizes.
        train: called with a recipe and a function of the training log, trains, and returns the losses of its updates.
        device, tokens_per_s: as for :func:`lorakit_helpers.lab.plan_run`.
        updates: of one short training.

    Attributes:
        controls: ``r``, ``lora_alpha``, ``lora_dropout``, ``targets``, ``learning_rate``, ``lr_scheduler_type``,
            ``warmup_steps``, ``epochs``, ``batch``, ``accumulation``, ``train``, ``clear``, ``reset``.
        result: the :class:`lorakit_helpers.lab.RunPlan` on show, or None after a problem.
        runs: losses of the short trainings so far, by label.
        widget: what is displayed.
    """

    def __init__(self, recipe: Recipe, lengths, shape, train, *, device="cuda", tokens_per_s=None, updates=12):
        self._recipe, self._lengths, self._shape = recipe.but(max_steps=-1), list(lengths), shape
        self._train, self._device, self._speed, self._updates = train, device, tokens_per_s, updates
        self.runs = {}
        controls = _controls(self._recipe)
        controls["train"].description = f"Train {updates} updates"
        self.table, self.training, self.bar = w.HTML(), w.HTML(), w.IntProgress(max=1, layout=w.Layout(width="300px"))
        self.runs_image = new_image()
        knobs = [control for control in controls.values() if not isinstance(control, w.Button)]
        buttons = side_by_side(controls["train"], controls["clear"], controls["reset"], self.bar)
        controls["train"].on_click(lambda _: self.train())
        controls["clear"].on_click(lambda _: self.clear())
        self.image = new_image()
        self._wire(
            controls, rows=[columns(knobs[:5], knobs[5:])], pictures=w.VBox([self.table, self.image]),
            below=[buttons, self.training, self.runs_image],
        )  # fmt: skip
        self.clear()

    def _show(self, values):
        recipe = recipe_of(values, self._recipe)
        self.result = plan_run(recipe, self._lengths, self._shape, device=self._device, tokens_per_s=self._speed)
        self.table.value = _table(self.result)
        return f"{self.result} {describe_rates(self.result.rates)}", self._drawn()

    def _refuse(self, error):
        self.table.value = ""
        super()._refuse(error)

    def _drawn(self) -> bytes:
        if self._picture is None:
            self._ax = Figure(figsize=(6.2, 2.3), dpi=110).add_axes((0.11, 0.21, 0.86, 0.75))
            plot_rates(self.result.rates, ax=self._ax)
            self._picture = Picture(self._ax.figure, (*self._ax.lines, *self._ax.texts))
        move_rates(self._ax, self.result.rates)
        return self._picture.png()

    def train(self) -> tuple[float, ...] | None:
        """Train the recipe for a few updates and add its curve; interrupting the kernel stops it and keeps the others."""
        if self.result is None:
            return None
        recipe = self.result.recipe
        recipe = recipe.but(max_steps=self._updates, warmup_steps=min(recipe.warmup_steps, self._updates // 4), logging_steps=1)
        self.controls["train"].disabled = True
        self.bar.value, self.bar.max = 0, self._updates
        self.training.value = status(f"Training {run_label(recipe)} …")
        losses = None
        try:
            losses = tuple(self._train(recipe, self._follow))
            self.runs = dict(list((self.runs | {run_label(recipe): losses}).items())[-MOST_RUNS:])
            self._redraw_runs()
        except KeyboardInterrupt:
            self.training.value = status("Stopped. The curves of finished trainings are kept.", alert=True)
        except Exception as error:
            self.training.value = status(str(error), alert=True)
        finally:
            self.controls["train"].disabled = False
        return losses

    def _follow(self, log) -> None:
        self.bar.value = log.step

    def clear(self) -> None:
        """Forget the short trainings."""
        self.runs, self.bar.value = {}, 0
        self._redraw_runs()

    def _redraw_runs(self) -> None:
        self.runs_image.layout.display = None if self.runs else "none"
        self.runs_image.value = png_bytes(plot_runs(self.runs).figure)
        self.training.value = status(describe_runs(self.runs))


def _table(plan: RunPlan) -> str:
    """The computed figures as an HTML table."""
    cells = {
        "trainable parameters": f"{plan.size.trainable_params:,}", "share of the base": f"{plan.size.trainable_share:.2%}",
        "memory (GiB, estimated)": f"{plan.memory.needed_gib:.2f}", "updates": f"{plan.updates:,}",
        "tokens": f"{plan.tokens:,}",
    }  # fmt: skip
    if plan.seconds is not None:
        cells["time (s, estimated)"] = f"{plan.seconds:,.0f}"
    look = "text-align:left;padding-right:1.4em"
    head = "".join(f'<th scope="col" style="{look}">{html.escape(name)}</th>' for name in cells)
    row = "".join(f'<td style="{look}">{html.escape(text)}</td>' for text in cells.values())
    table = f"<table><tr>{head}</tr><tr>{row}</tr></table>"
    return f'<div role="region" aria-label="Figures" tabindex="0" style="overflow-x:auto">{table}</div>'  # on a narrow page


def _controls(recipe: Recipe) -> dict:
    made = labelled(400)
    targets = next((name for name, modules in TARGETS.items() if tuple(modules) == recipe.target_modules), "all seven")
    rate = min(RATES, key=lambda r: abs(r - recipe.learning_rate))
    schedules = ("linear", "cosine", "constant", "constant_with_warmup")

    def power(value, description, most=256):
        options = sorted({*(p for p in _POWERS if p <= most), value})
        return w.SelectionSlider(options=options, value=value, description=description, **made)

    return {
        "r": power(recipe.r, "rank r", 128),
        "lora_alpha": power(recipe.lora_alpha, "lora_alpha"),
        "lora_dropout": w.FloatSlider(value=recipe.lora_dropout, min=0, max=0.5, step=0.05, readout_format=".2f",
                                      description="lora_dropout", **made),
        "targets": w.Dropdown(options=list(TARGETS), value=targets, description="target modules", **made),
        "learning_rate": w.SelectionSlider(options=[(f"{r:.0e}", r) for r in RATES], value=rate, description="learning rate",
                                           **made),
        "lr_scheduler_type": w.Dropdown(options=schedules, value=recipe.lr_scheduler_type, description="schedule", **made),
        "warmup_steps": w.IntSlider(value=recipe.warmup_steps, min=0, max=50, description="warm-up updates", **made),
        "epochs": w.IntSlider(value=round(recipe.num_train_epochs), min=1, max=10, description="epochs", **made),
        "batch": power(recipe.per_device_train_batch_size, "batch (rows at once)", 32),
        "accumulation": power(recipe.gradient_accumulation_steps, "accumulation (batches an update)", 16),
        "train": w.Button(description="Train", button_style="primary", layout=w.Layout(width="180px")),
        "clear": w.Button(description="Forget curves"),
        "reset": w.Button(description="Reset"),
    }  # fmt: skip
