"""Pictures of evaluations: any number of models side by side with their intervals, and what a test set can resolve."""

from ..errors import LorakitError
from .figures import AFTER, BEFORE, new_axes

__all__ = ["describe_resolvable", "describe_shares", "plot_resolvable", "plot_shares"]

#: Colour and hatch of the first, second, … model: they differ in lightness and in pattern, not in colour alone.
_LOOKS = ((BEFORE, "//"), (AFTER, ""), ("#e0a030", ".."), ("#6b2d5c", "xx"))
MOST = len(_LOOKS)


def plot_shares(groups: dict, *, of: str = "rows", names=None, ax=None):
    """Shares of several models as bars with 95 % intervals; returns the axes.

    Args:
        groups: from a model's name to its metrics by name (:class:`~lorakit_helpers.evaluation.Metric`, shares from 0 to 1);
            at most four models.
        of: what the share is of, for the axis.
        names: which metrics, in this order; None takes the first model's.
        ax: axes to draw on; None makes some.

    Raises:
        LorakitError: for no model, or more than four.
    """
    if not 1 <= len(groups) <= MOST:
        raise LorakitError("models to draw", got=len(groups), expected=f"1 to {MOST}", do="Draw them in several figures.")
    names = list(names or next(iter(groups.values())))
    ax = ax or new_axes(7.0, 1.1 + (0.16 + 0.17 * len(groups)) * len(names))
    height = 0.8 / len(groups)
    for place, ((label, metrics), (colour, hatch)) in enumerate(zip(groups.items(), _LOOKS[: len(groups)], strict=True)):
        chosen = [metrics[name] for name in names]
        values = [100 * m.value for m in chosen]
        errors = [[100 * (m.value - m.low) for m in chosen], [100 * (m.high - m.value) for m in chosen]]
        rows = [i + height * (place - (len(groups) - 1) / 2) for i in range(len(names))]
        ax.barh(rows, values, 0.95 * height, xerr=errors, color=colour, hatch=hatch, edgecolor="white", label=label,
                capsize=2, error_kw={"ecolor": "black", "lw": 1})  # fmt: skip
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(xlabel=f"share of {of} (%), with 95 % intervals", xlim=(0, 104))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(groups), frameon=False)  # above: bars may fill the axes
    ax.grid(axis="x", alpha=0.3)
    return ax


def describe_shares(groups: dict, *, names=None) -> str:
    """What :func:`plot_shares` shows, in words."""
    names = list(names or next(iter(groups.values())))
    parts = [
        f"{label}: " + ", ".join(f"{name} {m[name].value:.0%} [{m[name].low:.0%}, {m[name].high:.0%}]" for name in names)
        for label, m in groups.items()
    ]
    return "; ".join(parts) + "."


def plot_resolvable(rate: float, rows, *, marked: int | None = None, ax=None):
    """The smallest difference a paired test finds 8 times in 10 against the number of test rows; returns the axes.

    Args:
        rate: the first model's share of right answers.
        rows: numbers of test rows.
        marked: a number of rows to mark, for example that of this test set.
        ax: axes to draw on; None makes some.
    """
    from ..metrics import resolvable_difference

    ax = ax or new_axes(7.0, 3.0)
    found = [100 * resolvable_difference(n, rate) for n in rows]
    ax.plot(rows, found, color=AFTER, marker="o", markersize=3)
    if marked:
        here = 100 * resolvable_difference(marked, rate)
        ax.plot([marked], [here], color="black", marker="D")
        ax.annotate(f"{marked} rows", (marked, here), (6, 6), textcoords="offset points")
    ax.set(xscale="log", xlabel="test rows", ylabel="smallest difference\nfound 8 times in 10 (points)", ylim=(0, None))
    ax.grid(alpha=0.3, which="both")
    return ax


def describe_resolvable(rate: float, rows) -> str:
    """What :func:`plot_resolvable` shows, in words."""
    from ..metrics import resolvable_difference

    parts = [f"{n} rows {100 * resolvable_difference(n, rate):.0f} points" for n in rows]
    return f"With {rate:.0%} right, the smallest difference found 8 times in 10 is: " + ", ".join(parts) + "."
