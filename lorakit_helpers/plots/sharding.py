"""Memory on each of several GPUs, one bar for each way of sharing the work out."""

from .figures import new_axes

__all__ = ["GROUPS", "describe_sharding", "move_sharding", "plot_sharding"]

#: What the bar shows: parts of a :class:`~lorakit_helpers.scale.sharding.ShardedMemory`, with a colour and a hatch each.
GROUPS = {
    "frozen weights": (("weights", "scales"), "#7f7f7f", ""),
    "whole for a moment": (("gathered", "buckets"), "#f1c232", "xxx"),
    "adapters, gradients, optimizer": (("adapters", "gradients", "optimizer"), "#00498d", "\\\\\\"),
    "activations": (("activations",), "#9fc5e8", "|||"),
    "logits": (("logits",), "#741b47", "---"),
}
_ALLOWANCE = "driver, fragments (allowance)"


def plot_sharding(memories: dict, gpu_gib: float, *, most_gib: float | None = None, ax=None):
    """One stacked bar for each strategy against the card's size, in GiB; returns the axes.

    Args:
        memories: ``{strategy: ShardedMemory}``, as :func:`lorakit_helpers.scale.sharding.shard_memory` gives them.
        gpu_gib: what one card offers, drawn as an upright line.
        most_gib: right end of the axis; a longer bar is cut there and its length written. None: the longest bar's.
    """
    ax = ax or new_axes(7.4, 1.6 + 0.42 * len(memories))
    rows, none = range(len(memories)), [0.0] * len(memories)
    for name, (_, colour, hatch) in GROUPS.items():
        ax.barh(rows, none, height=0.62, color=colour, hatch=hatch, edgecolor="white", linewidth=0.5, label=name)
    ax.barh(rows, none, height=0.62, color="white", edgecolor="black", linewidth=0.8, linestyle=":", label=_ALLOWANCE)
    ax.axvline(gpu_gib, color="black", lw=1.6, linestyle="--", label="one card")
    for y in rows:
        ax.text(0, y, "", va="center", fontsize=9, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5, "alpha": 0.9})
    ax.set_yticks(rows, list(memories))
    longest = max(gpu_gib, *(memory.needed_gib for memory in memories.values()))
    ax.set(xlabel="memory on each GPU (GiB)", xlim=(0, most_gib or 1.16 * longest), ylim=(len(memories) - 0.5, -0.5))
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=8, frameon=False)
    move_sharding(ax, memories, gpu_gib, most_gib=most_gib)
    return ax


def move_sharding(ax, memories: dict, gpu_gib: float, *, most_gib: float | None = None) -> list:
    """Give the bars of :func:`plot_sharding` other lengths, for as many strategies; returns what may have changed."""
    ax.lines[0].set_xdata([gpu_gib, gpu_gib])
    if most_gib:
        ax.set_xlim(0, most_gib)
    most = ax.get_xlim()[1]
    for row, memory in enumerate(memories.values()):
        sizes = [sum(memory.parts[part] for part in parts) for parts, _, _ in GROUPS.values()]
        sizes.append(memory.needed_gib - memory.total_gib)
        for i, container in enumerate(ax.containers):
            container[row].set(x=sum(sizes[:i]), width=sizes[i], visible=sizes[i] > 0)
        end = memory.needed_gib
        cut = end > 0.88 * most
        text = f"{end:.1f} →" if end > most else f"{end:.1f}"
        ax.texts[row].set(x=0.995 * most if cut else end + 0.01 * most, ha="right" if cut else "left", text=text)
    return [ax.xaxis, *(bar for container in ax.containers for bar in container), ax.lines[0], *ax.texts]


def describe_sharding(memories: dict, gpu_gib: float) -> str:
    """What :func:`plot_sharding` shows: what each GPU must offer, and which strategies fit."""
    told = [
        f"{name} {memory.needed_gib:.1f} GiB ({'fits' if memory.needed_gib <= gpu_gib else 'too large'})"
        for name, memory in memories.items()
    ]
    return f"Of {gpu_gib:.1f} GiB, each GPU needs: {', '.join(told)}."
