# %% [ex:7.1]
from lorakit_helpers.exercises import check, hint


def scaling(alpha: float, r: int) -> float:
    """The factor on B A x in LoRA."""
    return alpha / r


scaling = check("7.1", scaling)


# %% [ex:7.2]
def adapter_size(d_in: int, d_out: int, r: int) -> int:
    """Trainable values of one adapted layer."""
    return r * d_in + d_out * r


adapter_size = check("7.2", adapter_size)

# %% [ex:7.3]
import math


def optimizer_steps(n: int, batch: int, accumulation: int, epochs: int) -> int:
    """Optimizer updates of a whole run on one device."""
    return math.ceil(math.ceil(n / batch) / accumulation) * epochs


optimizer_steps = check("7.3", optimizer_steps)


# %% [ex:7.4]
def mask_prompt(ids: list[int], n: int) -> list[int]:
    """Labels that train the answer only; ids stays as it is."""
    return [-100] * n + ids[n:]


mask_prompt = check("7.4", mask_prompt)
