"""Helpers behind the lorakit course: fine-tune an open LLM with LoRA and QLoRA, by doing it.

Import the module you need, for example ``from lorakit_helpers import tickets``. This file imports
nothing heavy: ``import lorakit_helpers`` loads neither torch nor transformers.

Data flows one way: hardware -> models -> tickets -> training -> evaluation. ``widgets`` puts controls
around pure functions, and nothing imports it but the notebooks.
"""

__version__ = "0.1.0"
