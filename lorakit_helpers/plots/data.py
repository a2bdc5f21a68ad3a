"""Pictures of what mistakes in training data cost."""

from collections.abc import Sequence

from ..evaluation import Difference, verdict
from .figures import AFTER, BEFORE, new_axes

__all__ = ["describe_harm", "plot_harm"]

_WORDS = {"Better": "better", "Worse": "worse"}


def _word(difference: Difference) -> str:
    return _WORDS.get(verdict(difference).split(":")[0], "no evidence")


def plot_harm(differences: Sequence[Difference], *, ax=None, against: str = "clean"):
    """How far each data set's figure lies from the clean one's, with 95 % intervals; returns the axes.

    Args:
        differences: paired, ``before`` is the clean set's; all of one unit. A filled mark is a difference that
            :func:`lorakit_helpers.evaluation.verdict` calls better or worse, a hollow one shows no evidence.
        against: name of what they are compared with.
    """
    ax = ax or new_axes(7.0, 0.5 * len(differences) + 1.3)
    for place, d in enumerate(differences):
        sure = _word(d) != "no evidence"
        error = [[d.difference - d.low], [d.high - d.difference]]
        ax.errorbar(
            d.difference, place, xerr=error, fmt="o", color=AFTER if sure else BEFORE, mfc=AFTER if sure else "white",
            capsize=4, markersize=7, lw=1.5,
        )  # fmt: skip
        ax.annotate(_word(d), (d.high, place), xytext=(8, 0), textcoords="offset points", va="center", fontsize=9)
    ax.axvline(0, color="black", lw=1)
    ax.set_yticks(range(len(differences)), [d.name for d in differences])
    ax.set_ylim(len(differences) - 0.5, -0.5)
    unit = f" ({differences[0].unit})" if differences[0].unit else ""
    ax.set_xlabel(f"loss on {differences[0].n} held-out tickets, minus that of {against}{unit}, 95 % intervals")
    ax.margins(x=0.15)
    ax.grid(axis="x", alpha=0.3)
    return ax


def describe_harm(differences: Sequence[Difference], *, against: str = "clean") -> str:
    """What :func:`plot_harm` shows, in words."""
    parts = [f"{d.name} {d.difference:+.3f} [{d.low:+.3f}, {d.high:+.3f}], {_word(d)}" for d in differences]
    return f"Loss compared with {against}, in {differences[0].unit or 'its unit'}: " + "; ".join(parts) + "."
