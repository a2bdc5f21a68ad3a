"""Panels for the notebooks: controls around pure functions. Only notebooks import this package."""

from .ticket_panel import TicketPanel
from .training_panel import TrainingPanel

__all__ = ["TicketPanel", "TrainingPanel"]
