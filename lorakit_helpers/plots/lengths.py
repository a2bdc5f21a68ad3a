"""Pictures of token lengths: which rows a ``max_length`` cuts, and what padding and packing compute for nothing."""

import numpy as np

from .figures import AFTER, BEFORE, new_axes

__all__ = ["describe_lengths", "move_lengths", "move_padding", "plot_lengths", "plot_padding"]

_BIN = 8  # tokens: what the course's trainer pads to a multiple of
#: Legends stand above the axes, where nothing moves: painting one takes longer than all bars.
_ABOVE = {"loc": "lower left", "bbox_to_anchor": (0, 1), "frameon": False, "fontsize": 9, "borderaxespad": 0.1}
_MOST = 220  # right end of the padding axis, in tokens computed for 100 tokens of text


def plot_lengths(lengths, max_length: int, *, ax=None, longest: int | None = None, top: float | None = None):
    """Histogram of rows by length in tokens, those longer than ``max_length`` hatched, with a line at it; returns the axes.

    Args:
        lengths: tokens of each row.
        longest, top: ends of the axes, in tokens and per cent of the rows; None: those of these rows.
    """
    ax = ax or new_axes()
    longest = longest or max(*lengths, max_length)
    for colour, hatch, label in ((AFTER, "", "whole"), ("#f1c232", "////", "cut")):
        ax.stairs([0], [0, 1], fill=True, facecolor=colour, hatch=hatch, edgecolor="white", linewidth=0, label=label)
    ax.axvline(max_length, color="black", lw=1.6, linestyle="--", label="max_length")
    top = top or 1.15 * max(_shares(lengths, longest, len(lengths))[0])
    ax.set(xlabel="length of the row (tokens)", ylabel="share of rows (%)", xlim=(0, longest + _BIN), ylim=(0, top))
    ax.legend(**_ABOVE, ncols=3)
    move_lengths(ax, lengths, max_length)
    return ax


def move_lengths(ax, lengths, max_length: int) -> list:
    """Give axes drawn by :func:`plot_lengths` other rows or another length. Returns what may have changed."""
    lengths, longest = np.asarray(lengths), ax.get_xlim()[1]
    for patch, part in zip(ax.patches, (lengths[lengths <= max_length], lengths[lengths > max_length]), strict=True):
        patch.set_data(*_shares(part, longest, len(lengths)))
    ax.lines[0].set_xdata([max_length, max_length])
    return [*ax.patches, *ax.lines]


def _shares(part, longest, rows):
    edges = np.arange(0, longest + 2 * _BIN, _BIN) + 0.5  # a bin holds 8k + 1 to 8k + 8 tokens
    counts, _ = np.histogram(part, edges)
    return 100 * counts / rows, edges


def plot_padding(choice, *, ax=None):
    """Tokens computed for 100 tokens of text, three ways, from a :class:`~lorakit_helpers.data.LengthChoice`; the axes."""
    ax = ax or new_axes(7.0, 2.0)
    names = ("batches as they come", "batches by length", "packed sequences")
    for label, colour, hatch in (("text", AFTER, ""), ("padding, or room left empty", BEFORE, "////")):
        ax.barh(range(3), [0] * 3, 0.6, color=colour, hatch=hatch, edgecolor="white", label=label)
    for y in range(3):
        ax.text(0, y, "", va="center", fontsize=9)
    ax.set_yticks(range(3), names)
    ax.set(xlabel="tokens computed (packed: room taken) for 100 tokens of text", xlim=(0, _MOST), ylim=(2.5, -0.5))
    ax.legend(**_ABOVE, ncols=2)
    move_padding(ax, choice)
    return ax


def move_padding(ax, choice) -> list:
    """Give axes drawn by :func:`plot_padding` another choice. Returns what may have changed."""
    cost = choice.cost
    room = (cost.tokens_padded, cost.tokens_padded_sorted, cost.sequences_packed * cost.max_length)
    extra = [100 * (tokens / cost.tokens_kept - 1) for tokens in room]
    text, padding = ax.containers
    for y in range(3):
        text[y].set_width(100)
        padding[y].set(x=100, width=extra[y])
        ax.texts[y].set(x=min(102 + extra[y], _MOST - 22), text=f"+{extra[y]:.1f}")
    return [*text, *padding, *ax.texts]


def describe_lengths(choice, name: str = "") -> str:
    """What :func:`plot_lengths` and :func:`plot_padding` show, in words, and memory and time beside them.

    Args:
        choice: a :class:`~lorakit_helpers.data.LengthChoice`.
        name: what the rows are called.
    """
    return f"{name}, {choice}" if name else str(choice)
