"""Pictures of lesson 01: several ways of asking side by side, and which of them the rules leave."""

from .figures import AFTER, BEFORE, new_axes

__all__ = ["describe_ways", "move_advice", "plot_advice", "plot_ways"]

_SHADES = ((BEFORE, "//"), (AFTER, ""), ("#c9a227", ".."))


def plot_ways(groups: dict, *, ax=None, what: str = "right"):
    """Bars with 95 % intervals; returns the axes.

    Args:
        groups: from a label to ``{way: Metric}``, at most three; the ways are the same in each.
        what: of which the bars are shares, for the axis.
    """
    ways = list(next(iter(groups.values())))
    ax = ax or new_axes(7.4, 0.9 + 0.55 * len(ways))
    height = 0.8 / len(groups)
    for place, ((label, metrics), (colour, hatch)) in enumerate(zip(groups.items(), _SHADES, strict=False)):
        found = [metrics[way] for way in ways]
        values = [100 * m.value for m in found]
        errors = [[100 * (m.value - m.low) for m in found], [100 * (m.high - m.value) for m in found]]
        at = [i + (place - (len(groups) - 1) / 2) * height for i in range(len(ways))]
        ax.barh(at, values, 0.92 * height, xerr=errors, color=colour, hatch=hatch, edgecolor="white", capsize=2,
                label=f"{label} (n = {found[0].n})", error_kw={"ecolor": "black", "lw": 1})  # fmt: skip
    ax.set_yticks(range(len(ways)), ways)
    ax.invert_yaxis()
    ax.set(xlabel=f"{what} (%), with 95 % intervals", xlim=(0, 104))
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)  # above: bars may fill the axes
    ax.grid(axis="x", alpha=0.3)
    return ax


def describe_ways(groups: dict) -> str:
    """What :func:`plot_ways` shows, in words."""
    parts = [
        f"{label}: " + ", ".join(f"{way} {metric.value:.0%}" for way, metric in metrics.items())
        for label, metrics in groups.items()
    ]
    return "; ".join(parts) + "."


def plot_advice(advice, *, ax=None):
    """The figure each way was judged by, with what the rules did to it; returns the axes."""
    from matplotlib.patheffects import withStroke

    ax = ax or new_axes(7.4, 2.6)
    ways = list(advice.scores)
    ax.barh(range(len(ways)), [0] * len(ways), 0.62, edgecolor="white")
    lines = ax.hlines(range(len(ways)), 0, 0, color="black", lw=1.2)
    lines.set_path_effects([withStroke(linewidth=3, foreground="white")])  # black alone is lost on the dark bar
    for i in range(len(ways)):
        ax.text(102, i, "", va="center", fontsize=9)
    ax.set_yticks(range(len(ways)), ways)
    ax.invert_yaxis()
    ax.set(xlabel="share right (%), with 95 % interval", xlim=(0, 140), xticks=range(0, 101, 20))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)
    return move_advice(ax, advice)


def move_advice(ax, advice):
    """Give axes drawn by :func:`plot_advice` another advice; quicker than drawing anew. Returns the axes."""
    struck = {}
    for finding in advice.findings:
        for way in finding.out:
            struck.setdefault(way, []).append(finding.rule)
    segments = []
    for i, (bar, text, (way, metric)) in enumerate(zip(ax.patches, ax.texts, advice.scores.items(), strict=True)):
        bar.set_width(100 * metric.value)
        out, chosen = way in struck, way == advice.way
        bar.set(facecolor=AFTER if chosen else "#d9d9d9" if out else BEFORE, hatch="xx" if out else "" if chosen else "//")
        text.set_text(f"out: {', '.join(struck[way])}" if out else "chosen" if chosen else "possible")
        segments.append([(100 * metric.low, i), (100 * metric.high, i)])
    ax.collections[0].set_segments(segments)
    return ax
