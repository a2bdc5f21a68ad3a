"""Pictures of a training step's memory: where the bytes go, when they are there, and how well they were predicted."""

from statistics import median

from ..memory.result import PARTS
from .figures import AFTER, BEFORE, new_axes

__all__ = [
    "describe_memory", "describe_predictions", "describe_timeline", "move_memory", "plot_memory", "plot_predictions",
    "plot_timeline",
]  # fmt: skip

#: One colour and one hatch for each part, so that the bars can be read in grey.
_LOOKS = {
    "weights": ("#7f7f7f", ""), "adapters": ("#f1c232", "xxx"), "gradients": ("#b45f06", "///"),
    "optimizer": ("#00498d", "\\\\\\"), "activations": ("#9fc5e8", "|||"), "logits": ("#741b47", "---"),
}  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_COLOURS = (AFTER, "#b45f06", "#38761d", "#741b47", BEFORE, "#000000", "#bf9000")


def plot_memory(estimates, *, ax=None, gpu_gib: float | None = None, most_gib: float | None = None):
    """One stacked bar for each estimate, part by part, against a GPU's size; returns the axes.

    Args:
        estimates: a :class:`lorakit_helpers.memory.MemoryEstimate`, or a dict of name to one.
        gpu_gib: drawn as an upright line, with what the driver and fragments are allowed beside each bar.
        most_gib: right end of the axis, GiB; a longer bar is cut there and its length written. None: the longest bar's.
    """
    bars = _named(estimates)
    ax = ax or new_axes(7.0, 1.5 + 0.45 * len(bars))
    longest = max(_end(e, gpu_gib) for e in bars.values())
    rows, none = range(len(bars)), [0.0] * len(bars)
    for part in PARTS:
        colour, hatch = _LOOKS[part]
        ax.barh(rows, none, height=0.62, color=colour, hatch=hatch, edgecolor="white", linewidth=0.5, label=part)
    if gpu_gib:
        ax.barh(rows, none, height=0.62, color="white", edgecolor="black", linewidth=0.8, linestyle=":",
                label="driver, fragments (allowance)")  # fmt: skip
        ax.axvline(gpu_gib, color="black", lw=1.6, linestyle="--", label="the card")
    for y in rows:
        ax.text(0, y, "", va="center", fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.9})
    ax.set_yticks(rows, list(bars))
    ax.set(xlabel="memory of one training step (GiB)", xlim=(0, most_gib or 1.16 * max(longest, gpu_gib or 0)),
           ylim=(len(bars) - 0.5, -0.5))  # fmt: skip
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, fontsize=8, frameon=False)
    move_memory(ax, estimates)
    return ax


def move_memory(ax, estimates, *, gpu_gib: float | None = None, most_gib: float | None = None) -> list:
    """Give the bars that :func:`plot_memory` drew other lengths; legend and names stay. Returns what may have changed.

    Args:
        ax: what ``plot_memory`` returned.
        estimates: as many as there are bars.
        gpu_gib: moves the card's line, if one was drawn.
        most_gib: a new right end of the axis, GiB.
    """
    if gpu_gib:
        ax.lines[0].set_xdata([gpu_gib, gpu_gib])
    if most_gib:
        ax.set_xlim(0, most_gib)
    bars, most = list(_named(estimates).values()), ax.get_xlim()[1]
    gpu = len(ax.containers) > len(PARTS)
    sizes = [[*e.parts.values(), e.context_gib + e.slack_gib] for e in bars]
    for i, container in enumerate(ax.containers):
        for rectangle, size in zip(container, sizes, strict=True):
            rectangle.set(x=sum(size[:i]), width=size[i])
    for text, e in zip(ax.texts, bars, strict=True):
        end = _end(e, gpu)
        cut = end > 0.88 * most
        figure = f"{end:.2f}" if end < 10 else f"{end:,.1f}"
        text.set(x=0.995 * most if cut else end + 0.01 * most, ha="right" if cut else "left",
                 text=f"{figure} →" if end > most else figure)  # fmt: skip
    return [ax.xaxis, *(rectangle for container in ax.containers for rectangle in container), *ax.lines, *ax.texts]


def describe_memory(estimates) -> str:
    """What :func:`plot_memory` shows: for each bar the total and its parts of 5 % and more, largest first."""
    sentences = []
    for name, e in _named(estimates).items():
        parts = sorted(e.parts.items(), key=lambda pair: -pair[1])
        told = [f"{part} {gib:.2f}" for part, gib in parts if gib >= 0.05 * e.total_gib > 0]
        sentences.append(f"{name + ': ' if name else ''}{e.total_gib:.2f} GiB (peak: {e.peak_at}), of these {', '.join(told)}.")
    return " ".join(sentences)


def plot_timeline(estimate, *, ax=None):
    """Memory in use through a simulated step, operation by operation, phases marked; returns the axes.

    Args:
        estimate: what ``simulate`` returned (it carries a timeline).
    """
    ax = ax or new_axes(7.0, 3.4)
    steps = _during(estimate.timeline)
    values = [gib for _, gib in steps]
    at = values.index(max(values))
    ax.plot(range(len(values)), values, color=AFTER, lw=1)
    ax.plot([at], [values[at]], marker="v", color="black", markersize=7)
    ax.annotate(f"peak {values[at]:.2f} GiB", (at, values[at]), xytext=(0, 8), textcoords="offset points", fontsize=9,
                ha="left" if at < len(values) / 3 else "right" if at > 2 * len(values) / 3 else "center")  # fmt: skip
    top, right = 1.2 * values[at], 1.06 * len(values)
    ax.plot([len(values) - 1, right], [values[-1]] * 2, color=AFTER, lw=1)  # the last phase has few events: widened
    runs = _phases(steps)
    runs[-1][2] = right
    for i, (phase, start, stop) in enumerate(runs):
        ax.axvspan(start, stop, color="#eeeeee" if i % 2 else "white", zorder=0)
        wide = stop - start > 0.12 * len(values)
        ax.text((start + stop) / 2, 0.03 * top, phase, rotation=0 if wide else 90, ha="center", va="bottom", fontsize=8)
    ax.set(xlabel="memory events in order: a tensor made or freed", ylabel="memory in use (GiB)",
           xlim=(0, right), ylim=(0, top))  # fmt: skip
    return ax


def describe_timeline(estimate) -> str:
    """What :func:`plot_timeline` shows: where it starts, the highest point of each phase, and the peak."""
    start = _during(estimate.timeline)[0][1]
    tops = ", ".join(f"{phase} {gib:.2f}" for phase, gib in estimate.phases.items())
    return (
        f"Memory starts at {start:.2f} GiB; the highest points are {tops} GiB. "
        f"The peak of {estimate.total_gib:.2f} GiB falls in the {estimate.peak_at}."
    )


def plot_predictions(points: dict, *, ax=None):
    """Predicted against measured peaks, on logarithmic axes, with bands of 10 and 25 %; returns the axes.

    Args:
        points: ``{group: [(measured, predicted), …]}`` in GB or GiB, the same for both.
    """
    from matplotlib.ticker import NullLocator

    ax = ax or new_axes(6.4, 4.4)
    every = [value for pairs in points.values() for pair in pairs for value in pair]
    low, high = 0.8 * min(every), 1.25 * max(every)
    line = [low, high]
    for width, colour in ((0.25, "#eeeeee"), (0.10, "#cccccc")):
        ax.fill_between(line, [v * (1 - width) for v in line], [v * (1 + width) for v in line], color=colour, lw=0,
                        label=f"within {width:.0%}")  # fmt: skip
    ax.plot(line, line, color="black", lw=0.8)
    for i, (group, pairs) in enumerate(points.items()):
        ax.plot(*zip(*pairs, strict=True), linestyle="", marker=_MARKERS[i % len(_MARKERS)], fillstyle="none",
                color=_COLOURS[i % len(_COLOURS)], label=group)  # fmt: skip
    ticks = [t for t in (1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 60, 80, 100) if low <= t <= high]
    ax.set(xlabel="measured peak (GB, 1e9 bytes)", ylabel="predicted peak (GB, 1e9 bytes)", xscale="log", yscale="log",
           xlim=line, ylim=line)  # fmt: skip
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_ticks(ticks, [f"{t:g}" for t in ticks])
    ax.legend(loc="upper left", fontsize=8)
    return ax


def describe_predictions(points: dict) -> str:
    """What :func:`plot_predictions` shows: rows, median and worst error of each group (predicted over measured, less 1)."""
    sentences = []
    for group, pairs in points.items():
        errors = [predicted / measured - 1 for measured, predicted in pairs]
        worst = max(errors, key=abs)
        rows = "1 row" if len(errors) == 1 else f"{len(errors)} rows"
        sentences.append(f"{group}: {rows}, median error {median(map(abs, errors)):.1%}, worst {worst:+.1%}.")
    return " ".join(sentences)


def _end(estimate, gpu) -> float:
    return estimate.needed_gib if gpu else estimate.total_gib


def _named(estimates) -> dict:
    return estimates if isinstance(estimates, dict) else {"": estimates}


def _during(timeline):
    """The step itself: without what is placed before it, and without what is given back after it."""
    steps = [(phase, gib) for phase, gib in timeline if phase != "before"]
    while len(steps) > 1 and steps[-1][1] < 0.999 * steps[0][1]:
        steps.pop()
    return steps


def _phases(steps):
    """(phase, first, last) of each run of equal phases, in order."""
    runs = []
    for i, (phase, _) in enumerate(steps):
        if not runs or runs[-1][0] != phase:
            runs.append([phase, i, i])
        runs[-1][2] = i + 1
    return runs
