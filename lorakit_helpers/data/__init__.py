"""Training data you can trust: read, detect the format, convert, lint, split, and measure lengths.

Importing this loads neither torch nor transformers nor datasets.
"""

from .conversion import ConversionWarning, Converted, Loss, convert
from .formats import FORMATS, Detection, as_messages, detect_format
from .length_choice import LengthChoice, length_choice
from .lengths import LengthCost, LengthStats, length_cost, length_stats, pack_first_fit
from .linting import lint, token_counter
from .reading import iter_rows, read_rows
from .report import LintReport
from .rules import RULE_IDS, Finding
from .similarity import Diversity, diversity, near_duplicate_groups
from .splitting import GOALS, SizeAdvice, Split, shuffle_rows, size_advice, split_rows
from .storing import from_dataset, to_dataset, write_rows

__all__ = [
    "FORMATS", "GOALS", "RULE_IDS", "ConversionWarning", "Converted", "Detection", "Diversity", "Finding", "LengthChoice",
    "LengthCost", "LengthStats", "LintReport", "Loss", "SizeAdvice", "Split", "as_messages", "convert", "detect_format",
    "diversity", "from_dataset", "iter_rows", "length_choice", "length_cost", "length_stats", "lint", "near_duplicate_groups",
    "pack_first_fit", "read_rows", "shuffle_rows", "size_advice", "split_rows", "to_dataset", "token_counter", "write_rows",
]  # fmt: skip
