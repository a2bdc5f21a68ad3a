"""How much memory fine-tuning needs: exact parameter counts, a closed form, a simulation, a measurement, and what fits.

Importing this loads neither torch nor transformers; ``simulate`` and ``measure`` do when they are called.
"""

from .catalogue import CATALOGUE, CatalogueEntry, find_model
from .estimate import estimate
from .gpus import GPUS, Gpu, find_gpu
from .measure import measure
from .planning import Plan, Rung, fits, plan
from .result import GIB, MemoryEstimate
from .setup import TrainSetup
from .shape import ATTENTION, MLP, PROJECTIONS, ModelShape
from .simulate import simulate

__all__ = [
    "ATTENTION", "CATALOGUE", "GIB", "GPUS", "MLP", "PROJECTIONS", "CatalogueEntry", "Gpu", "MemoryEstimate", "ModelShape",
    "Plan", "Rung", "TrainSetup", "estimate", "find_gpu", "find_model", "fits", "measure", "plan", "simulate",
]  # fmt: skip
