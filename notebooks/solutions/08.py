# %% [ex:8.1]
from lorakit_helpers.exercises import check, hint


def split(wanted: int, fits: int) -> tuple[int, int]:
    """The largest batch that fits, and the accumulation, whose product is wanted."""
    batch = max(b for b in range(1, min(wanted, fits) + 1) if wanted % b == 0)
    return batch, wanted // batch


split = check("8.1", split)


# %% [ex:8.2]
import math


def rate(step: int, warmup: int, total: int, peak: float) -> float:
    """The learning rate of an update, counted from 0."""
    if step < warmup:
        return peak * step / warmup
    done = (step - warmup) / (total - warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * done))


rate = check("8.2", rate)


# %% [ex:8.3]
def mean_loss(batches: list[tuple[float, int]]) -> float:
    """Mean loss over all tokens of the batches."""
    return sum(loss * tokens for loss, tokens in batches) / sum(tokens for _, tokens in batches)


mean_loss = check("8.3", mean_loss)


# %% [ex:8.4]
def largest_rank(budget: int, layers: list[tuple[int, int]]) -> int:
    """The largest rank within a budget of trainable parameters."""
    return budget // sum(wide + high for wide, high in layers)


largest_rank = check("8.4", largest_rank)


# %% [ex:8.5]
def half_width(differences: list[float]) -> float:
    """t · s / √n for a 95 % interval."""
    import statistics

    from scipy.stats import t

    n = len(differences)
    return float(t.ppf(0.975, n - 1)) * statistics.stdev(differences) / math.sqrt(n)


half_width = check("8.5", half_width)
