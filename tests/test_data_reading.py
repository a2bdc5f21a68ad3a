"""Files of rows are read strictly: each fault with its line, and rows in = rows out + rows reported."""

import codecs
import csv
import gzip
import io
import json
import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit_helpers.data import iter_rows, read_rows, write_rows
from lorakit_helpers.data.reading import MAX_ROW_BYTES
from lorakit_helpers.errors import LorakitError

QUICK = settings(max_examples=50, deadline=None, database=None)
GOOD = {"messages": [{"role": "user", "content": "Zoë?"}, {"role": "assistant", "content": "Yes."}]}
TEXT = st.text(st.characters(codec="utf-8"))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
ROWS = st.lists(st.dictionaries(TEXT, JSON, max_size=4), min_size=1, max_size=6)


def line(row=GOOD) -> bytes:
    return json.dumps(row, ensure_ascii=False).encode()


def fault(path) -> LorakitError:
    with pytest.raises(LorakitError) as caught:
        read_rows(path)
    error = caught.value
    assert str(path) in str(error) and "\n" not in str(error)
    assert error.got and error.expected and error.do, "got, expected and a fix belong in every message"
    return error


def file(tmp_path, raw: bytes, name="rows.jsonl"):
    path = tmp_path / name
    path.write_bytes(raw)
    return path


@QUICK
@given(rows=ROWS, name=st.sampled_from(["rows.json", "rows.jsonl"]))
def test_written_rows_come_back_equal_and_as_json_reads_them(tmp_path_factory, rows, name):
    path = tmp_path_factory.mktemp("rows") / name
    assert write_rows(path, rows) == len(rows)
    raw = path.read_text(encoding="utf-8")
    plain = json.loads(raw) if name.endswith("json") else [json.loads(one) for one in raw.split("\n") if one]
    assert read_rows(path) == plain == rows


@pytest.mark.parametrize("size", [1, 3, 17, 200])
def test_a_list_reads_the_same_whatever_the_blocks_it_comes_in(tmp_path, monkeypatch, size):
    monkeypatch.setattr("lorakit_helpers.data.strictjson.BLOCK", size)
    rows = [GOOD | {"n": i, "t": "é\n\u2028😀" * i} for i in range(8)]
    path = file(tmp_path, json.dumps(rows, indent=2, ensure_ascii=False).encode(), "rows.json")
    assert read_rows(path) == rows
    starts = [number for number, text in enumerate(path.read_text("utf-8").split("\n"), 1) if text == "  {"]
    assert [number for number, _ in iter_rows(path)] == starts


def test_lines_are_counted_over_blank_lines_and_windows_line_ends(tmp_path):
    path = file(tmp_path, b"\r\n".join([line(), b"", b"  ", line(), b'{"a": ']))
    problems = []
    assert [number for number, _ in iter_rows(path, problems=problems)] == [1, 4]
    assert "line 5" in str(problems[0])


@pytest.mark.parametrize(
    ("bad", "place", "said"),
    [
        (b'{"messages": [{"role": "user"', "line 2", "one whole JSON object"),
        (b'{"a": 1} {"b": 2}', "line 2, column 10", "more text after the object"),
        ("Zoë".encode("latin-1").join([b'{"a": "', b'"}']), "line 2, byte 10", "byte 0xeb"),
        (b'{"a": NaN}', "line 2", "NaN is not JSON"),
        (b'{"a": 1, "a": 2}', "line 2, a", "the key twice"),
        (b"[1, 2]", "line 2", "a list"),
        (b'"text"', "line 2", "text"),
        (b"17", "line 2", "a number"),
        (b"null", "line 2", "null"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "line 2", "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "line 2", "5000 digits"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value,
)
def test_bad_line_is_named_and_the_others_are_still_read(tmp_path, bad, place, said):
    path = file(tmp_path, b"\n".join([line(), bad, line()]))
    assert place in str(fault(path)) and said in str(fault(path))
    problems = []
    assert [number for number, _ in iter_rows(path, problems=problems)] == [1, 3]
    assert len(problems) == 1 and str(problems[0]) == str(fault(path))


@pytest.mark.parametrize(
    ("raw", "place", "said", "read"),
    [
        (b"[" + line() + b",\n" + line()[:-5], "line 2", "one whole JSON object", 1),
        (b"[" + line() + b",\n" + line(), "line 2", "the end of the file", 2),
        (b"[" + line() + b"\n" + line() + b"]", "line 2", "'{'", 1),
        (b"[" + line() + b",\n]", "line 2", "one whole JSON object", 1),
        (b"[" + line() + b",\n" + line() + b"]\nmore", "line 3", "'m'", 2),
        (b"[" + line() + b",\n" + b'{"a": "\xeb"}]', "line 2", "byte 0xeb", 1),
        (b"[" + line() + b",\n" + b'{"a": "\xc3', "line 2", "byte 0xc3", 1),
        (b'[{"a": 1}, {"b": 1, "b": 2}]', "line 1, b", "the key twice", 1),
    ],
)
def test_broken_list_is_named_with_its_line_and_says_that_reading_ended(tmp_path, raw, place, said, read):
    path = file(tmp_path, raw, "rows.json")
    problems = []
    assert len(read_rows(path, problems=problems)) == read
    assert len(problems) == 1 and "Nothing after this place was read." in str(problems[0])
    assert place in str(fault(path)) and said in str(fault(path))


@pytest.mark.parametrize("size", [1, 2, 2**16])
def test_elements_of_a_list_that_are_no_objects_are_reported_one_by_one(tmp_path, monkeypatch, size):
    monkeypatch.setattr("lorakit_helpers.data.strictjson.BLOCK", size)
    path = file(tmp_path, b'[{"a": 1}, 12, [{"a": 2}],\n"x", {"a": 3}]', "rows.json")
    problems = []
    assert read_rows(path, problems=problems) == [{"a": 1}, {"a": 3}]
    assert [problem.got for problem in problems] == ["a number", "a list", "text"] and "line 2" in str(problems[2])


@pytest.mark.parametrize("end", [b"\n" + line(), b""])
def test_a_line_of_50_mb_is_refused_without_being_held(tmp_path, end):
    path = tmp_path / "rows.jsonl"
    with path.open("wb") as out:
        out.write(line() + b'\n{"a": "')
        for _ in range(50):
            out.write(b"x" * 10**6)
        out.write(b'"}' + end)
    problems = []
    tracemalloc.start()
    rows = list(iter_rows(path, problems=problems))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [number for number, _ in rows] == ([1, 3] if end else [1])
    assert len(problems) == 1 and "line 2" in str(problems[0]) and "16 MiB" in str(problems[0])
    assert peak < 3 * MAX_ROW_BYTES


def test_an_element_of_50_mb_in_a_list_is_refused(tmp_path):
    path = file(tmp_path, b'[{"a": 1},\n{"a": "' + b"x" * 50_000_000 + b'"}]', "rows.json")
    assert "line 2" in str(fault(path)) and "16 MiB" in str(fault(path))


def test_a_fault_in_a_long_list_is_named_where_it_is(tmp_path):
    rest = b",\n".join([b'{"a": "' + b"x" * 100_000 + b'"}'] * 300)
    path = file(tmp_path, b'[{"a": 1},\n{"a": 1 "b": 2},\n' + rest + b"]", "rows.json")
    said = str(fault(path))
    assert "line 2" in said and "16 MiB" not in said and "delimiter" in said


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_a_long_file_is_never_held_whole(tmp_path, name):
    path = tmp_path / name
    write_rows(path, ({"a": "x" * 1000} for _ in range(20_000)))
    tracemalloc.start()
    assert sum(1 for _ in iter_rows(path)) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 20_000_000 and peak < 2_000_000


def test_byte_order_mark_is_named_and_only_the_first_row_is_held_back(tmp_path):
    path = file(tmp_path, codecs.BOM_UTF8 + b"\n".join([line(), line(), line()]))
    assert "line 1" in str(fault(path)) and "byte order mark" in str(fault(path)) and "without BOM" in fault(path).do
    problems = []
    assert len(read_rows(path, problems=problems)) == 2 and len(problems) == 1


def spreadsheet() -> bytes:
    out = io.StringIO()
    csv.writer(out).writerows([["instruction", "output"], ["Say hello, please.", "Hello"]])
    return out.getvalue().encode()


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"", "no rows"),
        (b" \r\n \n", "no rows"),
        (b"[]", "no rows"),
        (spreadsheet(), "a CSV header"),
        (b"question\tanswer\nhi\tho\n", "a CSV header"),
        (codecs.BOM_UTF16_LE + '{"a": 1}'.encode("utf-16-le"), "UTF-16"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (gzip.compress(line(), mtime=0), "a gzip file"),
        (json.dumps(GOOD, indent=2).encode(), "several lines"),
        (b"{\r\n}", "several lines"),
    ],
)
def test_what_is_no_such_file_is_refused_even_when_problems_are_collected(tmp_path, raw, said):
    path = file(tmp_path, raw)
    assert said in str(fault(path))
    with pytest.raises(LorakitError, match=said):
        read_rows(path, problems=[])


@pytest.mark.parametrize(("place", "said"), [("nowhere.jsonl", "no such file"), ("", "a folder")])
def test_missing_file_and_folder_are_told_apart(tmp_path, place, said):
    assert said in str(fault(tmp_path / place))


@QUICK
@given(seed=st.integers(0, 2**32), cuts=st.integers(1, 40))
def test_no_damage_ever_ends_in_a_library_error_or_a_lost_line(tmp_path_factory, seed, cuts):
    chance = random.Random(seed)
    raw = bytearray(b"\n".join([line()] * 5))
    for _ in range(cuts):
        raw[chance.randrange(len(raw))] = chance.choice([0x0A, 0x22, 0x5B, 0x7B, 0xEB, 0x00, 0x5C, 0x2C])
    path = file(tmp_path_factory.mktemp("rows"), b'{"first": 1}\n' + bytes(raw))
    problems = []
    rows = read_rows(path, problems=problems)
    assert len(rows) + len(problems) == sum(1 for one in path.read_bytes().split(b"\n") if one.strip())
    assert all(isinstance(problem, LorakitError) for problem in problems)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"a": 1}, {"a": float("nan")}], "row 2"),
        ([{"a": {1, 2}}], "row 1"),
        ([{"a": "\ud83d"}], "half a character"),
        ([["a"]], "not a dict"),
    ],
)
def test_a_row_that_json_cannot_say_leaves_the_old_file_as_it_was(tmp_path, rows, said):
    path = file(tmp_path, b"old")
    with pytest.raises(LorakitError, match=said):
        write_rows(path, rows)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["rows.csv", "rows", "folder.jsonl/rows.jsonl"])
def test_a_place_that_cannot_be_written_is_said(tmp_path, name):
    (tmp_path / "folder.jsonl").write_text("a file")
    with pytest.raises(LorakitError):
        write_rows(tmp_path / name, [GOOD])
