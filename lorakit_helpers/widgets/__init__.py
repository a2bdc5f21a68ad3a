"""Panels for the notebooks: controls around pure functions. Only notebooks import this package."""

from .quantization_panel import QuantizationPanel
from .ticket_panel import TicketPanel
from .training_panel import TrainingPanel

__all__ = ["QuantizationPanel", "TicketPanel", "TrainingPanel"]
