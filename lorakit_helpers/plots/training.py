"""Pictures of a training run and of what it changed."""

from .evaluation import plot_shares
from .figures import AFTER, new_axes

__all__ = ["describe_before_after", "describe_training", "plot_before_after", "plot_training"]


def plot_training(log, *, ax=None):
    """Loss against optimizer step for a :class:`lorakit_helpers.training.TrainingLog`; returns the axes."""
    from matplotlib.ticker import LogLocator

    ax = ax or new_axes()
    ax.plot(log.steps, log.losses, color=AFTER, marker="o", markersize=3)
    ax.set(xlabel="optimizer step", ylabel="loss on the answers (nats per token)", xlim=(0, max(log.max_steps, 1)))
    if any(0 < loss < float("inf") for loss in log.losses):  # a log axis needs one; nan losses must not stop a run
        ax.set_yscale("log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))  # labels at every digit would overlap
        ax.yaxis.set_minor_formatter("{x:g}")
    ax.grid(alpha=0.3)
    return ax


def describe_training(log) -> str:
    """The training's state as one sentence."""
    if not log.losses:
        return f"Step {log.step} of {log.max_steps}: no loss logged yet."
    return (
        f"Step {log.step} of {log.max_steps}: loss {log.losses[0]:.3f} at step {log.steps[0]}, {log.losses[-1]:.3f} at step "
        f"{log.steps[-1]}; {log.tokens_per_s:.0f} tokens/s, peak memory {log.peak_gib:.2f} GiB."
    )


def plot_before_after(before, after, *, ax=None, names=None):
    """Two :class:`TicketScores` side by side as bars with 95 % intervals; returns the axes."""
    names = names or [n for n in before.metrics if n != "extra keys"]
    tickets = f"{before.metrics[names[0]].n} tickets"
    return plot_shares({"before": before.metrics, "after": after.metrics}, of=tickets, names=names, ax=ax)


def describe_before_after(before, after) -> str:
    """What :func:`plot_before_after` shows, in words."""
    parts = [
        f"{name} from {before.metrics[name].value:.0%} to {after.metrics[name].value:.0%}"
        for name in ("valid JSON", "exact match", "intent accuracy", "urgency accuracy")
    ]
    return f"Before and after training on {before.metrics['exact match'].n} tickets: " + ", ".join(parts) + "."
