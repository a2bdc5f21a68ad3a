"""Pictures of the clinic: losses that may explode, and one figure before and after a cure."""

import math

from .figures import AFTER, BEFORE, new_axes
from .lab import look

__all__ = ["describe_losses", "describe_visit", "move_visit", "plot_losses", "plot_visit"]


def plot_losses(runs: dict, *, ax=None):
    """Training losses by update on a log axis, ``{label: losses}``; returns the axes."""
    from matplotlib.ticker import LogLocator

    ax = ax or new_axes()
    for i, (label, losses) in enumerate(runs.items()):
        ax.plot(range(1, len(losses) + 1), losses, label=label, **look(i))
    ax.set(xlabel="optimizer update", ylabel="loss on the answers\n(nats per token)", yscale="log")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    ax.yaxis.set_minor_formatter("{x:g}")
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    ax.grid(alpha=0.3)
    return ax


def describe_losses(runs: dict) -> str:
    """What :func:`plot_losses` shows, in words."""
    parts = [
        f"{label}: {losses[0]:.2f} at first, {max(losses):.2f} at most, {losses[-1]:.2f} at the end"
        for label, losses in runs.items()
    ]
    return "Loss by update. " + "; ".join(parts) + "."


def plot_visit(visit, *, answered: bool = True, ax=None):
    """A case's figure before and after its cure as two bars; ``answered=False`` hides the second. Returns the axes."""
    ax = ax or new_axes(7.0, 1.7)
    for y, colour, hatch in ((1, BEFORE, "//"), (0, AFTER, "")):
        ax.barh(y, 0, height=0.6, color=colour, hatch=hatch, edgecolor="white")
        ax.text(0.01, y, "", va="center", transform=ax.get_yaxis_transform())
    ax.set_yticks([1, 0], ["before the cure", "after it"])
    ax.set(xlim=(0, 1.45), ylim=(-0.5, 1.5), xticks=[])
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    move_visit(ax, visit, answered)
    return ax


def move_visit(ax, visit, answered: bool = True) -> None:
    """Show another case in the axes of :func:`plot_visit`; the longer bar has the length 1."""
    values = [visit.sick, visit.well if answered else None]
    longest = max((abs(v) for v in (visit.sick, visit.well) if v is not None and math.isfinite(v)), default=0) or 1
    for value, patch, text, hidden in zip(values, ax.patches, ax.texts, (False, not answered), strict=True):
        width = 0 if value is None or not math.isfinite(value) else abs(value) / longest
        patch.set_width(width)
        text.set_x((width + 0.02) / 1.45)
        shown = "not shown here" if value is None else visit.figure(value).split(" ")[0]
        text.set_text("(answer first)" if hidden else shown)


def describe_visit(visit, *, answered: bool = True) -> str:
    """What :func:`plot_visit` shows, in words."""
    after = f" After the cure: {visit.figure(visit.well)}." if answered else ""
    return f"Before: {visit.figure(visit.sick)}.{after}"
