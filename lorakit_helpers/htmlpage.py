"""Pages that need no other file: one style for light and dark, and tables whose every cell is escaped."""

from html import escape

__all__ = ["html_page", "html_table"]

_STYLE = (
    ":root{color-scheme:light dark;--ink:#222;--paper:#fff;--line:#bbb;--soft:#f3f3f3;--link:#00498d}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e4e4;--paper:#181a1b;--line:#555;--soft:#26292b;--link:#8ec5ff}}"
    "body{font:15px/1.45 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:var(--ink);"
    "background:var(--paper)}a{color:var(--link)}"
    "table{border-collapse:collapse;margin:.6em 0}th,td{border:1px solid var(--line);padding:.25em .6em;text-align:left;"
    "vertical-align:top}th{background:var(--soft)}caption{text-align:left;padding:.25em 0}"
    "td{overflow-wrap:anywhere}td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}code{white-space:pre-wrap}"
    "h1{font-size:1.4em}h2{font-size:1.1em;margin-top:1.6em}"
    "img{max-width:100%;background:#fff;border:1px solid var(--line);border-radius:4px}"
    "@media print{:root{--ink:#000;--paper:#fff;--line:#999;--soft:#fff;--link:#000}h2,tr{break-after:avoid}}"
)


def html_table(heads, rows, numbers=(), *, caption: str = "", row_heads: bool = False, markup=()) -> str:
    """An HTML table of texts, all of them escaped.

    Args:
        heads: the columns' names.
        rows: one sequence of values per row.
        numbers: columns to align right.
        caption: what the table shows, where no heading says it.
        row_heads: whether a row's first cell names the row.
        markup: columns that are HTML already, escaped by whoever made them.

    Example:
        >>> html_table(["a"], [["<b>"]])
        '<table><thead><tr><th scope="col">a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>'
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = ""
    for row in rows:
        texts = [str(cell) if i in markup else escape(str(cell)) for i, cell in enumerate(row)]
        cells = [f"<td{' class=n' if i in numbers else ''}>{text}</td>" for i, text in enumerate(texts)]
        if row_heads:
            cells[0] = f'<th scope="row">{texts[0]}</th>'
        body += f"<tr>{''.join(cells)}</tr>"
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def html_page(title: str, body: str) -> str:
    """A whole page.

    Args:
        title: plain text; it is escaped.
        body: HTML, escaped already; it becomes the page's ``main``, where screen readers jump to.
    """
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{body}</main></body></html>'
