"""A real training step on this machine, its highest memory measured."""

from .result import MemoryEstimate
from .setup import TrainSetup

__all__ = ["measure"]


def measure(model=None, setup: TrainSetup | None = None) -> MemoryEstimate:
    """Train one real step and report the peak that was allocated (to be written)."""
    raise NotImplementedError
