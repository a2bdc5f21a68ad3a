"""The upload panel reads what a browser sends, says what is wrong with it, and saves what was converted."""

import json
import tempfile
from datetime import datetime
from pathlib import Path

import pytest

from lorakit_helpers.data import as_messages, read_rows
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.widgets import UploadPanel
from lorakit_helpers.widgets.upload_panel import examine, uploaded_files

ROW = {"instruction": "Say hello to everyone.", "input": "", "output": "Hello to all of you!"}
LINE = json.dumps(ROW).encode()
SHAREGPT = b'{"conversations": [{"from": "human", "value": "Hi there"}, {"from": "gpt", "value": "Hello, how are you?"}]}\n'


def test_both_layouts_of_a_file_uploads_value_are_read():
    seven = {"a.json": {"metadata": {"name": "a.json", "size": 2}, "content": b"[]"}}
    eight = ({"name": "a.json", "type": "", "size": 2, "content": memoryview(b"[]"), "last_modified": 0},)
    assert uploaded_files(seven) == uploaded_files(eight) == [("a.json", b"[]")]
    assert uploaded_files({}) == uploaded_files(()) == uploaded_files(None) == []


def test_counts_in_are_counts_out_and_counts_reported():
    content = SHAREGPT * 3 + b'{"conversations": [{"from": "robot", "value": "x"}]}\n{"cut'
    found = examine("chat.jsonl", content)
    assert len(found.rows) == 3 and found.report.unreadable == 2 and found.refused == 0
    assert "5 rows in = 3 converted to messages + 2 unreadable + 0 refused" in str(found)
    assert found.rows[0] == as_messages(json.loads(SHAREGPT))
    assert all(text.startswith("chat.jsonl, line ") for text in found.report.found("unreadable")[0].examples)


def test_what_is_lost_is_told_by_the_files_own_lines():
    good = {"messages": [{"role": r, "content": "some words"} for r in ("system", "user", "assistant")]}
    plain = {"messages": good["messages"][1:]}
    content = json.dumps(plain).encode() + b'\n\n{"messages": 7\n' + json.dumps(good).encode() + b"\n"
    (note,) = examine("x.jsonl", content, "alpaca").notes
    assert "(1 row: 4)" in note


def test_what_a_target_loses_is_said():
    chat = {"messages": [{"role": r, "content": "some words"} for r in ("system", "user", "assistant", "user", "assistant")]}
    notes = " ".join(examine("x.json", json.dumps([chat]).encode(), "alpaca").notes)
    assert "system" in notes and "multi-turn" in notes
    assert examine("x.json", json.dumps([chat]).encode(), "sharegpt").notes == ()


BAD = {
    "cut off": (LINE + b"\n" + LINE[:-9], "1 row could not be read"),
    "byte order mark": (b"\xef\xbb\xbf" + LINE, "1 row could not be read"),
    "Latin-1": (LINE + b"\n" + LINE.replace(b"everyone", b"J\xfcrgen"), "1 row could not be read"),
    "empty": (b"", "no rows"),
    "CSV": (b"question,answer\nHi,Hello\n", "CSV"),
    "UTF-16": ("[]".encode("utf-16"), "UTF-16"),
    "PNG": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "a PNG picture"),
    "JPEG": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG picture"),
    "PDF": (b"%PDF-1.7\n%\xe2\xe3", "a PDF document"),
    "noise": (bytes(range(256)) * 4, "could not be read"),
    "a number": (b"42", "could not be read"),
    "unknown columns": (b'{"question": "Hi", "reply": "Hello"}', "format of the rows"),
    "numbers as content": (b'{"instruction": 1, "output": 2}', "1 row could not be read"),
    "nested too deeply": (b"[" * 100_000, "nested too deeply"),
    "a huge line": (b'{"instruction": "' + b"x" * (17 * 2**20) + b'", "output": "y"}', "could not be read"),
}


@pytest.mark.parametrize(("content", "said"), BAD.values(), ids=BAD)
def test_any_bad_file_gets_a_sentence_and_leaves_no_temporary_file(content, said, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    panel = UploadPanel(tmp_path / "out")
    panel.look("mine.jsonl", content)
    assert said in panel.sentence.value + panel.table.value, panel.sentence.value[:300]
    assert "mine.jsonl" in panel.sentence.value or said == "format of the rows"
    assert "Traceback" not in panel.sentence.value and str(tmp_path) not in panel.sentence.value + panel.table.value
    assert not list((tmp_path / "tmp").iterdir()) and not panel.upload.disabled


def test_windows_line_ends_are_read_like_others():
    assert examine("x.jsonl", LINE + b"\r\n" + LINE + b"\r\n").rows == [as_messages(ROW)] * 2


def test_text_and_name_of_the_file_are_escaped(tmp_path):
    panel = UploadPanel(tmp_path)
    row = {"instruction": "<script>alert(1)</script> \ufffd", "output": "<img src=x onerror=alert(1)>"}
    panel.look("<b>name</b>.jsonl", json.dumps(row).encode() + b'\n{"<i>": ')
    shown = panel.sentence.value + panel.table.value
    assert "&lt;b&gt;name" in shown and "&lt;script&gt;" in shown
    assert not any(tag in shown for tag in ("<script", "<img", "<b>name", "<i>"))


def test_converted_rows_are_saved_in_the_folder_whatever_the_files_name(tmp_path):
    panel = UploadPanel(tmp_path / "out")
    for name in ("chat.jsonl", "../../evil.jsonl", "c:\\x\\..\\y z.json", "....", "", "a" * 300):
        panel.look(name, SHAREGPT * 2)
        panel.controls["save"].click()
        assert panel.saved and panel.saved.parent == tmp_path / "out", panel.sentence.value
        assert read_rows(panel.saved) == panel.result.rows and "2 rows saved" in panel.sentence.value
    assert {path.parent for path in tmp_path.rglob("*.jsonl")} == {tmp_path / "out"}


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    panel = UploadPanel(tmp_path / "out")
    panel.look("chat.jsonl", SHAREGPT)
    panel.controls["save"].click()
    assert panel.saved is None and "could not write" in panel.sentence.value


def test_another_target_converts_the_same_file_again_and_reset_forgets_it(tmp_path):
    panel = UploadPanel(tmp_path)
    start = panel.sentence.value
    assert panel.save.disabled
    panel.look("chat.jsonl", SHAREGPT)
    assert not panel.save.disabled and "messages" in panel.result.rows[0]
    panel.controls["format"].value = "alpaca"
    assert panel.result.rows == [{"instruction": "Hi there", "input": "", "output": "Hello, how are you?"}]
    panel.controls["reset"].click()
    assert panel.result is None and panel.save.disabled and (panel.sentence.value, panel.table.value) == (start, "")
    panel.controls["format"].value = "sharegpt"
    assert panel.result is None


def test_an_upload_reaches_the_table(tmp_path):
    panel = UploadPanel(tmp_path)
    if isinstance(panel.upload.value, tuple):  # ipywidgets 8
        panel.upload.set_trait(
            "value",
            (
                {
                    "name": "chat.jsonl",
                    "type": "",
                    "size": 1,
                    "content": memoryview(SHAREGPT),
                    "last_modified": datetime(2026, 1, 1),
                },
            ),
        )
    else:
        panel.upload.set_trait("value", {"chat.jsonl": {"metadata": {"name": "chat.jsonl"}, "content": SHAREGPT}})
    assert len(panel.result.rows) == 1 and "chat.jsonl" in panel.sentence.value
    panel.controls["reset"].click()
    assert not panel.upload.value


def test_unknown_target_is_an_error():
    with pytest.raises(LorakitError, match="target format"):
        examine("x.json", LINE, "chatml")


def test_a_file_is_never_looked_for_by_the_name_it_was_uploaded_under(tmp_path):
    (tmp_path / "there.jsonl").write_bytes(SHAREGPT)
    with pytest.raises(LorakitError, match="no rows"):
        examine(str(Path(tmp_path) / "there.jsonl"), b"")
