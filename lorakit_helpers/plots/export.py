"""The fidelity ladder as a picture."""

from .figures import AFTER, new_axes

__all__ = ["describe_ladder", "plot_ladder"]


def plot_ladder(rungs, *, ax=None):
    """Divergence from the reference (the first rung) as dots with 95 % intervals, one row a rung; returns the axes.

    Args:
        rungs: :class:`~lorakit_helpers.export.ladder.Rung` objects, the reference first.
        ax: axes to draw on; None makes some.
    """
    shown = list(rungs)[1:]
    ax = ax or new_axes(7.0, 1.2 + 0.32 * len(shown))
    smallest = min((r.kl.low for r in shown if r.kl.low > 0), default=1e-4)
    for row, rung in enumerate(shown):
        value, low, high = (max(x, smallest / 2) for x in (rung.kl.value, rung.kl.low, rung.kl.high))  # 0 has no logarithm
        ax.errorbar(value, row, xerr=[[value - low], [high - value]], fmt="o", color=AFTER, ecolor="black", capsize=2)
    ax.set_yticks(range(len(shown)), [f"{rung.name} ({rung.size_mib:.0f} MiB)" for rung in shown])
    ax.invert_yaxis()
    ax.set(xscale="log", xlabel="KL divergence (nats per answer token), 95 % intervals")
    ax.grid(axis="x", alpha=0.3, which="both")
    return ax


def describe_ladder(rungs) -> str:
    """What :func:`plot_ladder` shows, in words, the nearest to the reference first."""
    shown = sorted(list(rungs)[1:], key=lambda rung: rung.kl.value)
    parts = [f"{rung.name} {rung.kl.value:.4f} nats at {rung.size_mib:.0f} MiB" for rung in shown]
    return f"Divergence from {rungs[0].name}: " + ", ".join(parts) + "."
