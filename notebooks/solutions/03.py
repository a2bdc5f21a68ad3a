# %% [ex:3.1]
from torch import Tensor

from lorakit_helpers.exercises import check, hint


def merged(W: Tensor, B: Tensor, A: Tensor, scaling: float) -> Tensor:
    """The weight with the adapter in it; W stays as it is."""
    return W + scaling * (B @ A)


merged = check("3.1", merged)


# %% [ex:3.2]
def truncation_error(s: list[float], r: int) -> float:
    """Frobenius norm of what rank r leaves out; s are the singular values, largest first."""
    return sum(x**2 for x in s[r:]) ** 0.5


truncation_error = check("3.2", truncation_error)


# %% [ex:3.3]
def largest_saving_rank(d_in: int, d_out: int) -> int:
    """The largest r whose two factors hold fewer values than the d_out × d_in matrix."""
    return (d_in * d_out - 1) // (d_in + d_out)


largest_saving_rank = check("3.3", largest_saving_rank)


# %% [ex:3.4]
def rank_for_file(mb: float, shapes: list[tuple[int, int]], width: int) -> int:
    """The largest rank whose adapter file fits into mb megabytes (1e6 bytes), width bytes a value."""
    return int(mb * 1e6 // (width * sum(d_in + d_out for d_in, d_out in shapes)))


rank_for_file = check("3.4", rank_for_file)
