"""A picture of one model's scores when its prompts are written in different templates."""

from .figures import AFTER, BEFORE, new_axes

__all__ = ["describe_by_template", "plot_by_template"]

_LOOKS = ((AFTER, ""), (BEFORE, "//"), ("#f1c232", ".."))


def plot_by_template(scores: dict, metrics=("exact match", "valid JSON"), *, ax=None):
    """Bars with 95 % intervals for each template; returns the axes.

    Args:
        scores: template to a dict of metric name to :class:`~lorakit_helpers.evaluation.Metric` (shares).
        metrics: which to draw, at most three.
    """
    ax = ax or new_axes(7.0, 1.3 + 0.5 * len(scores))
    height = 0.8 / len(metrics)
    for k, (name, (colour, hatch)) in enumerate(zip(metrics, _LOOKS, strict=False)):
        found = [by_name[name] for by_name in scores.values()]
        errors = [[100 * (m.value - m.low) for m in found], [100 * (m.high - m.value) for m in found]]
        places = [i + (k - (len(metrics) - 1) / 2) * height for i in range(len(scores))]
        ax.barh(places, [100 * m.value for m in found], 0.92 * height, xerr=errors, color=colour, hatch=hatch,
                edgecolor="white", label=name, capsize=2, error_kw={"ecolor": "black", "lw": 1})  # fmt: skip
    ax.set_yticks(range(len(scores)), list(scores))
    ax.invert_yaxis()
    ax.set(xlabel=f"share of {found[0].n} tickets (%), with 95 % intervals", xlim=(0, 104))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=len(metrics), frameon=False)
    ax.grid(axis="x", alpha=0.3)
    return ax


def describe_by_template(scores: dict, metrics=("exact match", "valid JSON")) -> str:
    """What :func:`plot_by_template` shows, in words."""
    parts = [
        f"{template}: " + ", ".join(f"{name} {by_name[name].value:.0%}" for name in metrics)
        for template, by_name in scores.items()
    ]
    return "The same model on the same tickets by prompt template. " + "; ".join(parts) + "."
