"""How much memory fine-tuning needs. So far: exact parameter counts of models from their sizes, and a catalogue of models."""

from .catalogue import CATALOGUE, CatalogueEntry, find_model
from .shape import ATTENTION, MLP, PROJECTIONS, ModelShape

__all__ = ["ATTENTION", "CATALOGUE", "MLP", "PROJECTIONS", "CatalogueEntry", "ModelShape", "find_model"]
