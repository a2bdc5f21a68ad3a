"""Graphics cards by name, with the memory PyTorch finds on them."""

import re
from dataclasses import asdict, dataclass

from ..errors import LorakitError, did_you_mean

__all__ = ["GPUS", "Gpu", "find_gpu"]


@dataclass(frozen=True)
class Gpu:
    """One graphics card.

    Makers say "24 GB" and mean 24 GiB (24 * 2^30 bytes) of chips; the driver, and error correction where it is on, keep
    some of it, so PyTorch finds less.

    Attributes:
        name: what it is called.
        sold_as_gb: the number on the box.
        memory_gib: what ``torch.cuda.get_device_properties(0).total_memory`` reports, in GiB (2^30 bytes); drivers differ by
            a few hundredths. This is what ``fits`` and ``plan`` want.
        printed: whether ``memory_gib`` is a figure somebody's PyTorch printed; else it is 97.5 % of the number on the box.
    """

    name: str
    sold_as_gb: int
    memory_gib: float
    printed: bool = True

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self):
        return f"{self.name}: sold as {self.sold_as_gb} GB, {self.memory_gib:.1f} GiB for PyTorch"


#: (name, sold as GB, GiB printed by PyTorch or None where no print-out was found).
_ROWS = (
    ("RTX 3060 12 GB", 12, None), ("RTX 3070 8 GB", 8, None), ("RTX 3080 10 GB", 10, None), ("RTX 3090", 24, 23.68),
    ("RTX 4060 8 GB", 8, None), ("RTX 4060 Ti 16 GB", 16, None), ("RTX 4070 12 GB", 12, None), ("RTX 4080 16 GB", 16, None),
    ("RTX 4090", 24, 23.52), ("RTX 5080 16 GB", 16, None), ("RTX 5090", 32, 31.34),
    ("T4", 16, 14.75), ("V100 16 GB", 16, 15.78), ("P100 16 GB", 16, None), ("A10G", 24, 21.99), ("L4", 24, 22.17),
    ("RTX A6000", 48, None), ("L40S", 48, 44.52), ("A100 40 GB", 40, 39.56), ("A100 80 GB", 80, 79.15),
    ("H100 80 GB", 80, None), ("H200", 141, None),
)  # fmt: skip

#: Every card by its name, consumer cards first, each group from small to large.
GPUS = {name: Gpu(name, sold, printed or round(0.975 * sold, 2), printed is not None) for name, sold, printed in _ROWS}


def find_gpu(name: str) -> Gpu:
    """The card called ``name``: case, spaces and maker's words such as "NVIDIA GeForce" do not matter.

    The memory may be left out where only one size is listed ("RTX 3060").

    Raises:
        LorakitError: for a card that is not listed, or a name that means several, with the nearest ones.

    Example:
        >>> find_gpu("nvidia geforce rtx 3060").name
        'RTX 3060 12 GB'
    """
    key = _key(str(name))
    exact = [gpu for gpu in GPUS.values() if _key(gpu.name) == key]
    short = [gpu for gpu in GPUS.values() if key and _short(gpu.name) == key]
    found = exact or short
    if len(found) == 1:
        return found[0]
    if found:
        do = f"Say which: {' or '.join(gpu.name for gpu in found)}."
    else:
        names = {_short(gpu.name): gpu.name for gpu in GPUS.values()}
        do = did_you_mean(key, names, "Give its memory as a number of GiB.", n=3, cutoff=0.5, show=names.get)
    raise LorakitError("GPU", got=repr(name), expected=f"one of the {len(GPUS)} in lorakit_helpers.memory.GPUS", do=do)


def _key(name: str) -> str:
    return re.sub(r"nvidia|geforce|tesla|gb|gib|[^a-z0-9]", "", name.lower())


def _short(name: str) -> str:
    return _key(re.sub(r" \d+ GB$", "", name))
