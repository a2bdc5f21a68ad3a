"""What a rule is: it sees one row after the other, and says at the end what it found."""

import json
from array import array
from dataclasses import dataclass, field

__all__ = ["ERROR", "WARNING", "Example", "Finding", "Rule", "normalize"]

ERROR, WARNING = "error", "warning"
_SHOWN = 10


@dataclass(frozen=True)
class Finding:
    """One mistake in a data set.

    Attributes:
        rule: the rule's id, for example ``"empty-turn"``.
        severity: ``"error"`` (training will go wrong) or ``"warning"`` (look at it).
        message: what was found, one sentence.
        why: why it hurts.
        fix: what to do.
        count: rows concerned; 0 when it is the data set as a whole.
        rows: the first of their line numbers (row numbers for rows not from a file).
        examples: what was seen in the first of these rows, shortened.
    """

    rule: str
    severity: str
    message: str
    why: str
    fix: str
    count: int = 0
    rows: tuple[int, ...] = ()
    examples: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        where = ""
        if self.rows:
            more = f" … ({self.count} rows)" if self.count > len(self.rows) else ""
            where = f" [line{'s' * (len(self.rows) > 1)} {', '.join(map(str, self.rows))}{more}]"
        return f"{self.severity} {self.rule}: {self.message}{where}"


def normalize(text: str) -> str:
    """Text without the differences that do not matter: case and white space.

    Example:
        >>> normalize("  Hello\\n World ")
        'hello world'
    """
    return " ".join(text.casefold().split())


class Example:
    """One row as the rules see it; each view is made once.

    Attributes:
        line: its line, or its number.
        row: the row in the messages format.
        roles, contents: of the turns.
        prompt: all that the user (or a tool) says before the last answer.
        answer: the last assistant turn, or "".
        text: everything, for searches.
        parsed: the answer as JSON when it looks like JSON and is, else None; ``broken`` when it only looks like it.
        key, answer_key: 64-bit hashes of the normalized prompt, and of the answer.
    """

    __slots__ = (
        "answer", "answer_key", "broken", "contents", "key", "line", "looks_like_json", "parsed", "prompt", "roles",
        "row", "text",
    )  # fmt: skip

    def __init__(self, line: int, row: dict):
        self.line, self.row = line, row
        turns = row["messages"]
        self.roles = tuple([turn["role"] for turn in turns])
        self.contents = contents = [turn.get("content") or "" for turn in turns]
        self.answer = answer = contents[-1] if self.roles[-1] == "assistant" else ""
        end = len(contents) - (self.roles[-1] == "assistant")
        start = 1 if self.roles[0] == "system" else 0
        self.prompt = contents[start] if end - start == 1 else "\n".join(contents[start:end])
        self.text = "\n".join(contents)
        self.key = hash(normalize(self.prompt))
        self.answer_key = hash(answer.strip())
        self.parsed, self.broken = None, False
        self.looks_like_json = answer.lstrip()[:1] in ("{", "[") and answer != ""
        if self.looks_like_json:
            try:
                self.parsed = json.loads(answer)
            except (ValueError, RecursionError):
                self.broken = True


class Rule:
    """Base of the rules: counts rows and keeps the first few. Subclasses set the four texts and ``see``."""

    id = ""
    severity = WARNING
    why = ""
    fix = ""

    def __init__(self):
        self.count, self.lines, self.examples = 0, array("q"), []

    def hit(self, line: int, example: str = "") -> None:
        self.count += 1
        if self.count <= _SHOWN:
            self.lines.append(line)
            if example and len(self.examples) < 3:
                self.examples.append(example if len(example) <= 100 else example[:99] + "…")

    def see(self, example: Example) -> None:
        """Look at one row."""

    def message(self) -> str:
        """The sentence for the rows counted."""
        return f"{self.count} row{'s' * (self.count != 1)}"

    def findings(self, total: int) -> list[Finding]:
        """What was found in ``total`` rows."""
        return [self.finding(self.message(), self.count, tuple(self.lines), tuple(self.examples))] if self.count else []

    def finding(self, message: str, count: int = 0, rows: tuple = (), examples: tuple = (), severity: str = "") -> Finding:
        return Finding(self.id, severity or self.severity, message, self.why, self.fix, count, rows[:_SHOWN], examples[:3])
