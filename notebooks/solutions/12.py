# %% [ex:12.1]
from lorakit_helpers.exercises import check, hint


def hours(operations: float, tflops: float, share: float, gpus: int) -> float:
    """Hours of training."""
    return operations / (tflops * 1e12 * share * gpus) / 3600


hours = check("12.1", hours)


# %% [ex:12.2]
def each_gpu(shared: float, whole: float, gpus: int) -> float:
    """GiB on each of the GPUs."""
    return shared / gpus + whole


each_gpu = check("12.2", each_gpu)


# %% [ex:12.3]
def accumulation(global_batch: int, gpus: int, each: int) -> int | None:
    """Accumulation steps, or None."""
    steps, rest = divmod(global_batch, gpus * each)
    return None if rest or not steps else steps


accumulation = check("12.3", accumulation)
