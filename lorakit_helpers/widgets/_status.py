"""The live sentence beside every picture: its text alternative, and the sign that a redraw has settled."""

import html

__all__ = ["status"]


def status(sentence: str, *, alert: bool = False) -> str:
    """HTML for a sentence that screen readers announce when it changes. The text is escaped."""
    style = "line-height:1.5" + (";border-left:4px solid #b00020;padding-left:.5em" if alert else "")
    return f'<div role="status" aria-live="polite" style="{style}">{html.escape(sentence)}</div>'
