"""Conversion keeps every text and every row; where a format cannot say something the loss is named, never silent."""

import subprocess
import sys
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit_helpers.data import (
    FORMATS,
    ConversionWarning,
    as_messages,
    convert,
    detect_format,
    from_dataset,
    read_rows,
    to_dataset,
    write_rows,
)
from lorakit_helpers.data.formats import ROLES, SHAREGPT_ROLES
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.tickets import load_split, to_conversation

QUICK = settings(max_examples=80, deadline=None, database=None)
TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
RESERVED = ("messages", "conversations", "instruction", "input", "output", "prompt", "completion")
COLUMNS = st.dictionaries(TEXT.filter(lambda name: name not in RESERVED), TEXT | st.integers() | st.none(), max_size=2)
KEYS = st.dictionaries(TEXT.filter(lambda n: n not in ("role", "content", "from", "value", "tool_calls")), TEXT, max_size=2)


def turn(role, content="", **more) -> dict:
    return {"role": role, "content": content, **more}


TURN = st.builds(lambda role, content, keys: turn(role, content) | keys, st.sampled_from(ROLES), TEXT, KEYS)
CHAT = st.builds(lambda turns, columns: {"messages": turns, **columns}, st.lists(TURN, min_size=1, max_size=6), COLUMNS)
EXCHANGE = st.builds(
    lambda asked, answer, columns: {"messages": [turn("user", asked), turn("assistant", answer)], **columns},
    TEXT,
    TEXT,
    COLUMNS,
)  # fmt: skip
ALPACA = st.builds(
    lambda asked, given, answer, columns: {"instruction": asked, "input": given, "output": answer, **columns},
    TEXT, TEXT, TEXT, COLUMNS,
)  # fmt: skip


def quietly(*args, **options):
    """Convert, with the warnings it gave."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        return convert(*args, **options), [str(one.message) for one in caught if one.category is ConversionWarning]


@QUICK
@given(rows=st.lists(CHAT, min_size=1, max_size=4))
def test_messages_to_sharegpt_and_back_is_the_identity(rows):
    there, said = quietly(rows, "sharegpt", source="messages")
    assert {loss.kind for loss in there.losses} <= {"tool"} and bool(said) == bool(there.losses)
    assert any(one["role"] == "tool" for row in rows for one in row["messages"]) == bool(there.losses)
    assert quietly(there.rows, "messages", source="sharegpt")[0].rows == rows


@QUICK
@given(rows=st.lists(EXCHANGE, min_size=1, max_size=4))
def test_one_exchange_to_alpaca_and_back_is_the_identity_without_a_warning(rows):
    there, said = quietly(rows, "alpaca", source="messages")
    assert not said and not there.losses
    back, said = quietly(there.rows, "messages", source="alpaca")
    assert not said and back.rows == rows


@QUICK
@given(rows=st.lists(CHAT, min_size=1, max_size=4))
def test_alpaca_keeps_every_text_and_names_each_row_that_does_not_come_back(rows):
    there, said = quietly(rows, "alpaca", source="messages")
    assert len(there.rows) == len(rows)
    for row, made in zip(rows, there.rows, strict=True):
        assert all(one["content"] in made["instruction"] + "\n" + made["output"] for one in row["messages"])
    back = quietly(there.rows, "messages", source="alpaca")[0].rows
    changed = {number for number, (a, b) in enumerate(zip(rows, back, strict=True), 1) if a != b}
    assert changed == {loss.row for loss in there.losses} and bool(said) == bool(changed)


@QUICK
@given(rows=st.lists(ALPACA, min_size=1, max_size=4), to=st.sampled_from(["messages", "sharegpt"]))
def test_alpaca_comes_back_or_the_joined_input_is_named(rows, to):
    there, said = quietly(rows, to, source="alpaca")
    back = quietly(there.rows, "alpaca", source=to)[0].rows
    joined = {number for number, row in enumerate(rows, 1) if row["instruction"] and row["input"]}
    assert {(loss.row, loss.kind) for loss in there.losses} == {(number, "joined") for number in joined}
    assert bool(said) == bool(joined)
    for number, (row, made) in enumerate(zip(rows, back, strict=True), 1):
        if number in joined:
            assert made["instruction"] == row["instruction"] + "\n\n" + row["input"] and made["output"] == row["output"]
        else:
            assert made | {"instruction": made["instruction"] or row["input"], "input": ""} == row | {
                "instruction": row["instruction"] or row["input"],
                "input": "",
            }


@QUICK
@given(row=CHAT, to=st.sampled_from(FORMATS))
def test_strict_refuses_exactly_the_rows_that_would_lose_something(row, to):
    loose, strict = quietly([row], to)[0], quietly([row], to, strict=True)[0]
    assert len(strict.rows) + len(strict.refused) == 1
    assert bool(strict.refused) == bool(loose.losses) and (strict.refused or strict.rows == loose.rows)


@pytest.mark.parametrize(
    ("turns", "kind", "instruction", "output"),
    [
        ([turn("system", "S"), turn("user", "U"), turn("assistant", "A")], "system", "S\n\nU", "A"),
        (
            [turn("user", "U1"), turn("assistant", "A1"), turn("user", "U2"), turn("assistant", "A2")],
            "multi-turn", "User: U1\n\nAssistant: A1\n\nUser: U2", "A2",
        ),
        (
            [turn("user", "U"), turn("assistant", "C"), turn("tool", "T"), turn("assistant", "A")],
            "tool", "User: U\n\nAssistant: C\n\nTool: T", "A",
        ),
        ([turn("user", "U")], "no-answer", "U", ""),
        ([turn("user", "U"), turn("user", "V"), turn("assistant", "A")], "order", "User: U\n\nUser: V", "A"),
        ([turn("user", "U"), turn("assistant", "A"), turn("assistant", "B")], "order", "User: U\n\nAssistant: A", "B"),
        ([turn("user", "U", name="Zoë"), turn("assistant", "A")], "turn-key", "U", "A"),
        ([turn("user", "U"), {"role": "assistant", "content": None, "tool_calls": [1]}], "content", "U", ""),
    ],
)  # fmt: skip
def test_what_alpaca_cannot_say_is_warned_about_and_written_so(turns, kind, instruction, output):
    made, said = quietly([{"messages": turns}], "alpaca")
    assert made.rows == [{"instruction": instruction, "input": "", "output": output}]
    assert kind in {loss.kind for loss in made.losses} and f"{kind}: " in said[0] and "(1 row: 1)" in said[0]


def test_what_sharegpt_cannot_say_is_warned_about():
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}], "from": "model-7"}
    made, said = quietly([{"messages": [turn("user", "U"), call], "conversations": "old"}], "sharegpt")
    wrote = [{"from": "human", "value": "U"}, {"from": "gpt", "value": "", "tool_calls": [{"id": "1"}]}]
    assert made.rows == [{"conversations": wrote}] and said
    assert [loss.kind for loss in made.losses] == ["tool", "turn-key", "content", "column"]


def test_a_column_whose_name_the_target_needs_is_named():
    made, said = quietly([{"messages": [turn("user", "U"), turn("assistant", "A")], "output": "old"}], "alpaca")
    assert made.rows[0]["output"] == "A" and [loss.kind for loss in made.losses] == ["column"] and said


def test_another_spelling_of_a_speaker_is_read_and_named():
    rows = [{"conversations": [{"from": "user", "value": "Hi"}, {"from": "chatgpt", "value": "Ho"}]}]
    made, _ = quietly(rows, "messages")
    assert made.rows == [{"messages": [turn("user", "Hi"), turn("assistant", "Ho")]}]
    assert [loss.detail for loss in made.losses] == ["user", "chatgpt"]


def test_messages_under_conversations_are_read():
    row = {"conversations": [turn("user", "Hi"), turn("assistant", "Ho")], "id": 3}
    assert detect_format([row]).format == "messages"
    assert as_messages(row) == {"messages": row["conversations"], "id": 3}


def test_the_courses_own_rows_convert_to_messages():
    for ticket in load_split("test"):
        row = to_conversation(ticket)
        assert as_messages(row) == {"messages": row["prompt"] + row["completion"]}


@pytest.mark.parametrize("format", FORMATS)
def test_format_is_detected_with_its_reason(format):
    rows = quietly([{"messages": [turn("user", "Hi"), turn("assistant", "Ho")]}] * 3, format)[0].rows
    found = detect_format([*rows, {"odd": 1}])
    assert (found.format, found.agreeing, found.looked_at) == (format, 3, 4)
    named = {"alpaca": '"instruction"', "messages": '"role"', "sharegpt": '"from"'}
    assert named[format] in found.reason and "3 of the first 4 rows" in str(found)


@pytest.mark.parametrize(
    ("row", "fix"),
    [
        ({"instructions": "a", "output": "b"}, "instruction"),
        ({"data": [{"messages": [turn("user", "a")]}]}, "inside 'data'"),
        ({"text": "<|im_start|>user"}, "lost its roles"),
        ({"q": "a", "a": "b"}, "Rename the columns"),
        ({}, "Rename the columns"),
    ],
)
def test_unknown_columns_are_named_with_what_to_do(row, fix):
    with pytest.raises(LorakitError) as caught:
        detect_format([row])
    assert fix in str(caught.value) and "columns" in caught.value.got


GOOD = {"messages": [turn("user", "Hi"), turn("assistant", "Ho")]}


@pytest.mark.parametrize(
    ("format", "row", "place", "got"),
    [
        ("messages", {"messages": [turn("user", ["a", "b"])]}, "turn 1, content", "a list of 2"),
        ("messages", {"messages": [turn("user", 7)]}, "turn 1, content", "the number 7"),
        ("messages", {"messages": [turn("user", True)]}, "turn 1, content", "the truth value True"),
        ("messages", {"messages": [turn("user", {"text": "a"})]}, "turn 1, content", "an object"),
        ("messages", {"messages": [turn("user", None)]}, "turn 1, content", "null"),
        ("messages", {"messages": [turn("user", "Hi"), turn("human", "Ho")]}, "turn 2, role", "'human'"),
        ("messages", {"messages": [turn(["user"], "Hi")]}, "turn 1, role", "['user']"),
        ("messages", {"messages": [{"content": "Hi"}]}, "turn 1, role", "no role"),
        ("messages", {"messages": ["Hi"]}, "turn 1", "str"),
        ("messages", {"messages": "Hi"}, "messages", "str"),
        ("messages", {"messages": []}, "messages", "an empty list"),
        ("messages", {"messages": [turn("user", "cut \ud83d")]}, "turn 1, content", "\\ud83d"),
        ("messages", {"instruction": "a", "output": "b"}, "columns", "'instruction', 'output'"),
        ("sharegpt", {"conversations": [{"from": "humen", "value": "a"}]}, "turn 1, role", "'humen'"),
        ("sharegpt", {"conversations": [{"from": "human", "value": 1.5}]}, "turn 1, value", "the number 1.5"),
        ("sharegpt", {"conversations": [["human", "a"]]}, "turn 1", "a list of 2"),
        ("alpaca", {"instruction": "a", "output": ["b"]}, "output", "a list of 1"),
        ("alpaca", {"instruction": "a", "input": 3, "output": "b"}, "input", "the number 3"),
        ("prompt-completion", {"prompt": "a", "completion": 3}, "completion", "the number 3"),
        ("prompt-completion", {"prompt": "a"}, "columns", "'prompt'"),
    ],
)
def test_a_wrong_row_is_named_by_row_and_place(format, row, place, got):
    with pytest.raises(LorakitError) as caught:
        convert([row], "messages", source=format)
    error = caught.value
    assert str(error).startswith(f"row 1, {place}: ") and got in error.got and error.expected and error.do


def test_wrong_rows_are_collected_and_counted():
    problems = []
    bad = [{"messages": [turn("usr", "Hi")]}, "no dict"]
    made, _ = quietly([GOOD, *bad, GOOD], "sharegpt", problems=problems)
    assert len(made.rows) == 2 and list(made.refused) == problems and "4 rows in, 2 out" in str(made)
    assert "row 2" in str(problems[0]) and "row 3" in str(problems[1])


@pytest.mark.parametrize(
    ("known", "near"), [("human", "user"), ("gpt", "assistant"), ("asistant", "assistant"), ("bot", "assistant")]
)
def test_unknown_role_is_answered_with_the_nearest(known, near):
    with pytest.raises(LorakitError, match=f"Did you mean {near}"):
        as_messages({"messages": [turn(known, "Hi")]})


@pytest.mark.parametrize("options", [{"to": "csv"}, {"to": "messages", "source": "alpacca"}])
def test_unknown_format_is_refused(options):
    with pytest.raises(LorakitError, match="one of alpaca, messages, sharegpt"):
        convert([GOOD], **options)


@pytest.mark.parametrize("format", FORMATS)
def test_rows_go_through_a_dataset_and_a_file_unchanged(tmp_path, format):
    rows = [{"messages": [turn("user", "Zoë 😀"), turn("assistant", "Ho")], "id": i, "note": None} for i in range(3)]
    rows[1]["messages"][0]["name"] = "Ann"
    rows = quietly(rows, format)[0].rows
    assert from_dataset(to_dataset(rows)) == rows
    write_rows(tmp_path / "rows.jsonl", from_dataset(to_dataset(rows)))
    assert read_rows(tmp_path / "rows.jsonl") == rows


def test_content_that_is_null_beside_a_tool_call_comes_back_from_a_dataset():
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}
    rows = [{"messages": [turn("user", "U"), call, turn("tool", "T"), turn("assistant", "A")]}]
    assert from_dataset(to_dataset(rows)) == rows


def test_what_a_dataset_cannot_hold_is_said():
    with pytest.raises(LorakitError, match="one type for each column"):
        to_dataset([{"a": 1}, {"a": "text"}])
    with pytest.raises(LorakitError, match="at least one"):
        to_dataset([])
    with pytest.raises(LorakitError, match="the splits 'train'"):
        from_dataset({"train": to_dataset([GOOD])})


def test_roles_map_onto_each_other():
    assert set(SHAREGPT_ROLES.values()) == set(ROLES)


def test_importing_the_package_loads_nothing_heavy():
    heavy = ("torch", "transformers", "datasets", "sklearn", "scipy", "datasketch", "numpy", "ftfy")
    code = "import sys, lorakit_helpers.data, lorakit_helpers.data.command; "
    code += f"print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
