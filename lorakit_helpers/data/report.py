"""What the linter found: as text, as a table for a notebook, as JSON."""

import json
from dataclasses import asdict, dataclass
from html import escape

from .formats import Detection
from .rules.base import ERROR, Finding

__all__ = ["LintReport"]

_CELL = "text-align:left;vertical-align:top;line-height:1.4;padding:.2em .8em .2em 0"
_LONG = "overflow-wrap:anywhere;min-width:"
_WIDTHS = ("", "", "min-width:8em", "", f"{_LONG}13em", f"{_LONG}14em", f"{_LONG}14em")


@dataclass(frozen=True)
class LintReport:
    """The findings about one source, and what they rest on.

    Attributes:
        source: the file, or "row" for rows from elsewhere.
        detection: the format and why.
        rows, unreadable: rows checked, and rows reported as unreadable; together all rows there are.
        findings: errors first.
        wall_seconds, cpu_seconds: measured.
        near_duplicates: whether near-copies were searched.
    """

    source: str
    detection: Detection
    rows: int
    unreadable: int
    findings: tuple[Finding, ...]
    wall_seconds: float
    cpu_seconds: float
    near_duplicates: bool

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.severity == ERROR)

    @property
    def ok(self) -> bool:
        """Whether there is no error (warnings do not count)."""
        return not self.errors

    @property
    def rows_per_s(self) -> float:
        """Rows for each second of processor time."""
        return (self.rows + self.unreadable) / max(self.cpu_seconds, 1e-9)

    def found(self, rule: str) -> tuple[Finding, ...]:
        """The findings of one rule."""
        return tuple(finding for finding in self.findings if finding.rule == rule)

    def __str__(self) -> str:
        errors, warnings = len(self.errors), len(self.findings) - len(self.errors)
        what = "rows" if self.source == "row" else self.source
        return (
            f"{what}: {self.rows + self.unreadable} rows in, {self.rows} checked, {self.unreadable} unreadable; "
            f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}"
        )

    def text(self) -> str:
        """The whole report for a terminal."""
        lines = [str(self), f"format {self.detection}", self._rate()]
        for finding in self.findings:
            lines += ["", str(finding)]
            lines += [f"    {example}" for example in finding.examples]
            lines += [f"    why: {finding.why}", f"    fix: {finding.fix}"]
        return "\n".join(lines)

    def _rate(self) -> str:
        search = "with" if self.near_duplicates else "without"
        rate = f", {self.rows_per_s:,.0f} rows/s" if self.rows >= 1000 else ""  # fewer are no measure
        return f"measured: {self.cpu_seconds:.2f} s of processor time{rate}, {search} the search for near-copies"

    def html(self) -> str:
        """The report as an HTML table; all that comes from the data is escaped."""
        rows = []
        for finding in self.findings:
            where = ", ".join(map(str, finding.rows)) + (" …" if finding.count > len(finding.rows) > 0 else "")
            seen = "<br>".join(f"<code>{escape(example)}</code>" for example in finding.examples)
            cells = (
                f"<b>{escape(finding.severity)}</b>", escape(finding.rule), escape(finding.message), escape(where), seen,
                escape(finding.why), escape(finding.fix),
            )  # fmt: skip
            styled = zip(cells, _WIDTHS, strict=True)
            rows.append("<tr>" + "".join(f'<td style="{_CELL};{width}">{cell}</td>' for cell, width in styled) + "</tr>")
        heads = ("severity", "rule", "found", "lines", "seen there", "why it hurts", "fix")
        head = "".join(f'<th scope="col" style="{_CELL}">{name}</th>' for name in heads)
        lines = (str(self), f"format {self.detection}", self._rate())
        lead = f'<p style="line-height:1.5">{"<br>".join(map(escape, lines))}</p>'
        if not rows:
            return lead
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        return f'{lead}<div role="region" aria-label="Findings" tabindex="0" style="overflow-x:auto">{table}</div>'

    def _repr_html_(self) -> str:
        return self.html()

    def to_dict(self) -> dict:
        return {
            "source": self.source,
            "format": asdict(self.detection),
            "rows": self.rows,
            "unreadable": self.unreadable,
            "ok": self.ok,
            "rows_per_s": round(self.rows_per_s, 1),
            "near_duplicates": self.near_duplicates,
            "findings": [asdict(finding) for finding in self.findings],
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=2)
