"""4-bit quantization as QLoRA and bitsandbytes do it, in NumPy: codebooks, blocks, packing, double quantization.

Papers: Dettmers et al. 2023, "QLoRA" (arXiv:2305.14314); Dettmers et al. 2021, "8-bit Optimizers via Block-wise
Quantization" (arXiv:2110.02861), for the dynamic 8-bit map.
"""

from dataclasses import dataclass, field
from functools import cache
from math import prod

import numpy as np

from .errors import LorakitError, did_you_mean

__all__ = [
    "BLOCK_SIZES", "CODEBOOKS", "DoubleQuant", "Quantized", "bits_per_parameter", "codebook", "dequantize",
    "double_quantize", "normal_float_levels", "pack", "quantize", "rms_error",
]  # fmt: skip

CODEBOOKS = ("nf4", "fp4", "int4", "int8")
BLOCK_SIZES = (32, 64, 128, 256, 512, 1024, 2048, 4096)  # those bitsandbytes allows for 4 bits
NESTED_BLOCK = 256
_TINY = np.float32(1e-38)
#: bitsandbytes' e2m1 variant in the order of its bit patterns; 12 is the largest, so this becomes ±1, ±2/3, … ±1/192.
_FP4 = (0, 0.0625, 8, 12, 4, 6, 2, 3)


def normal_float_levels(offset: float = 0.9677083) -> np.ndarray:
    """The 16 NF4 levels from quantiles of the normal distribution (QLoRA, section 3 and appendix E).

    Eight probabilities from ``offset`` down towards 1/2 give the positive levels, seven the negative ones, and 0 is
    added; all are divided by the largest. Which floats come out depends on the rounding of the probabilities: with
    ``torch.linspace`` in float32 they are bitsandbytes' constants bit for bit, in float64 they differ in the last digit.

    Returns:
        16 ascending float32 levels from -1 to 1, with an exact 0 at index 7.

    Example:
        >>> levels = normal_float_levels()
        >>> float(levels[7]), len(levels), float(levels[0]), float(levels[-1])
        (0.0, 16, -1.0, 1.0)
    """
    import torch
    from scipy.stats import norm

    positive = norm.ppf(torch.linspace(offset, 0.5, 9)[:-1].numpy())
    negative = -norm.ppf(torch.linspace(offset, 0.5, 8)[:-1].numpy())
    levels = np.sort(np.concatenate([negative, [0.0], positive])).astype(np.float32)
    return levels / levels.max()


@cache
def codebook(name: str) -> np.ndarray:
    """The levels of a format as float32, indexed by code.

    ``nf4`` and ``fp4`` are bitsandbytes'; ``int4`` and ``int8`` are symmetric: -7 … 7 divided by 7, -127 … 127 by 127.

    Raises:
        LorakitError: for an unknown name, with the nearest known one.
    """
    if name == "nf4":
        levels = normal_float_levels()
    elif name == "fp4":
        levels = np.array([*_FP4, *(-value for value in _FP4)], dtype=np.float32) / np.float32(12)
    elif name in ("int4", "int8"):
        top = 2 ** (int(name[3:]) - 1) - 1
        levels = np.arange(-top, top + 1, dtype=np.float32) / np.float32(top)
    else:
        raise LorakitError(
            "format", got=repr(name), expected="one of " + ", ".join(CODEBOOKS),
            do=did_you_mean(name, CODEBOOKS, "Choose one of these.", show=repr),
        )  # fmt: skip
    levels.setflags(write=False)
    return levels


@dataclass(frozen=True)
class DoubleQuant:
    """Block constants, quantized again: one 8-bit code each, a float32 absmax per 256 of them, and one float32 mean."""

    codes: np.ndarray = field(repr=False)
    absmax: np.ndarray = field(repr=False)
    offset: np.float32
    block_size: int = NESTED_BLOCK

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.absmax.nbytes + 4

    def restore(self) -> np.ndarray:
        """The float32 block constants, as near as 8 bits come."""
        scale = np.repeat(self.absmax, self.block_size)[: self.codes.size]
        return _dynamic_map()[self.codes] * scale + self.offset


@dataclass(frozen=True)
class Quantized:
    """Quantized weights.

    Attributes:
        codes: one code per weight (uint8), in the weights' order.
        absmax: float32, one per block; as restored if ``double`` is given.
        shape: the weights' shape.
        format: name of the codebook.
        block_size: weights per block.
        double: the block constants' own quantization, or None.
    """

    codes: np.ndarray = field(repr=False)
    absmax: np.ndarray = field(repr=False)
    shape: tuple[int, ...]
    format: str
    block_size: int
    double: DoubleQuant | None = None

    @property
    def packed(self) -> np.ndarray:
        """The bytes as stored: two 4-bit codes a byte, or one 8-bit code."""
        return self.codes if self.format == "int8" else pack(self.codes)

    @property
    def nbytes(self) -> int:
        """Bytes of codes and block constants; a codebook, shared by the whole model, is not counted."""
        return self.packed.nbytes + (self.double.nbytes if self.double else self.absmax.nbytes)

    @property
    def bits_per_parameter(self) -> float:
        return 8 * self.nbytes / max(self.codes.size, 1)


def quantize(weights, format: str = "nf4", block_size: int = 64, double_quant: bool = False) -> Quantized:
    """Blockwise absmax quantization: ``code_i = argmin_k |w_i / max_block |w| - level_k|``.

    Follows bitsandbytes' rounding to the bit: full blocks are multiplied by ``1 / absmax``, a last partial block is
    divided by it; a value half-way between two levels takes the lower one.

    Args:
        weights: array or torch tensor of any shape; 16-bit floats are widened to float32 first, which is exact.
        format: ``"nf4"``, ``"fp4"``, ``"int4"`` or ``"int8"``.
        block_size: weights that share one constant.
        double_quant: quantize the constants too.

    Raises:
        LorakitError: for nan or infinity, no weights, a block size below 1, or an unknown format.
    """
    values, shape = _as_float32(weights)
    if isinstance(block_size, bool) or not isinstance(block_size, int | np.integer) or block_size < 1:
        raise LorakitError("block_size", got=repr(block_size), expected="a whole number of at least 1", do="Use 64.")
    levels = codebook(format)
    order = np.argsort(levels, kind="stable")
    ascending = levels[order]
    scaled, absmax = _scale(values, int(block_size))
    middles = (ascending[:-1] + ascending[1:]) / np.float32(2)
    codes = order[np.searchsorted(middles, scaled, side="left")].astype(np.uint8)
    double = double_quantize(absmax) if double_quant else None
    return Quantized(codes, double.restore() if double else absmax, shape, format, int(block_size), double)


def dequantize(quantized: Quantized) -> np.ndarray:
    """``level[code] · absmax`` of each weight's block, as float32 in the weights' shape."""
    scale = np.repeat(quantized.absmax, quantized.block_size)[: quantized.codes.size]
    return (codebook(quantized.format)[quantized.codes] * scale).reshape(quantized.shape)


def pack(codes: np.ndarray) -> np.ndarray:
    """Two 4-bit codes a byte, the first in the high half; an odd last one is followed by the code of zero.

    Example:
        >>> pack(np.array([1, 2, 15, 0], dtype=np.uint8)).tolist()
        [18, 240]
    """
    codes = np.asarray(codes, dtype=np.uint8)
    if codes.size and codes.max() > 15:
        raise LorakitError("codes", got=int(codes.max()), expected="0 to 15", do="Only 4-bit codes fit two in a byte.")
    codes = np.append(codes, np.zeros(codes.size % 2, np.uint8))
    return codes[::2] << 4 | codes[1::2]


def double_quantize(absmax: np.ndarray, block_size: int = NESTED_BLOCK) -> DoubleQuant:
    """Quantize block constants to 8 bits: subtract their mean, then blocks of 256 on the dynamic map.

    The mean is torch's, because the order of summation decides its last bit. bitsandbytes' CPU code finds the level
    through a table of 65,536 places, so that within 1.6e-5 of a middle it may not be the nearest; this does the same.
    """
    import torch

    absmax = np.asarray(absmax, dtype=np.float32)
    offset = np.float32(torch.from_numpy(absmax).mean().item())
    centred = absmax - offset
    nested = np.array([np.abs(centred[i : i + block_size]).max() for i in range(0, centred.size, block_size)], np.float32)
    scale = np.repeat(np.where(nested > 0, nested, np.float32(1)), block_size)[: centred.size]
    places = np.floor((centred / scale + np.float32(1)) * np.float32(65535 / 2) + np.float32(0.5)).astype(int)
    codes = _table()[np.clip(places, 0, 65535)]
    codes[np.repeat(nested == 0, block_size)[: centred.size]] = 0  # bitsandbytes' answer to a block of zeros
    return DoubleQuant(codes, nested, offset, block_size)


def bits_per_parameter(bits: int = 4, block_size: int = 64, double_quant: bool = False) -> float:
    """``bits + 32/block``, or with double quantization ``bits + 8/block + 32/(block · 256)``; the one mean is left out.

    Example:
        >>> bits_per_parameter(), round(bits_per_parameter(double_quant=True), 3)
        (4.5, 4.127)
    """
    return bits + (8 / block_size + 32 / (block_size * NESTED_BLOCK) if double_quant else 32 / block_size)


def rms_error(weights, quantized: Quantized) -> float:
    """``sqrt(mean (w - w')²) / sqrt(mean w²)``: the relative root-mean-square error; 0 for all-zero weights."""
    values, _ = _as_float32(weights)
    difference = values.astype(float) - dequantize(quantized).ravel()
    size = np.sqrt(np.mean(np.square(values, dtype=float)))
    return float(np.sqrt(np.mean(difference**2)) / size) if size else 0.0


def _as_float32(weights):
    if hasattr(weights, "detach"):  # a torch tensor; NumPy has no bfloat16
        weights = weights.detach().cpu().float().numpy()
    values = np.asarray(weights, dtype=np.float32)
    if not prod(values.shape) or not np.isfinite(values).all():
        got = "no weights" if not values.size else f"{int((~np.isfinite(values)).sum())} that are nan or infinite"
        raise LorakitError("weights", got=got, expected="at least one, all finite", do="Check how they were loaded.")
    return values.ravel(), values.shape


def _scale(values: np.ndarray, block_size: int):
    full = values.size - values.size % block_size
    blocks = values[:full].reshape(-1, block_size)
    absmax = np.abs(blocks).max(axis=1)
    scaled = (blocks * (np.float32(1) / np.maximum(absmax, _TINY))[:, None]).ravel()
    if full < values.size:
        last = np.maximum(np.abs(values[full:]).max(), _TINY)
        absmax, scaled = np.append(absmax, last), np.append(scaled, values[full:] / last)
    return np.clip(scaled, -1, 1), absmax


@cache
def _dynamic_map() -> np.ndarray:
    """256 ascending levels: seven decades, each with twice the levels of the one below, 0 and 1."""
    import torch

    levels = [0.0, 1.0]
    for i in range(7):
        edges = torch.linspace(0.1, 1, 2**i + 1).numpy()  # NumPy's would differ in the last bit of some
        middles = np.float32(10.0 ** (i - 6)) * ((edges[:-1] + edges[1:]) / np.float32(2))
        levels += [*middles.tolist(), *(-middles).tolist()]
    return np.array(sorted(levels), dtype=np.float32)


@cache
def _table() -> np.ndarray:
    levels = _dynamic_map().astype(float)
    return np.searchsorted((levels[:-1] + levels[1:]) / 2, np.linspace(-1, 1, 65536)).astype(np.uint8)
