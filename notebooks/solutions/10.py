# %% [ex:10.1]
import numpy as np

from lorakit_helpers.exercises import check, hint


def merged_weight(w: np.ndarray, a: np.ndarray, b: np.ndarray, alpha: float, r: int) -> np.ndarray:
    """The weight with the adapter's update merged in; w stays as it is."""
    return w + alpha / r * b @ a


merged_weight = check("10.1", merged_weight)


# %% [ex:10.2]
import math


def kl(p: list[float], q: list[float]) -> float:
    """Kullback-Leibler divergence KL(p || q) in nats."""
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True) if x > 0)


kl = check("10.2", kl)


# %% [ex:10.3]
def file_mb(params: int, bits: float) -> float:
    """Size in MB, 1e6 bytes."""
    return params * bits / 8 / 1e6


file_mb = check("10.3", file_mb)


# %% [ex:10.4]
def stopped(ids: list[int], eos: int, limit: int) -> bool:
    """Whether the answer ended by itself."""
    return bool(ids) and ids[-1] == eos and len(ids) <= limit


stopped = check("10.4", stopped)
