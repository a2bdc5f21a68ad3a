"""Panels for the notebooks: controls around pure functions. Only notebooks import this package."""

from .lora_panel import LoRAPanel
from .quantization_panel import QuantizationPanel
from .rank_panel import RankPanel
from .ticket_panel import TicketPanel
from .training_panel import TrainingPanel

__all__ = ["LoRAPanel", "QuantizationPanel", "RankPanel", "TicketPanel", "TrainingPanel"]
