"""Panels for the notebooks: controls around pure functions. Only notebooks import this package."""

from .case_panel import CasePanel
from .decision_panel import DecisionPanel
from .lab_panel import LabPanel
from .length_panel import LengthPanel
from .lora_panel import LoRAPanel
from .memory_panel import MemoryPanel
from .quantization_panel import QuantizationPanel
from .rank_panel import RankPanel
from .reading_panel import ReadingPanel
from .scale_panel import ScalePanel
from .swap_panel import SwapPanel
from .ticket_panel import TicketPanel
from .training_panel import TrainingPanel
from .upload_panel import UploadPanel

__all__ = [
    "CasePanel", "DecisionPanel", "LabPanel", "LengthPanel", "LoRAPanel", "MemoryPanel", "QuantizationPanel", "RankPanel",
    "ReadingPanel", "ScalePanel", "SwapPanel", "TicketPanel", "TrainingPanel", "UploadPanel",
]  # fmt: skip
