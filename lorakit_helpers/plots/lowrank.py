"""Pictures of low rank: a matrix and its approximation, singular values, adapter sizes, and the toy task's floor."""

import numpy as np

from .figures import AFTER, BEFORE, new_axes

__all__ = [
    "describe_adapter", "describe_compression", "describe_spectra", "describe_toy", "move_adapter", "plot_adapter",
    "plot_compression", "plot_spectra", "plot_toy",
]  # fmt: skip

_STYLES = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"), ((0, (5, 1)), "v"), ((0, (1, 3)), "x"))
_COLOURS = (AFTER, "#b45f06", "#38761d", "#741b47", BEFORE, "#000000")


def plot_compression(parts, rank: int, *, ax=None, window: int = 96):
    """A matrix (left) and its best approximation of this rank (right), on one grey scale; returns the axes.

    Args:
        parts: a :class:`lorakit_helpers.lowrank.Decomposition`.
        rank: 0 to ``parts.max_rank``.
        window: only this many first rows and columns are drawn.
    """
    ax = ax or new_axes(6.0, 3.2)
    whole, kept = parts.at(parts.max_rank, window), parts.at(rank, window)
    low, high = np.percentile(whole, [1, 99]) if whole.min() < whole.max() else (0.0, 1.0)
    gap = np.full((whole.shape[0], max(2, whole.shape[1] // 24)), np.nan)
    ax.imshow(np.hstack([whole, gap, kept]), cmap="gray", vmin=low, vmax=high, interpolation="nearest", aspect="equal")
    width, step = whole.shape[1], whole.shape[1] + gap.shape[1]
    ax.set_xticks([width / 2, step + width / 2], [f"all {parts.max_rank} ranks", f"rank {rank}"])
    ax.set_yticks([])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)  # a frame around both, with the gap in it, looked broken
    shown = "" if parts.shape == whole.shape else f" (the first {whole.shape[0]} × {whole.shape[1]} drawn)"
    ax.set_title(f"{parts.shape[0]} × {parts.shape[1]} values{shown}", fontsize=9)
    return ax


def describe_compression(parts, rank: int) -> str:
    """What :func:`plot_compression` shows, in figures."""
    kept = parts.compression(rank)
    return (
        f"Rank {rank} of {parts.max_rank} keeps {kept.energy_share:.1%} of the energy, is off by {kept.relative_error:.1%} of "
        f"the matrix's size, and stores {kept.values:,} values, {kept.values_share:.0%} of {parts.shape[0]} × {parts.shape[1]}."
    )


def plot_spectra(spectra: dict, *, ax=None, rank: int | None = None, limit: int | None = None):
    """Singular values of several matrices, each divided by its largest, on a logarithmic axis; returns the axes.

    Args:
        spectra: name to singular values, largest first.
        rank: marked by an upright line, or None.
        limit: draw the first so many; None means all.
    """
    from matplotlib.ticker import NullLocator

    ax = ax or new_axes()
    for i, (name, values) in enumerate(spectra.items()):
        s = np.asarray(values, dtype=float)[:limit]
        s = np.where(s > 1e-7 * s[0], s / s[0], np.nan) if s[0] else s  # below is rounding, not signal
        line, marker = _STYLES[i % len(_STYLES)]
        every = max(1, len(s) // 8)
        ax.plot(np.arange(1, len(s) + 1), s, linestyle=line, marker=marker, markevery=every, markersize=4,
                color=_COLOURS[i % len(_COLOURS)], label=name)  # fmt: skip
    if rank is not None:
        ax.axvline(rank + 0.5, color="black", lw=1, linestyle=":")
    ax.set(xlabel="number of the singular value (1 is the largest)", ylabel="size, largest = 1", yscale="log")
    ax.yaxis.set_major_formatter("{x:g}")  # plain text: mathtext powers of ten take most of a redraw
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_xlim(left=0)
    ax.grid(alpha=0.3)
    if len(spectra) > 1:
        ax.legend(fontsize=8)
    return ax


def describe_spectra(spectra: dict, share: float = 0.9, limit: int | None = None) -> str:
    """What :func:`plot_spectra` shows of each matrix, some of its singular values, and the rank for a share of its energy."""
    from ..lowrank import rank_for_energy

    drawn, parts = [], []
    for name, s in spectra.items():
        last = min(len(s), limit or len(s))
        sizes = ", ".join(f"number {k} is {s[k - 1] / s[0]:.2g}" for k in (*(k for k in (8, 32) if k < last), last))
        drawn.append(f"{name}: {sizes}")
        parts.append(f"{name} {rank_for_energy(s, share)} of {len(s)}")
    return (
        f"Singular values as shares of the largest, on a logarithmic axis. {'; '.join(drawn)}. Ranks that keep {share:.0%} of "
        f"the energy: {'; '.join(parts)}."
    )


def plot_adapter(size, *, ax=None, most_mb: float | None = None):
    """Megabytes of an :class:`lorakit_helpers.lowrank.AdapterSize`: file and training, fp32 and bf16; returns the axes."""
    from matplotlib.ticker import NullLocator

    ax = ax or new_axes(5.0, 2.2)
    names, values = ("file, bf16", "file, fp32", "training, fp32"), _adapter_mb(size)
    bars = ax.barh(names, values, color=(BEFORE, AFTER, AFTER), hatch=("", "", "//"), edgecolor="white")
    ax.bar_label(bars, [f"{value:,.1f}" for value in values], padding=3, fontsize=8)
    ax.set(xlabel="MB (1e6 bytes) of the adapter", xscale="log", xlim=(0.1, most_mb or max(10 * values[-1], 1.0)))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xticks([10.0**i for i in range(-1, 6)], ["0.1", "1", "10", "100", "1,000", "10⁴", "10⁵"])
    ax.invert_yaxis()
    return ax


def move_adapter(ax, size):
    """Give axes drawn by :func:`plot_adapter` another size; quicker than drawing anew. Returns the axes."""
    for bar, label, value in zip(ax.patches, ax.texts, _adapter_mb(size), strict=True):
        bar.set_width(value)
        label.xy = (value, label.xy[1])
        label.set_text(f"{value:,.1f}")
    return ax


def _adapter_mb(size) -> tuple:
    return size.file_mb("bf16"), size.file_mb("fp32"), 1000 * size.training_gb("fp32")


def describe_adapter(size) -> str:
    """What :func:`plot_adapter` shows, with the counts."""
    share = f"{size.trainable_share:.2%}" if size.trainable_share >= 1e-4 else "less than 0.01%"
    return (
        f"{size.trainable_params:,} parameters train, {share} of the base; the file takes "
        f"{size.file_mb('fp32'):,.1f} MB in fp32 or {size.file_mb('bf16'):,.1f} MB in bf16; weights, gradients and AdamW's "
        f"moments of the adapter take {size.training_gb('fp32'):,.2f} GB while training."
    )


def plot_toy(runs, *, ax=None):
    """Where toy trainings of several ranks ended, over the least each rank can reach; returns the axes.

    Args:
        runs: :class:`lorakit_helpers.lowrank.ToyRun` of one target rank.
    """
    from matplotlib.ticker import MaxNLocator

    from ..lowrank import decompose, toy_target

    ax = ax or new_axes(6.0, 3.2)
    target_rank = runs[0].target_rank if runs else 8
    parts = decompose(toy_target(target_rank))
    ranks = range(1, max([2 * target_rank, *(run.r for run in runs)]) + 1)
    floors = [100 * parts.relative_error(r) ** 2 for r in ranks if r <= parts.max_rank]
    ax.plot(ranks[: len(floors)], floors, color=BEFORE, linestyle="--", marker="_", markersize=12, label="floor (SVD)")
    ax.plot([run.r for run in runs], [100 * run.losses[-1] for run in runs], color=AFTER, linestyle="", marker="o",
            fillstyle="none", label="trained")  # fmt: skip
    ax.axvline(target_rank, color="black", lw=1, linestyle=":")
    ax.annotate(f"rank of the target: {target_rank}", (target_rank, 60), xytext=(4, 0), textcoords="offset points", fontsize=8)
    ax.set(xlabel="rank r of the adapter", ylabel="loss left (% of the start)", xlim=(0, ranks[-1] + 1), ylim=(-4, 104))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=8, frameon=False)  # points may lie anywhere
    ax.grid(alpha=0.3)
    return ax


def describe_toy(runs) -> str:
    """What :func:`plot_toy` shows, run by run."""
    if not runs:
        return "Nothing is trained yet."
    parts = [f"rank {run.r} ended at {run.losses[-1]:.1%} (floor {run.floor:.1%})" for run in runs]
    return f"Target of rank {runs[0].target_rank}; loss left: " + ", ".join(parts) + "."
