"""How much memory fine-tuning needs: closed form, simulation and measurement side by side."""

from .shape import ATTENTION, MLP, PROJECTIONS, ModelShape

__all__ = ["ATTENTION", "MLP", "PROJECTIONS", "ModelShape"]
