"""Pictures of quantized weights."""

import numpy as np

from ..quantization import codebook, rms_error
from .figures import AFTER, BEFORE, new_axes

__all__ = ["describe_quantized", "move_quantized", "plot_quantized"]

_TOP = 8  # per cent, where the vertical axis ends


def plot_quantized(weights, quantized, *, ax=None):
    """Histogram of weights divided by their block's absmax, with the format's levels as dashed lines; returns the axes."""
    ax = ax or new_axes()
    ax.stairs([0], [-1, 1], fill=True, color=BEFORE, label="weights")
    ax.vlines([0], 0, _TOP, color=AFTER, linestyle="--", lw=1, label="levels")
    ax.legend(loc="upper right", framealpha=1)
    ax.set(xlabel="weight / largest of its block (no unit)", ylabel=f"share of weights (%, cut at {_TOP})", xlim=(-1.02, 1.02))
    ax.set_ylim(0, _TOP)
    return move_quantized(ax, weights, quantized)


def move_quantized(ax, weights, quantized):
    """Give axes drawn by :func:`plot_quantized` other weights; quicker than drawing anew. Returns the axes."""
    values = np.asarray(weights, dtype=np.float32).ravel()
    scale = np.repeat(quantized.absmax, quantized.block_size)[: values.size]
    heights, edges = np.histogram(values / np.where(scale > 0, scale, 1), bins=120, range=(-1, 1))
    ax.patches[0].set_data(100 * heights / values.size, edges)
    levels = np.unique(codebook(quantized.format))
    drawn = levels if len(levels) <= 16 else levels[:0]  # 255 lines would hide the weights
    ax.collections[0].set_segments([[(x, 0), (x, _TOP)] for x in drawn])
    ax.get_legend().texts[1].set_text(f"{len(levels)} levels of {quantized.format}" + ("" if len(drawn) else ", not drawn"))
    return ax


def describe_quantized(weights, quantized) -> str:
    """What :func:`plot_quantized` shows, in words."""
    levels = len(np.unique(codebook(quantized.format)[quantized.codes]))
    return (
        f"{quantized.format} with blocks of {quantized.block_size}: relative RMS error {rms_error(weights, quantized):.2%}, "
        f"{quantized.bits_per_parameter:.3f} bits per parameter, {levels} distinct levels used."
    )
