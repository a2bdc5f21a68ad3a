"""Upload a training file: its format, the linter's report, and the rows converted to another format."""

import html
import json
import re
import tempfile
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import ipywidgets as w

from ..data import FORMATS, LintReport, convert, iter_rows, lint, write_rows
from ..errors import LorakitError
from ._panel import Panel, labelled, side_by_side
from ._status import status

__all__ = ["Examined", "UploadPanel", "examine", "uploaded_files"]

_START = "Choose a .json or .jsonl file. It is read here, by this notebook's kernel, and its uploaded copy is not kept."


def uploaded_files(value) -> list[tuple[str, bytes]]:
    """Name and bytes of each file of a ``FileUpload``'s value, which ipywidgets 7 and 8 lay out differently.

    Args:
        value: a dict of name to ``{"metadata": ..., "content": bytes}`` (7), or a tuple of
            ``{"name": ..., "content": memoryview}`` (8).

    Example:
        >>> uploaded_files({"a.json": {"metadata": {"name": "a.json"}, "content": b"[]"}})
        [('a.json', b'[]')]
        >>> uploaded_files(({"name": "a.json", "content": memoryview(b"[]")},))
        [('a.json', b'[]')]
    """
    if isinstance(value, dict):
        return [(str(name), bytes(file["content"])) for name, file in value.items()]
    return [(str(file["name"]), bytes(file["content"])) for file in value or ()]


@dataclass(frozen=True)
class Examined:
    """What was found in one file.

    Attributes:
        name: as uploaded.
        report: the linter's.
        target: the format converted to.
        rows: the converted rows.
        refused: rows that could be read but not converted.
        notes: what the conversion loses, one line for each kind.
    """

    name: str
    report: LintReport
    target: str
    rows: list[dict] = field(repr=False)
    refused: int
    notes: tuple[str, ...]

    def __str__(self) -> str:
        report = self.report
        read = report.rows + report.unreadable
        errors, warnings = len(report.errors), len(report.findings) - len(report.errors)
        first = f"The first thing to mend: {report.findings[0].message}." if report.findings else "Nothing to mend was found."
        return (
            f"{self.name}: {report.detection.format}, {read} rows in = {len(self.rows)} converted to {self.target} + "
            f"{report.unreadable} unreadable + {self.refused} refused; {errors} error{'s' * (errors != 1)}, {warnings} "
            f"warning{'s' * (warnings != 1)}. {first}"
        )

    def html(self) -> str:
        """The report as a table, what the conversion loses, and the first converted row; all of it escaped."""
        lost = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        shown = json.dumps(self.rows[0], ensure_ascii=False)[:400] if self.rows else ""
        first = (
            f"<p>First row as {self.target}:</p><pre style='white-space:pre-wrap;line-height:1.4'>{html.escape(shown)}</pre>"
        )
        return (
            self.report.html()
            + (f"<p>Lost on the way to {self.target}:</p><ul>{lost}</ul>" if lost else "")
            + (first if shown else "")
        )


def examine(name: str, content: bytes, target: str = "messages") -> Examined:
    """Detect the format of a file's bytes, lint them and convert the rows that can be read.

    The bytes go to a temporary file for the course's readers; it is removed again.

    Args:
        name: for messages.
        content: the file.
        target: ``"alpaca"``, ``"messages"`` or ``"sharegpt"``.

    Raises:
        LorakitError: when there is nothing to lint: an empty file, CSV, UTF-16, a picture, an unknown format or target.

    Example:
        >>> print(examine("two.json", b'[{"instruction": "Say hello.", "output": "Hello, how are you?"}]'))
        two.json: alpaca, 1 rows in = 1 converted to messages + 0 unreadable + 0 refused; 0 errors, 1 warning. The first thing \
to mend: no row has a system prompt.
    """
    if target not in FORMATS:
        raise LorakitError("target format", got=repr(target), expected="one of " + ", ".join(FORMATS), do="Choose one.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "upload.jsonl"
        path.write_bytes(content)

        def named(text: str) -> str:
            return text.replace(str(path), name)

        try:
            report = lint(path)
            numbered = list(iter_rows(path, problems=[]))
        except LorakitError as error:
            raise LorakitError(named(error.what), got=error.got, expected=error.expected, do=error.do) from error
    findings = tuple(replace(f, examples=tuple(map(named, f.examples))) for f in report.findings)
    report = replace(report, source=name, findings=findings)
    if not report.rows:
        return Examined(name, report, target, [], 0, ())
    refused: list[LorakitError] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shown as notes
        done = convert([row for _, row in numbered], target, source=report.detection.format, problems=refused)
    # numbered as in the report: a blank or unreadable line counts
    done = replace(done, losses=tuple(replace(loss, row=numbered[loss.row - 1][0]) for loss in done.losses))
    # rows whose turns cannot be read count as unreadable in the report, and are refused by the conversion
    return Examined(name, report, target, done.rows, report.rows - len(done.rows), tuple(done.summary()))


class UploadPanel(Panel):
    """Upload, look, save. ``controls``, ``result`` (an :class:`Examined` or None) and ``widget`` as in every panel.

    Args:
        folder: where converted files are saved.
    """

    def __init__(self, folder):
        self._folder, self.result, self.saved, self._file = Path(folder), None, None, None
        self.upload = w.FileUpload(accept=".json,.jsonl", multiple=False, description="Choose a file")
        self.format = w.Dropdown(options=FORMATS, value="messages", description="Convert to", **labelled(400))
        self.save = w.Button(description="Save converted rows", disabled=True, layout=w.Layout(width="200px"))
        self.reset = w.Button(description="Reset")
        self.sentence, self.table = w.HTML(status(_START)), w.HTML(layout=w.Layout(width="98%", overflow="auto"))
        self.controls = {"upload": self.upload, "format": self.format, "save": self.save, "reset": self.reset}
        buttons = side_by_side(self.upload, self.save, self.reset)
        self.widget = w.VBox([buttons, self.format, self.sentence, self.table])
        self.upload.observe(self._uploaded, "value")
        self.format.observe(lambda _: self.run(), "value")
        self.save.on_click(lambda _: self._save())
        self.reset.on_click(lambda _: self._reset())

    def _uploaded(self, _) -> None:
        try:
            files = uploaded_files(self.upload.value)
        except Exception as error:  # a callback's exception would be invisible in the page
            self._refuse(error)
            return
        if files:
            self.look(*files[-1])

    def look(self, name: str, content: bytes):
        """Show what is in a file; the browser's upload ends here."""
        self._file = (name, content)
        return self.run()

    def run(self):
        """Examine the file again, for example for another target format; a problem is shown as a sentence."""
        self.saved = None
        if self._file is None:
            return None
        self.upload.disabled = self.save.disabled = True
        self.sentence.value = status(f"Reading {self._file[0]} …")
        try:
            self.result = examine(*self._file, self.format.value)
            self.table.value = self.result.html()
            self.save.disabled = not self.result.rows
            self.sentence.value = status(str(self.result))
        except Exception as error:  # a callback's exception would be invisible in the page
            self._refuse(error)
        finally:
            self.upload.disabled = False
        return self.result

    def _refuse(self, error: Exception) -> None:
        self.result, self.table.value, self.save.disabled = None, "", True
        self.sentence.value = status(str(error), alert=True)

    def _save(self) -> None:
        try:
            stem = re.sub(r"[^\w-]+", "_", re.split(r"[/\\]", self.result.name)[-1].rsplit(".", 1)[0]).strip("_")[:60]
            path = self._folder / f"{stem or 'upload'}.{self.result.target}.jsonl"
            count = write_rows(path, self.result.rows)
            self.saved = path
            self.sentence.value = status(f"{count} rows saved to {path.parent.name}/{path.name}. Lint that file, too.")
        except Exception as error:
            self.sentence.value = status(str(error), alert=True)

    def _reset(self) -> None:
        self._file = self.result = self.saved = None
        self.upload.set_trait("value", type(self.upload.value)())  # read-only in ipywidgets 7
        self.format.value, self.table.value, self.save.disabled = "messages", "", True
        self.sentence.value = status(_START)
