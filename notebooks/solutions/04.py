# %% [ex:4.1]
from lorakit_helpers.exercises import check, hint


def bits(block_size: int) -> float:
    """Bits per parameter without double quantization."""
    return 4 + 32 / block_size


bits = check("4.1", bits)


# %% [ex:4.2]
def bits_double(block_size: int, nested: int) -> float:
    """Bits per parameter with double quantization."""
    return 4 + 8 / block_size + 32 / (block_size * nested)


bits_double = check("4.2", bits_double)


# %% [ex:4.3]
def nearest(x: float, levels: list[float]) -> int:
    """Index of the level nearest to x."""
    return min(range(len(levels)), key=lambda i: abs(levels[i] - x))


nearest = check("4.3", nearest)


# %% [ex:4.4]
def size_gb(quantized: int, other: int, bits: float) -> float:
    """Size in GB (1e9 bytes)."""
    return (quantized * bits / 8 + other * 2) / 1e9


size_gb = check("4.4", size_gb)
