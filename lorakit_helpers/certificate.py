"""The learner's certificate of evidence: one HTML page of their own numbers, which says what is missing.

Nothing on it is typed in but the name: exercises come from the progress file, all else from files that runs have left.
"""

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from html import escape
from pathlib import Path

from .claims import CLAIMS
from .errors import LorakitError
from .evalreport import BASELINE, EvalReport, compare_reports
from .evaluation import Difference, verdict
from .evidence import AdapterFound, Evidence, find_evidence
from .exercises import EXERCISES
from .files import atomic_write_text, project_root
from .htmlpage import html_page, html_table
from .lessons import LESSONS
from .progress import Progress, read_progress, recording

__all__ = ["Certificate", "certificate_page", "write_certificate"]


@dataclass(frozen=True)
class Certificate:
    """What was certified.

    Attributes:
        file: the page, relative to the course folder where it is inside; None when there was nothing to certify.
        right, exercises: exercises solved, and how many the course has.
        found: what the runs have left, in words.
    """

    file: str | None
    right: int
    exercises: int
    found: str

    def __str__(self):
        if self.file is None:
            return "Nothing to certify yet: no exercise solved, no adapter, no report. Come back to this cell later."
        return f"{self.file}: {self.right} of {self.exercises} exercises right; {self.found}."

    def to_dict(self) -> dict:
        return asdict(self)


def write_certificate(path=None, *, name: str = "") -> Certificate:
    """Write the page, whole or not at all.

    Args:
        path: the file; by default ``outputs/certificate.html`` in the course folder.
        name: the learner's, shown as it is given.

    Raises:
        LorakitError: when the file cannot be written, or the path does not end in ``.html``.
    """
    root = project_root()
    path = Path(path or root / "outputs" / "certificate.html").absolute()
    if path.suffix.lower() not in (".html", ".htm"):
        raise LorakitError("certificate", got=path.name, expected="a file name that ends in .html", do="For example me.html.")
    progress = read_progress()
    right = [key for key in progress.right if key in EXERCISES]
    evidence = find_evidence(root) if recording() else None
    if evidence is None or not (right or evidence.adapters or evidence.reports or evidence.claims):
        return Certificate(None, len(right), len(EXERCISES), "nothing")
    atomic_write_text(path, certificate_page(progress, evidence, name=name))
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return Certificate(shown.as_posix(), len(right), len(EXERCISES), str(evidence))


def certificate_page(progress: Progress, evidence: Evidence, *, name: str = "", now: datetime | None = None) -> str:
    """The page as HTML; the name and everything read from files is escaped."""
    now = now or datetime.now().astimezone()
    right = sum(key in EXERCISES for key in progress.right)
    whose = f" of {name.strip()}" if name.strip() else ""
    title = f"Certificate of evidence{whose}"
    lead = (
        f"<p>lorakit, a course on fine-tuning with LoRA and QLoRA. Written on {now:%Y-%m-%d} from the files on the learner's "
        f"own computer; nobody else has checked them. <strong>{right} of {len(EXERCISES)} exercises right.</strong> "
        f"Results: {escape(str(evidence))}.</p>"
    )
    if evidence.quick:
        lead += "<p><strong>Quick check:</strong> these runs used the smoke profile, a few steps on a few rows.</p>"
    notes = [note for note in (progress.note, *evidence.notes) if note]
    parts = [
        f"<h1>{escape(title)}</h1>", lead, "<h2>The adapter</h2>", _adapter(evidence), "<h2>Before and after</h2>",
        _before_after(evidence), "<h2>Claims checked</h2>", _claims(evidence), "<h2>Exercises</h2>", _exercises(progress),
        "<h2>Not readable</h2>" + "".join(f"<p>{escape(note)}</p>" for note in notes) if notes else "",
    ]  # fmt: skip
    return html_page(title, "".join(parts))


def _exercises(progress: Progress) -> str:
    rows = []
    for key in EXERCISES:
        record = progress.exercises.get(key)
        if record and record.right:
            rows.append((key, "right", record.tries, record.right[:10]))
        elif record and record.tries:
            rows.append((key, "not yet right", record.tries, "–"))
    if not rows:
        return "<p>None tried yet.</p>"
    titles = {str(int(lesson.stem[:2])): lesson.title for lesson in LESSONS}
    per_lesson = Counter(key.split(".")[0] for key in EXERCISES)
    done = Counter(key.split(".")[0] for key in progress.right if key in EXERCISES)
    lessons = [(f"{int(n):02} {titles.get(n, '')}", f"{done[n]} of {of}") for n, of in per_lesson.items()]
    return (
        html_table(("lesson", "exercises right"), lessons, (1,), row_heads=True)
        + html_table(("exercise", "state", "tries", "right since"), rows, (2,), row_heads=True)
        + "<p>Tries: answers checked until the first right one. The course shows hints and solutions to whoever looks.</p>"
    )


def _adapter(evidence: Evidence) -> str:
    own = evidence.adapter
    if own is None:
        return "<p>None trained yet: notebook 07 makes one.</p>"
    recipe = own.recipe or {}
    facts = [
        ("name", own.name), ("base model", own.base), ("saved", own.saved[:10]), ("weights", f"{own.size_mib:.1f} MiB"),
        ("SHA-256 of the weights", own.sha256),
        ("fingerprint of recipe, training rows, base and engine", own.key or "not noted in the adapter's folder"),
        *[(field, _text(recipe[field])) for field in sorted(recipe)],
    ]  # fmt: skip
    parts = [html_table(("what", "value"), facts, row_heads=True)]
    if not recipe:
        parts.append("<p>Its folder does not say by what recipe it was trained.</p>")
    parts.append(_curve(own) if own.log and own.log["losses"] else "<p>Its folder holds no training log.</p>")
    if len(evidence.adapters) > 1:
        others = [(a.name, a.base, _text((a.recipe or {}).get("r", "–")), a.saved[:10]) for a in evidence.adapters[1:]]
        parts.append(
            html_table(("adapter", "base model", "rank", "saved"), others, (2,), caption="Other adapters", row_heads=True)
        )
    return "".join(parts)


def _text(value) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _curve(adapter: AdapterFound) -> str:
    """The training loss as a picture with its text alternative, and that text below it."""
    from .plots import describe_training, figure_html, plot_training
    from .training import TrainingLog

    log = adapter.log
    log = TrainingLog(**{key: log[key] for key in ("max_steps", "step", "steps", "losses", "tokens", "seconds", "peak_gib")})
    said = describe_training(log)
    return f"<p>{figure_html(plot_training(log).figure, f'Training loss. {said}')}</p><p>{escape(said)}</p>"


def _before_after(evidence: Evidence) -> str:
    after, before = evidence.after(), evidence.before()
    parts = []
    if after is None:
        parts.append("<p>This adapter has no evaluation report: notebook 07 or <code>lorakit evaluate</code> makes one.</p>")
    else:
        parts.append(_paired(before, after) if before else _alone(after))
    others = [r for r in evidence.reports if r is not after and r is not before]
    if others:
        rows = [
            (r.report.adapter, f"{r.report.data['rows']} of {r.report.data['name']}", _exact(r.report), r.written[:10], r.file)
            for r in others
        ]
        parts.append(
            html_table(("model", "tickets", "exact match", "written", "file"), rows, row_heads=True, caption="Other reports")
        )
    return "".join(parts)


def _share(metric: dict) -> str:
    return f"{metric['value']:.1%} [{metric['low']:.1%}, {metric['high']:.1%}]"


def _exact(report) -> str:
    return _share(report.metrics["exact match"]) if "exact match" in report.metrics else "not measured"


def _rests_on(found) -> str:
    data = found.report.data
    what = f"{data['rows']} tickets of {data['name']} (hash {data['hash']})"
    return f"{what}, evaluated on {found.written[:10]}; 95 % intervals in brackets"


def _alone(after) -> str:
    rows = [(name, _share(metric)) for name, metric in after.report.metrics.items()]
    return (
        html_table(("metric", "after"), rows, (1,), row_heads=True, caption=_rests_on(after))
        + f"<p>No report of the untrained model (“{BASELINE}”) on the same tickets, so there is no “before”: "
        "notebook 07 writes both.</p>"
    )  # fmt: skip


#: Columns of :func:`paired_rows`.
PAIRED_HEADS = ("metric", "before", "after", "difference (points)", "verdict")


def paired_rows(before: EvalReport, after: EvalReport, found: list[Difference]) -> list[tuple[str, ...]]:
    """Two reports on the same tickets, metric by metric, with 95 % intervals, the paired difference and its verdict.

    Args:
        before, after: the reports.
        found: what :func:`lorakit_helpers.evalreport.compare_reports` says of them.
    """
    differences, rows = {d.name: d for d in found}, []
    for name, metric in after.metrics.items():
        old, d = before.metrics.get(name), differences.get(name)
        change = f"{100 * d.difference:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]" if d else "–"
        word = verdict(d).split(":")[0] if d else "–"
        shown = f"{name} (lower is better)" if d and d.lower_is_better else name
        rows.append((shown, _share(old) if old else "not measured", _share(metric), change, word))
    return rows


def _paired(before, after) -> str:
    found = compare_reports(before.report, after.report)
    rows = paired_rows(before.report, after.report, found)
    (loss,) = (d for d in found if d.name == "loss")
    said = [f"Loss on the right answers. {verdict(loss)}"]
    if (before.report.recipe or {}).get("system_prompt"):
        said.append(f"Before: the untrained model, asked with the prompt “{before.report.recipe['system_prompt']}”")
    table = html_table(PAIRED_HEADS, rows, (1, 2, 3), row_heads=True, caption=_rests_on(after))
    return table + "".join(f"<p>{escape(sentence)}</p>" for sentence in said)


def _claims(evidence: Evidence) -> str:
    judged = [c.claim for c in evidence.claims]
    missing = [f"{claim} (notebook {claim.lesson})" for claim in CLAIMS if claim not in judged]
    said = f"<p>Not judged here: {escape('; '.join(missing))}.</p>" if missing else ""
    if not judged:
        return said
    rows = [(c.claim.number, c.claim.said, c.verdict, c.figure, c.caveat or "–") for c in evidence.claims]
    return html_table(("claim", "the guide says", "verdict", "computed here", "caveat"), rows, row_heads=True) + said
