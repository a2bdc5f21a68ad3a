"""Tickets are read strictly: every fault is named with its line, and every answer has one spelling."""

import json

import pytest
from faulty_files import fault_of
from faulty_files import write_lines as write
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.tickets import (
    BASELINE_PROMPTS,
    INTENTS,
    KEYS,
    SYSTEM_PROMPT,
    URGENCIES,
    Ticket,
    answer_text,
    load_tickets,
    parse_answer,
    to_conversation,
    to_messages,
)

QUICK = settings(max_examples=100, deadline=None, database=None)
WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(lambda text: text.strip())
ANSWERS = st.builds(
    lambda *values: dict(zip(KEYS, values, strict=True)),
    st.none() | WORDS, st.none() | WORDS, WORDS, st.sampled_from(INTENTS), st.sampled_from(URGENCIES),
)  # fmt: skip


def answer(**changes) -> dict:
    return {"order_id": "A-1", "customer": None, "product": "lamp", "intent": "refund", "urgency": "low"} | changes


def row(identifier="t-1", right=None, **more) -> dict:
    return {"id": identifier, "ticket": "My lamp A-1 is broken", "answer": right or answer()} | more


def without(mapping: dict, key: str) -> dict:
    return {name: value for name, value in mapping.items() if name != key}


def fault(path) -> str:
    return fault_of(load_tickets, path)


def test_right_rows_come_back_as_json_reads_them(tmp_path):
    lines = [row("a", voice="terse"), row("b", answer(customer="Zoë", urgency="high"))]
    path = write(tmp_path / "t.jsonl", *lines)
    plain = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(t.id, t.ticket, t.answer, t.voice) for t in load_tickets(path)] == [
        (p["id"], p["ticket"], p["answer"], p.get("voice", "")) for p in plain
    ]


def test_blank_lines_are_passed_over_but_counted(tmp_path):
    path = write(tmp_path / "t.jsonl", row("a"), b"", b"  ", b"{broken")
    assert "line 4" in fault(path)


def test_line_separators_inside_a_text_do_not_split_a_row(tmp_path):
    odd = "one\u2028two\x85three\x0cfour"
    path = write(tmp_path / "t.jsonl", row("a") | {"ticket": odd}, row("b"))
    assert load_tickets(path)[0].ticket == odd


def test_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_bytes(b"\r\n".join(json.dumps(row(name)).encode() for name in "ab") + b"\r\n")
    assert [t.id for t in load_tickets(path)] == ["a", "b"]


def test_missing_file_is_named(tmp_path):
    message = fault(tmp_path / "nowhere.jsonl")
    assert "no such file" in message and "Check the path" in message


@pytest.mark.parametrize("content", [b"", b"\n \n\n"])
def test_empty_file_is_an_error_and_not_an_empty_list(tmp_path, content):
    (tmp_path / "t.jsonl").write_bytes(content)
    assert "no rows" in fault(tmp_path / "t.jsonl")


def test_broken_line_is_named_with_line_and_column(tmp_path):
    broken = json.dumps(row("b"))[:-20].encode()
    message = fault(write(tmp_path / "t.jsonl", row("a"), broken))
    with pytest.raises(json.JSONDecodeError) as oracle:
        json.loads(broken)
    assert f"line 2, column {oracle.value.colno}" in message and oracle.value.msg in message
    assert "one whole JSON object" in message and "missing quote or brace" in message


def test_invalid_utf8_is_named_with_line_and_byte(tmp_path):
    raw = json.dumps(row("b", answer(customer="Zoë")), ensure_ascii=False).encode("latin-1")
    message = fault(write(tmp_path / "t.jsonl", row("a"), raw))
    assert f"line 2, byte {raw.index(0xEB) + 1}" in message and "0xeb" in message and "Save the file as UTF-8" in message


def test_duplicate_id_is_named_with_both_lines(tmp_path):
    message = fault(write(tmp_path / "t.jsonl", row("same"), row("other"), row("same")))
    assert "line 3" in message and "line 1" in message and "'same'" in message and "its own id" in message


@pytest.mark.parametrize("key", KEYS)
def test_missing_answer_key_is_named_with_its_line(tmp_path, key):
    message = fault(write(tmp_path / "t.jsonl", row("a"), row("b", without(answer(), key))))
    assert "line 2, answer" in message and f"'{key}'" in message and "missing" in message and "Add the key" in message


@pytest.mark.parametrize("key", ["id", "ticket", "answer"])
def test_missing_row_key_is_named_with_its_line(tmp_path, key):
    message = fault(write(tmp_path / "t.jsonl", row("a"), without(row("b"), key)))
    assert "line 2, row" in message and f"'{key}'" in message and "Add the key" in message


@pytest.mark.parametrize(
    ("place", "bad"), [("row", row("b", mood="sour")), ("answer", row("b", answer(mood="sour")))], ids=["row", "answer"]
)
def test_extra_key_is_named_with_its_line(tmp_path, place, bad):
    message = fault(write(tmp_path / "t.jsonl", row("a"), bad))
    assert f"line 2, {place}" in message and "'mood'" in message and "expected the keys" in message and "Remove" in message


@pytest.mark.parametrize(("key", "allowed"), [("intent", INTENTS), ("urgency", URGENCIES)])
def test_wrong_word_is_named_with_the_allowed_ones(tmp_path, key, allowed):
    message = fault(write(tmp_path / "t.jsonl", row("a"), row("b"), row("c", answer(**{key: "whenever"}))))
    assert f"line 3, answer.{key}" in message and "'whenever'" in message and "expected one of" in message
    assert all(word in message for word in allowed)


@pytest.mark.parametrize(
    ("key", "value"), [("order_id", 12), ("customer", ["Ann"]), ("product", None), ("product", " "), ("intent", True)]
)
def test_wrong_value_is_named_with_its_field(tmp_path, key, value):
    message = fault(write(tmp_path / "t.jsonl", row("a", answer(**{key: value}))))
    assert f"line 1, answer.{key}" in message and repr(value) in message


@pytest.mark.parametrize("line", [b"[1]", b"3", b"null", b'"text"'])
def test_json_that_is_no_object_is_named(tmp_path, line):
    assert "line 1, row" in fault(write(tmp_path / "t.jsonl", line))


def test_wrong_key_order_is_named_with_found_and_right_order(tmp_path):
    turned = {key: answer()[key] for key in reversed(KEYS)}
    message = fault(write(tmp_path / "t.jsonl", row("a"), row("b", turned)))
    assert "line 2, answer" in message and ", ".join(reversed(KEYS)) in message and ", ".join(KEYS) in message
    assert "Put the keys in that order" in message


def test_key_written_twice_is_an_error(tmp_path):
    twice = json.dumps(row("a")).replace('"urgency": "low"', '"urgency": "low", "urgency": "high"').encode()
    assert "line 1" in fault(write(tmp_path / "t.jsonl", twice))


@pytest.mark.parametrize("line", [b"1" * 5000, b"[" * 200_000], ids=["huge integer", "deep nesting"])
def test_line_that_overwhelms_the_json_reader_is_named(tmp_path, line):
    with pytest.raises(Exception) as caught:
        load_tickets(write(tmp_path / "t.jsonl", line))
    if not isinstance(caught.value, LorakitError):
        raise caught.value
    assert "line 1" in str(caught.value)


@QUICK
@given(ANSWERS)
def test_answer_text_reads_back_to_the_same_answer_in_the_same_order(right):
    text = answer_text(right)
    assert json.loads(text) == right and tuple(json.loads(text)) == KEYS
    assert parse_answer(text) == (right, "")


@QUICK
@given(ANSWERS, st.permutations(KEYS))
def test_answer_text_puts_any_order_right(right, order):
    assert answer_text({key: right[key] for key in order}) == json.dumps(right, ensure_ascii=False)


@QUICK
@given(st.text(max_size=200))
def test_text_that_json_cannot_read_is_never_an_answer(text):
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        got, reason = parse_answer(text)
        assert got is None and reason.startswith("not JSON")


@pytest.mark.parametrize(
    ("text", "reason", "names"),
    [
        ("Sure! " + json.dumps(answer()), "not JSON", ""),
        (json.dumps(answer()) + " Anything else?", "not JSON", ""),
        ("```json\n" + json.dumps(answer()) + "\n```", "not JSON", ""),
        (json.dumps(answer())[:-1], "not JSON", ""),
        ("", "not JSON", ""),
        ("[1, 2]", "not JSON", "list"),
        ("null", "not JSON", "NoneType"),
        ("[" * 200_000, "not JSON", ""),
        (json.dumps(answer(mood="sour", note=1)), "extra key", "mood, note"),
        (json.dumps(without(answer(), "urgency")), "missing key", "urgency"),
        (json.dumps(answer(intent="Refund")), "wrong value", "Refund"),
        (json.dumps(answer(product=None)), "wrong value", "None"),
        (json.dumps(answer(order_id=7)), "wrong value", "7"),
        (json.dumps({key: answer()[key] for key in sorted(KEYS)}), "wrong order", ", ".join(sorted(KEYS))),
    ],
)
def test_invalid_output_is_refused_with_its_reason(text, reason, names):
    got, why = parse_answer(text)
    assert got is None and why.startswith(reason) and names in why


def test_space_around_an_answer_is_forgiven():
    assert parse_answer(f"\n  {json.dumps(answer())} \n") == (answer(), "")


def test_output_with_a_key_twice_is_not_valid():
    assert parse_answer(json.dumps(answer())[:-1] + ', "urgency": "high"}')[0] is None


def test_output_of_many_digits_is_refused_and_does_not_raise():
    assert parse_answer("1" * 5000)[0] is None


def test_chat_has_a_system_turn_then_the_ticket():
    chat = to_messages("Where is it?", "Be brief.")
    assert [(turn["role"], turn["content"]) for turn in chat] == [("system", "Be brief."), ("user", "Where is it?")]
    assert to_messages("x")[0]["content"] == SYSTEM_PROMPT


def test_training_row_is_prompt_and_completion_without_the_voice():
    one = Ticket("a", "My lamp", answer(), voice="terse captain")
    turn = to_conversation(one)
    assert set(turn) == {"prompt", "completion"}
    assert [t["role"] for t in turn["prompt"] + turn["completion"]] == ["system", "user", "assistant"]
    assert json.loads(turn["completion"][0]["content"]) == one.answer
    assert "terse captain" not in json.dumps(turn)


def test_the_full_prompts_name_every_key_and_word():
    for name in ("instructions", "instructions and format"):
        missing = [word for word in (*KEYS, *INTENTS, *URGENCIES) if word not in BASELINE_PROMPTS[name]]
        assert not missing, name


def test_the_format_shown_in_the_prompt_is_itself_a_valid_answer():
    prompt = BASELINE_PROMPTS["instructions and format"]
    shown = prompt[prompt.index("{") : prompt.index("}") + 1]
    assert parse_answer(shown) == (json.loads(shown), "")
