"""Panels for the notebooks: controls around pure functions. Only notebooks import this package."""

from .decision_panel import DecisionPanel
from .lab_panel import LabPanel
from .length_panel import LengthPanel
from .lora_panel import LoRAPanel
from .memory_panel import MemoryPanel
from .quantization_panel import QuantizationPanel
from .rank_panel import RankPanel
from .reading_panel import ReadingPanel
from .ticket_panel import TicketPanel
from .training_panel import TrainingPanel
from .upload_panel import UploadPanel

__all__ = [
    "DecisionPanel", "LabPanel", "LengthPanel", "LoRAPanel", "MemoryPanel", "QuantizationPanel", "RankPanel", "ReadingPanel",
    "TicketPanel", "TrainingPanel", "UploadPanel",
]  # fmt: skip
