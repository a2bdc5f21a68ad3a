"""The linter's rules: one class for each mistake, with its id, its severity, why it hurts and the fix."""

from .base import ERROR, WARNING, Example, Finding, Rule
from .labels import ClassImbalance, ConstantAnswer, LabelTypo, NotShuffled, Tracks
from .repeats import Contradiction, Leak, LowDiversity, NearDuplicate
from .texts import BrokenJson, Mojibake, PersonalData, TooShort, UnbalancedQuotes
from .turns import AssistantNotLast, EmptyTurn, NoSystemPrompt, RoleOrder, TemplateToken, TooLong

__all__ = [
    "ERROR", "LABELS", "ROWS", "RULE_IDS", "WARNING", "Contradiction", "Example", "Finding", "Leak", "LowDiversity",
    "NearDuplicate", "Rule", "TooLong", "Tracks",
]  # fmt: skip

#: Rules that look at rows one by one.
ROWS = (
    EmptyTurn, RoleOrder, AssistantNotLast, TemplateToken, NoSystemPrompt, Mojibake, UnbalancedQuotes, BrokenJson, TooShort,
    PersonalData,
)  # fmt: skip
#: Rules that share the counts of labels.
LABELS = (LabelTypo, ClassImbalance, ConstantAnswer, NotShuffled)
#: Every id that a finding can carry.
RULE_IDS = (
    "unreadable", *(rule.id for rule in ROWS), *(rule.id for rule in LABELS), "contradiction", "duplicate", "too-long", "leak",
    "near-leak", "near-duplicate", "low-diversity",
)  # fmt: skip
