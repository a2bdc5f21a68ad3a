"""Pictures of quantized weights."""

import numpy as np

from ..quantization import codebook, rms_error
from .figures import AFTER, BEFORE, new_axes

__all__ = ["describe_quantized", "plot_quantized"]


def plot_quantized(weights, quantized, *, ax=None):
    """Histogram of weights divided by their block's absmax, with the format's levels as dashed lines; returns the axes."""
    ax = ax or new_axes()
    values = np.asarray(weights, dtype=np.float32).ravel()
    scale = np.repeat(quantized.absmax, quantized.block_size)[: values.size]
    heights, edges = np.histogram(values / np.where(scale > 0, scale, 1), bins=120, range=(-1, 1))
    ax.stairs(100 * heights / values.size, edges, fill=True, color=BEFORE, label="weights")
    levels = np.unique(codebook(quantized.format))
    if len(levels) <= 16:
        ax.vlines(levels, 0, 8, color=AFTER, linestyle="--", lw=1, label=f"levels of {quantized.format}")
    ax.set(xlabel="weight / largest of its block (no unit)", ylabel="share of weights (%)", xlim=(-1.02, 1.02), ylim=(0, 8))
    ax.legend(loc="upper right")
    return ax


def describe_quantized(weights, quantized) -> str:
    """What :func:`plot_quantized` shows, in words."""
    levels = len(np.unique(codebook(quantized.format)[quantized.codes]))
    return (
        f"{quantized.format} with blocks of {quantized.block_size}: relative RMS error {rms_error(weights, quantized):.2%}, "
        f"{quantized.bits_per_parameter:.3f} bits per parameter, {levels} distinct levels used."
    )
