"""Pictures for larger runs: which model fits on which card, and how long a training takes, as intervals."""

from .figures import AFTER, new_axes

__all__ = ["describe_cost", "describe_matrix", "plot_cost", "plot_matrix"]

#: Colour, hatch and the word's colour of each method, so that the squares can be read in grey.
_LOOKS = {
    "full": ("#00498d", "", "white"), "lora": ("#9fc5e8", "///", "black"), "qlora": ("#f1c232", "...", "black"),
    "": ("white", "", "black"),
}  # fmt: skip
_NAMES = {"full": "full", "lora": "LoRA", "qlora": "QLoRA", "": "nothing fits"}


def plot_matrix(matrix, *, ax=None):
    """A square for each model and card, with the method's name in it; a dashed edge and "?" where it is not sure.

    Args:
        matrix: a :class:`lorakit_helpers.scale.matrix.Matrix`.
    """
    from matplotlib.patches import Patch, Rectangle

    ax = ax or new_axes(1.6 + 1.05 * len(matrix.cards), 1.5 + 0.52 * len(matrix.models))
    for y, model in enumerate(matrix.models):
        for x, card in enumerate(matrix.cards):
            cell = matrix.cells[model, card]
            colour, hatch, ink = _LOOKS[cell.method]
            ax.add_patch(Rectangle((x - 0.46, y - 0.42), 0.92, 0.84, facecolor=colour, hatch=hatch, edgecolor="#666666",
                                   linestyle="-" if cell.sure else "--", linewidth=0.8 if cell.sure else 1.6))  # fmt: skip
            box = None if cell.method in ("full", "") else {"facecolor": colour, "edgecolor": "none", "pad": 1.2}
            ax.text(x, y, cell.text.replace(", ", "\n"), ha="center", va="center", fontsize=7.5, color=ink, bbox=box)
    ax.set_xticks(range(len(matrix.cards)), [f"{card} GB" for card in matrix.cards])
    ax.set_yticks(range(len(matrix.models)), matrix.models)
    ax.set(xlim=(-0.5, len(matrix.cards) - 0.5), ylim=(len(matrix.models) - 0.5, -0.5), xlabel="memory on the card's box")
    ax.tick_params(length=0)
    shown = [m for m in _LOOKS if any(cell.method == m for cell in matrix.cells.values())]
    keys = [Patch(facecolor=_LOOKS[m][0], hatch=_LOOKS[m][1], edgecolor="#666666", label=_NAMES[m]) for m in shown]
    if any(not cell.sure for cell in matrix.cells.values()):
        keys.append(
            Patch(facecolor="white", edgecolor="#666666", linestyle="--", linewidth=1.6, label="? by the estimate only")
        )
    ax.legend(handles=keys, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8, frameon=False)
    return ax


def describe_matrix(matrix) -> str:
    """What :func:`plot_matrix` shows: for each model what fits from which card on, smallest first."""
    sentences = []
    for model in matrix.models:
        told, last = [], None
        for card in matrix.cards:
            text = matrix.cells[model, card].text
            if text != last:
                told.append(f"{'nothing' if text == '–' else text} on {card} GB")
            last = text
        sentences.append(f"{model}: {', '.join(told)}.")
    return f"Each holds from the card named with it to the next one named. {' '.join(sentences)}"


def plot_cost(times: dict, *, claimed: tuple[float, float] | None = None, ax=None):
    """A bar from the lowest to the highest time of each case, on a logarithmic axis, ends written; returns the axes.

    Args:
        times: ``{name: TimeEstimate}``.
        claimed: (low, high) minutes, drawn as a band.
    """
    from matplotlib.ticker import NullLocator

    ax = ax or new_axes(7.0, 1.3 + 0.45 * len(times))
    spans = [time.minutes for time in times.values()]
    if claimed:
        ax.axvspan(*claimed, facecolor="#dddddd", edgecolor="#888888", hatch="//", lw=0.5, zorder=0,
                   label=f"claimed: {claimed[0]:g} to {claimed[1]:g} minutes")  # fmt: skip
    for y, (low, high) in enumerate(spans):
        ax.plot([low, high], [y, y], color=AFTER, lw=5, solid_capstyle="butt", label="" if y else "computed: low to high")
        ax.plot([low, high], [y, y], "|", color="black", markersize=13)
        ax.annotate(f"{_time(low)} – {_time(high)}" if low < high else _time(low), (high, y), xytext=(7, 0),
                    textcoords="offset points", va="center", fontsize=9,
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.85})  # fmt: skip
    least, most = min(low for low, _ in spans), max(high for _, high in spans)
    if claimed:
        least, most = min(least, claimed[0]), max(most, claimed[1])
    ax.set_yticks(range(len(times)), list(times))
    ax.set(xscale="log", xlabel="minutes (logarithmic)", xlim=(0.7 * least, 4.5 * most), ylim=(len(times) - 0.5, -0.5))
    ticks = [t for t in (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000) if 0.7 * least <= t <= 4.5 * most]
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)
    return ax


def describe_cost(times: dict, *, claimed: tuple[float, float] | None = None) -> str:
    """What :func:`plot_cost` shows: each case's span and where it comes from."""
    parts = [f"{name}: {_span(time)} ({time.provenance})" for name, time in times.items()]
    claim = f"Claimed: {claimed[0]:g} to {claimed[1]:g} minutes. " if claimed else ""
    return claim + "; ".join(parts) + "."


def _span(time) -> str:
    low, high = time.minutes
    return f"{_time(low)} to {_time(high)}" if low < high else _time(low)


def _time(minutes) -> str:
    return f"{minutes:.2g} min" if minutes < 1 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
