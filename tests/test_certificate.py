"""The certificate shows the learner's own figures, escapes what others wrote, and says what is not there."""

import json
import math
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

from lorakit_helpers import cli, progress
from lorakit_helpers.certificate import certificate_page, write_certificate
from lorakit_helpers.claims import CLAIMS, claim
from lorakit_helpers.evalcommand import page
from lorakit_helpers.evalreport import BASELINE, compare_reports, report_from, write_report
from lorakit_helpers.evaluation import CompletionLoss, score_tickets, verdict
from lorakit_helpers.evidence import find_evidence
from lorakit_helpers.exercises import EXERCISES
from lorakit_helpers.files import project_root, sha256_of
from lorakit_helpers.lessons import progress_map
from lorakit_helpers.progress import read_progress, record_check
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.tickets import answer_text, load_split
from lorakit_helpers.training import TrainingLog

ROOT = project_root()
TICKETS = load_split("test")[:12]
GOOD = [answer_text(ticket.answer) for ticket in TICKETS]
ATTACK = "<script>alert(1)</script>\"'&"
RECIPE = json.loads(json.dumps(Recipe(r=16, learning_rate=1e-3).to_dict()))
LOG = TrainingLog(
    max_steps=30, step=30, steps=[10, 20, 30], losses=[2.125, 0.75, 0.3125], tokens=900, seconds=3.0, peak_gib=1.5
)
VOID = {"meta", "img", "br", "hr", "link"}


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A course folder of its own, in which progress is kept."""
    (tmp_path / "data").symlink_to(ROOT / "data")
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path))
    for name in ("LORAKIT_PROGRESS", "LORAKIT_STRICT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(progress, "_said", [])
    return tmp_path


def adapter(home, name="tickets", base="models/tiny-base", recipe=RECIPE, log=None, weights=b"weights"):
    folder = home / "outputs" / "adapters" / name
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_bytes(weights)
    notes = {"recipe": recipe, "log": LOG.to_dict() if log is None else log, "key": "0123456789abcdef"}
    (folder / "lorakit_run.json").write_text(json.dumps(notes))
    return notes


def measured(home, name, outputs, losses, notes, tickets=TICKETS):
    """A report by evalreport on made-up outputs, written where notebooks write it."""
    loss = CompletionLoss(float(np.mean(losses)), 100, np.array(losses))
    report = report_from(
        score_tickets(outputs, tickets),
        loss,
        tickets,
        adapter=name,
        base="tiny-base",
        notes=notes,
        data_name="test",
        seconds=2.0,
    )
    write_report(report, home / "outputs" / "reports", page(report, {}))
    return report


def pair(home):
    """An adapter with its report, and the base model's on the same tickets."""
    notes = adapter(home)
    losses = np.linspace(0.1, 0.5, len(TICKETS))
    before = measured(home, BASELINE, ["no"] * 9 + GOOD[9:], losses + 1, {"recipe": {"system_prompt": ATTACK}})
    return before, measured(home, "tickets", [*GOOD[:11], "no"], losses, notes)


class Page(HTMLParser):
    """Balanced tags, tables by caption, and everything that would load or run something."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tables, self.headings, self.foreign, self.images, self.row = [], [], [], [], [], None
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("script", "iframe", "object", "link", "form") or any(name.startswith("on") for name in attrs):
            self.foreign.append(tag)
        for name in ("src", "href"):
            if attrs.get(name) and not attrs[name].startswith("data:image/png;base64,"):
                self.foreign.append(attrs[name])
        if tag == "img":
            self.images.append(attrs.get("alt", ""))
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.row = []
            self.tables[-1].append(self.row)
        if tag == "th":
            assert attrs.get("scope") in ("col", "row")
        if tag in ("th", "td"):
            self.row.append("")
        if tag in ("h1", "h2"):
            self.headings.append("")

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            assert "url(" not in data and "@import" not in data
            return
        self.text += data
        if self.open and self.open[-1] in ("th", "td"):
            self.row[-1] += data
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings[-1] += data

    def table(self, first):
        """The table whose first head is ``first``, as a dict of its rows by their first cell."""
        found = next(rows for rows in self.tables if rows[0][0] == first)
        assert all(len(row) == len(found[0]) for row in found)
        return {row[0]: dict(zip(found[0], row, strict=True)) for row in found[1:]}


def shown(home, **options):
    made = write_certificate(home / "me.html", **options)
    assert made.file == "me.html"
    return Page((home / "me.html").read_text(encoding="utf-8"))


def test_nothing_done_gives_no_certificate_and_no_file(home):
    record_check("7.1", answered=True, right=False)
    made = write_certificate()
    assert made.file is None and str(made).startswith("Nothing to certify yet")
    assert [path.name for path in (home / "outputs").glob("*.html")] == []


def test_where_nobody_learns_nothing_is_certified_and_an_old_certificate_stays(home, monkeypatch):
    record_check("7.1", answered=True, right=True)
    assert write_certificate().file == "outputs/certificate.html"
    before = (home / "outputs" / "certificate.html").read_bytes()
    adapter(home)
    monkeypatch.setenv("LORAKIT_STRICT", "1")
    assert write_certificate().file is None and (home / "outputs" / "certificate.html").read_bytes() == before


def test_one_right_exercise_is_certified_and_all_that_is_missing_is_said(home):
    for right in (False, False, True):
        record_check("7.2", answered=True, right=right)
    record_check("2.1", answered=True, right=False)
    record_check("3.1", answered=False, right=False)
    found = shown(home)
    day = read_progress().exercises["7.2"].right[:10]
    assert found.table("exercise") == {
        "2.1": {"exercise": "2.1", "state": "not yet right", "tries": "1", "right since": "–"},
        "7.2": {"exercise": "7.2", "state": "right", "tries": "3", "right since": day},
    }
    assert f"1 of {len(EXERCISES)} exercises right." in found.text
    for missing in ("None trained yet", "no evaluation report", "Not judged here: C1 (notebook 02)"):
        assert missing in found.text
    assert not found.images and "%" not in found.text.partition("Not judged here")[0]


def test_before_and_after_are_the_reports_figures_with_intervals_and_verdict(home):
    before, after = pair(home)
    found = shown(home)
    differences = {d.name: d for d in compare_reports(before, after)}
    table = found.table("metric")
    assert len(table) == len(after.metrics)
    for name, metric in after.metrics.items():
        row = next(row for key, row in table.items() if key.removesuffix(" (lower is better)") == name)
        for column, source in (("before", before.metrics[name]), ("after", metric)):
            figures = [float(x) for x in re.findall(r"[\d.]+(?=%)", row[column])]
            assert figures == pytest.approx([100 * source[end] for end in ("value", "low", "high")], abs=0.0501)
        if name in differences:
            d = differences[name]
            figures = [float(x) for x in re.findall(r"[-+][\d.]+", row["difference (points)"])]
            assert figures == pytest.approx([100 * d.difference, 100 * d.low, 100 * d.high], abs=0.0501)
            assert verdict(d).startswith(row["verdict"])
    assert table["exact match"]["after"].startswith(f"{100 * 11 / 12:.1f}%") and table["exact match"]["verdict"] == "Better"
    assert verdict(differences["loss"]) in found.text and after.data["hash"] in found.text
    assert [key for key in table if "lower is better" in key] == ["extra keys (lower is better)"]


def test_adapter_is_shown_with_recipe_hash_and_curve(home):
    adapter(home)
    adapter(home, "older/one", log={})
    found = shown(home)
    facts = {key: row["value"] for key, row in found.table("what").items()}
    assert facts["base model"] == "tiny-base" and facts["r"] == "16" and facts["learning_rate"] == "0.001"
    assert facts["SHA-256 of the weights"] == sha256_of(home / "outputs/adapters/tickets/adapter_model.safetensors")
    assert "0123456789abcdef" in facts.values() and facts["target_modules"].startswith("q_proj, k_proj")
    (alt,) = found.images
    assert "2.125 at step 10" in alt and "0.312 at step 30" in alt and alt.removeprefix("Training loss. ") in found.text
    assert set(found.table("adapter")) == {"older/one"}


@pytest.mark.parametrize("change", [{"recipe": RECIPE | {"r": 8}}, {"log": {}}])
def test_a_report_on_another_training_of_that_name_is_not_this_adapters(home, change):
    pair(home)
    shutil.rmtree(home / "outputs" / "adapters")
    adapter(home, **change)
    found = shown(home)
    assert "no evaluation report" in found.text and set(found.table("model")) == {"tickets", BASELINE}


def test_a_baseline_on_other_tickets_is_no_before(home):
    notes = adapter(home)
    measured(home, BASELINE, GOOD[:6], [0.5] * 6, {}, TICKETS[:6])
    report = measured(home, "tickets", GOOD, [0.1] * 12, notes)
    found = shown(home)
    assert "there is no “before”" in found.text and set(found.table("metric")) == set(report.metrics)
    assert list(next(iter(found.table("metric").values()))) == ["metric", "after"]


def test_claims_are_shown_as_judged_and_the_others_named(home):
    claim("C1", True, f"7e9 × 4 bytes = 28 GB {ATTACK}", folder=home / "outputs" / "claims")
    found = shown(home)
    assert found.table("claim")["C1"]["verdict"] == "holds" and ATTACK in found.table("claim")["C1"]["computed here"]
    assert sum(str(one) in found.text.partition("Not judged here")[2] for one in CLAIMS) >= len(CLAIMS) - 1


def test_quick_checks_of_the_smoke_profile_are_called_so_and_real_runs_come_first(home):
    (home / "outputs").mkdir()
    adapter(home / "outputs", "tickets")
    (home / "outputs" / "outputs").rename(home / "outputs" / "smoke")
    assert "Quick check" in shown(home).text and "smoke profile" in progress_map()
    adapter(home, "tickets", weights=b"real")
    assert "Quick check" not in shown(home).text and not find_evidence().quick


def test_nothing_a_file_or_a_name_says_is_run(home):
    adapter(home, "tickets", base=f"x/{ATTACK.replace('/', '')}", recipe={ATTACK: ATTACK})
    measured(home, ATTACK.replace("/", "_"), GOOD, [0.1] * 12, {"recipe": {"r": ATTACK}})
    (home / "outputs" / "reports" / f"{ATTACK.replace('/', '')}.json").write_text("{")
    found = shown(home, name=ATTACK)
    assert found.foreign == [] and found.headings[0] == f"Certificate of evidence of {ATTACK}"
    assert found.headings.count("Not readable") == 1 and "<script" not in (home / "me.html").read_text(encoding="utf-8")


def test_page_needs_nothing_from_outside_and_is_built_for_light_dark_and_screen_readers(home):
    pair(home)
    record_check("7.1", answered=True, right=True)
    found, text = shown(home, name="Ada"), (home / "me.html").read_text(encoding="utf-8")
    assert found.foreign == [] and text.startswith("<!doctype html><html lang=") and "prefers-color-scheme:dark" in text
    assert found.headings[0].endswith("of Ada") and len(found.headings) == 5
    assert all(found.images) and all(rows[0] for rows in found.tables)


def luminance(colour):
    """Relative luminance by WCAG 2.2."""
    parts = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    channels = [int(parts[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_the_contrast_that_wcag_aa_asks_for_in_both_schemes(home):
    record_check("7.1", answered=True, right=True)
    shown(home)
    schemes = re.findall(r"--ink:(#\w+);--paper:(#\w+);--line:#\w+;--soft:(#\w+);--link:(#\w+)", (home / "me.html").read_text())
    assert len(schemes) == 3  # light, dark, print
    for ink, paper, soft, link in schemes:
        for text, ground in ((ink, paper), (ink, soft), (link, paper)):
            high, low = sorted((luminance(text), luminance(ground)), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 4.5


BROKEN_LOGS = [
    None, [], "x", {"steps": [1], "losses": []}, LOG.to_dict() | {"losses": [1, 2, "3"]}, LOG.to_dict() | {"max_steps": None},
    LOG.to_dict() | {"losses": [math.nan] * 3}, LOG.to_dict() | {"steps": [], "losses": []},
]  # fmt: skip


@pytest.mark.parametrize("log", BROKEN_LOGS)
def test_a_log_that_cannot_be_drawn_costs_the_picture_and_not_the_page(home, log):
    adapter(home, log=log if log is not None else {})
    found = shown(home)
    drawable = isinstance(log, dict) and log.get("losses") and log.get("max_steps") and "3" not in log["losses"]
    assert len(found.images) == bool(drawable) and ("no training log" in found.text) is not bool(drawable)


def test_files_that_cannot_be_read_are_named(home):
    pair(home)
    (home / "outputs" / "adapters" / "tickets" / "lorakit_run.json").write_text("[1")
    report = home / "outputs" / "reports" / "tickets-test.json"
    stored = json.loads(report.read_text())
    stored["metrics"]["exact match"] = {"value": "<b>"}
    report.write_text(json.dumps(stored))
    found = shown(home)
    assert "adapters/tickets could not be read" in found.text and "reports/tickets-test.json could not be read" in found.text
    assert "None trained yet" in found.text


def test_evidence_can_be_written_as_json(home):
    pair(home)
    claim("C1", True, "28 GB", folder=home / "outputs" / "claims")
    found = json.loads(json.dumps(find_evidence().to_dict()))
    assert [a["name"] for a in found["adapters"]] == ["tickets"] and found["claims"][0]["verdict"] == "holds"
    assert {r["file"] for r in found["reports"]} == {"tickets-test.json", f"{BASELINE}-test.json"}


def test_command_writes_it_and_says_when_there_is_nothing(home, capsys, monkeypatch):
    assert cli.main(["progress", "--certificate", str(home / "me.html")]) == 1 and not (home / "me.html").exists()
    record_check("7.1", answered=True, right=True)
    monkeypatch.chdir(home)
    assert cli.main(["progress", "--certificate", "me.html", "--name", "Ada"]) == 0
    assert f"me.html: 1 of {len(EXERCISES)} exercises right" in capsys.readouterr().out
    assert "of Ada" in (home / "me.html").read_text()


def test_page_is_the_same_for_the_same_files_and_moment(home):
    from datetime import UTC, datetime

    pair(home)
    made = [certificate_page(read_progress(), find_evidence(), now=datetime(2026, 1, 2, tzinfo=UTC)) for _ in range(2)]
    assert made[0] == made[1] and "2026-01-02" in made[0]
