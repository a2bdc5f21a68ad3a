"""Pictures of learning-rate schedules, of trainings side by side, and of the prepared sweep."""

import numpy as np

from .figures import AFTER, BEFORE, new_axes

__all__ = [
    "describe_rates", "describe_runs", "describe_schedules", "describe_sweep", "move_rates", "plot_rates", "plot_runs",
    "plot_schedules", "plot_sweep",
]  # fmt: skip

_LOOKS = (("#00498d", "-", "o"), ("#b35900", "--", "s"), ("#2f6f3e", "-.", "^"), ("#7a2f7a", ":", "D"), ("#7f7f7f", "-", "x"))


def look(i: int) -> dict:
    """Colour, line and marker of the i-th of several lines: told apart without colour, too."""
    colour, line, marker = _LOOKS[i % len(_LOOKS)]
    return {"color": colour, "linestyle": line, "marker": marker, "markersize": 4}


def plot_schedules(schedules: dict, *, ax=None):
    """Learning rates by update, ``{name: rates}``; returns the axes."""
    ax = ax or new_axes()
    for i, (name, rates) in enumerate(schedules.items()):
        ax.plot(range(1, len(rates) + 1), rates, label=name, markevery=max(1, len(rates) // 8), **look(i))
    ax.set(xlabel="optimizer update", ylabel="learning rate", ylim=(0, None))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, frameon=False)
    ax.grid(alpha=0.3)
    return ax


def describe_schedules(schedules: dict) -> str:
    """What :func:`plot_schedules` shows, in words."""
    parts = [f"{name} peaks at {max(r):.2g}, ends at {r[-1]:.2g}, {np.mean(r):.2g} on average" for name, r in schedules.items()]
    return "Learning rates: " + "; ".join(parts) + "."


def plot_rates(rates, *, ax):
    """One run's rates as shares of the peak, against the share of the run; axes that stand still."""
    ax.set(xlabel="share of the run", ylabel="learning rate / peak", xlim=(0, 1), ylim=(0, 1.08))
    ax.grid(alpha=0.3)
    ax.plot([], [], color=AFTER, linewidth=2)
    ax.text(0.98, 0.93, "", ha="right", va="top", transform=ax.transAxes)
    move_rates(ax, rates)
    return ax


def move_rates(ax, rates) -> None:
    """Show other rates in the axes of :func:`plot_rates`."""
    n, peak = len(rates), max(rates)
    ax.lines[0].set_data((np.arange(n) + 0.5) / n, np.asarray(rates) / (peak or 1))
    ax.texts[0].set_text(f"peak {peak:.2g}, {n} update{'' if n == 1 else 's'}")


def describe_rates(rates) -> str:
    """What :func:`plot_rates` shows, in words.

    Example:
        >>> describe_rates([0.0])  # one update, and a warm-up of ten
        'The learning rate is 0 throughout: the run ends before its warm-up gets anywhere.'
    """
    if max(rates) == 0:
        return "The learning rate is 0 throughout: the run ends before its warm-up gets anywhere."
    up = int(np.argmax(rates))
    rise = f"rises for {up} of {len(rates)} updates" if up else "starts at its peak"
    return f"The learning rate {rise}, then ends at {rates[-1] / max(rates):.0%} of it."


def plot_runs(runs: dict, *, ax=None):
    """Training losses by update, ``{label: losses}``; returns the axes."""
    ax = ax or new_axes(7.0, 4.0)
    for i, (label, losses) in enumerate(runs.items()):
        ax.plot(range(1, len(losses) + 1), losses, label=label, **look(i))
    ax.set(xlabel="optimizer update", ylabel="loss on the answers (nats per token)")
    ax.xaxis.get_major_locator().set_params(integer=True)
    if runs:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False, fontsize=9)
    ax.grid(alpha=0.3)
    return ax


def describe_runs(runs: dict) -> str:
    """What :func:`plot_runs` shows, in words."""
    if not runs:
        return "No training yet."
    return "; ".join(f"{label}: loss {losses[0]:.2f} to {losses[-1]:.2f}" for label, losses in runs.items()) + "."


def plot_sweep(found, *, ax=None):
    """One knob's losses, a point for each seed and a line through the means; ``found`` from ``knobs.effects``."""
    ax = ax or new_axes(7.0, 3.2)
    places = range(len(found))
    ax.plot(places, [e.loss for e in found], color=AFTER, label="mean over seeds")
    for i, effect in enumerate(found):
        ax.plot([i] * len(effect.losses), effect.losses, "o", color=BEFORE, markersize=5, label="" if i else "one seed")
    ax.set_xticks(places, [e.name + ("\n(centre)" if e.centre else "") for e in found])
    ax.set(xlabel=found[0].knob, ylabel="validation loss\n(nats per answer token)", ylim=(0, None))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False)
    ax.grid(axis="y", alpha=0.3)
    return ax


def describe_sweep(found) -> str:
    """What :func:`plot_sweep` shows, in words."""
    parts = [f"{e.name} {e.loss:.3f}" for e in found]
    return f"Mean validation loss by {found[0].knob}: " + ", ".join(parts) + "."
