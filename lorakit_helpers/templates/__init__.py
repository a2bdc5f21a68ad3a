"""Chat templates: the families' own, read from the installed packages; rendering, loss masks, checks, and a token view.

All rendering goes through ``tokenizer.apply_chat_template``. Importing this loads neither torch nor transformers.
"""

from .checks import Check, check_template, describe_checks
from .families import FAMILIES, Family, find_family, markers_of, training_variant
from .mask import TokenRow, assistant_spans, labelled_rows, tokenize_row
from .render import Injection, TemplateTokenWarning, byte_tokenizer, check_messages, injected_tokens, render
from .view import describe_tokens, show_tokens, tokens_html

__all__ = [
    "FAMILIES", "Check", "Family", "Injection", "TemplateTokenWarning", "TokenRow", "assistant_spans", "byte_tokenizer",
    "check_messages", "check_template", "describe_checks", "describe_tokens", "find_family", "injected_tokens",
    "labelled_rows", "markers_of", "render", "show_tokens", "tokenize_row", "tokens_html", "training_variant",
]  # fmt: skip
