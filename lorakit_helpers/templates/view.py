"""A row's tokens to look at: coloured and underlined by role, marked where the loss looks, and said in a sentence."""

import html

from .mask import MASKED_BY, TokenRow

__all__ = ["describe_tokens", "show_tokens", "tokens_html"]

# Role to background, underline style and name. Never by colour alone: each role has an underline of its own.
_LOOK = {
    "system": ("#e3d9f2", "dotted", "system"),
    "user": ("#cfe3f7", "dashed", "user"),
    "assistant": ("#d3ecd0", "solid", "assistant"),
    "tool": ("#f6e0c8", "double", "tool"),
    "template": ("#ececec", "wavy", "the template"),
}
_BOX = "color:#111;border-radius:3px;padding:0 1px;margin:0 1px"
_TRAINED = "border-bottom:4px solid #111;font-weight:bold"
_VISIBLE = str.maketrans({"\n": "↵\n", "\t": "⇥", " ": "·"})


def describe_tokens(row: TokenRow) -> str:
    """The text alternative: how many tokens, whose, and what exactly is trained.

    Example:
        >>> row = TokenRow("Hi!", (5, 6), ("Hi", "!"), ("user", "assistant"), (False, True), "completion")
        >>> print(describe_tokens(row).replace(". ", ".\\n"))
        2 tokens, 1 trained (50 %): user 1 (0 trained), assistant 1 (1 trained).
        Everything after the prompt is trained.
        Trained text: “!”.
    """
    n = len(row.ids)
    share = f"{100 * row.n_trained / n:.0f} %" if n else "0 %"
    roles = ", ".join(f"{_LOOK[role][2]} {count} ({trained} trained)" for role, (count, trained) in row.counts().items())
    parts = [f"{n} tokens, {row.n_trained} trained ({share}): {roles}."]
    why = MASKED_BY.get(row.masked_by.split(" and ")[-1], "")
    if why:
        parts.append(why[0].upper() + why[1:] + ".")
    if row.dropped:
        parts.append("Nothing here is trained: the row would be dropped.")
    elif row.masked_by != "nothing":
        parts.append(f"Trained text: “{_clip(row.trained_text)}”.")
    if row.cut:
        parts.append(f"{row.cut} more tokens were cut off, {row.cut_trained} of them an answer's.")
    return " ".join(parts)


def tokens_html(row: TokenRow, *, limit: int = 600) -> str:
    """The tokens as HTML: background and underline style tell the role, a thick bar and bold type what is trained.

    All text is escaped. Spaces show as ·, line breaks as ↵; a later byte of a character split over tokens as ⋯. Long lines
    may break between tokens.

    Args:
        row: from :func:`~lorakit_helpers.templates.tokenize_row`.
        limit: show at most so many tokens; the sentence below still speaks of all.
    """
    spans = [
        _span(number, piece, role, on)
        for number, piece, role, on in zip(row.ids[:limit], row.pieces, row.roles, row.trained, strict=False)
    ]
    shown = "<wbr>".join(spans)
    rest = f"<span> … and {len(row.ids) - limit} more tokens</span>" if len(row.ids) > limit else ""
    legend = " ".join(
        f'<span style="{_style(role, False)}">{html.escape(_LOOK[role][2])}</span>' for role in _LOOK if role in row.roles
    )
    trained = f'<span style="color:#111;background:#fff;{_TRAINED}">trained</span>'
    sentence = html.escape(describe_tokens(row))
    return (
        f'<div class="lorakit-tokens" role="group" aria-label="{sentence}">'
        f'<p style="margin:.2em 0">{legend} {trained}</p>'
        f'<div aria-hidden="true" style="font-family:monospace;white-space:pre-wrap;line-height:2">{shown}{rest}</div>'
        f"<p>{sentence}</p></div>"
    )


def show_tokens(row: TokenRow, *, limit: int = 600) -> None:
    """Display :func:`tokens_html` in a notebook."""
    from IPython.display import HTML, display

    display(HTML(tokens_html(row, limit=limit)))


def _style(role: str, trained: bool) -> str:
    background, underline, _ = _LOOK[role]
    line = f"text-decoration:underline {underline};text-underline-offset:3px"
    return f"background:{background};{line};{_BOX}" + (f";{_TRAINED}" if trained else "")


def _span(number: int, piece: str, role: str, trained: bool) -> str:
    shown = html.escape(piece).translate(_VISIBLE) or "⋯"
    title = html.escape(f"{number} {piece!r}: {_LOOK[role][2]}, {'trained' if trained else 'not trained'}")
    return f'<span class="{role}{" trained" if trained else ""}" style="{_style(role, trained)}" title="{title}">{shown}</span>'


def _clip(text: str, width: int = 200) -> str:
    text = text.replace("\n", "↵")
    return text if len(text) <= width else text[: width // 2] + " … " + text[-width // 2 :]
