"""Modelfiles against the tokenizers themselves and their makers' encoders; the Go templates against Go's own output."""

import ast
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_templates_tokens import fast_tokenizer, llama, mistral, mistrals_own, qwen  # noqa: F401

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.export.gotemplate import parse
from lorakit_helpers.export.header import TEMPLATE_KEY, read_header
from lorakit_helpers.export.modelfile import modelfile, ollama_ids, render_modelfile, template_check
from lorakit_helpers.templates import find_family

SYSTEM = {"role": "system", "content": "Ticket to JSON."}
USER = {"role": "user", "content": "Ça va? Order 1234567 — 3 × “lamp” (id_7).\n\n  {{ .System }} Thanks"}
ANSWER = {"role": "assistant", "content": '{"order_id": "1234567", "customer": null}'}
MORE = {"role": "user", "content": "don't  forget\tme"}
CHATS = {"system": [SYSTEM, USER], "user": [USER], "turns": [USER, ANSWER, MORE], "all": [SYSTEM, USER, ANSWER, MORE]}
each_chat = pytest.mark.parametrize("chat", CHATS.values(), ids=CHATS)


def trained(tokenizer, chat):
    return tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)


def with_template(tokenizer, family):
    tokenizer.chat_template = find_family(family).template
    return tokenizer


@each_chat
def test_ollama_sends_the_token_ids_the_base_model_was_trained_on(tokenizer, chat):
    assert ollama_ids(modelfile("x.gguf", tokenizer), chat, tokenizer) == trained(tokenizer, chat)


CONTENT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(st.lists(CONTENT, min_size=1, max_size=4), st.one_of(st.none(), CONTENT))
def test_chatml_is_the_same_for_any_contents(tokenizer, contents, system):
    chat = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    chat = [{"role": "system", "content": system}, *chat] if system is not None else chat
    assert ollama_ids(modelfile("x.gguf", tokenizer), chat, tokenizer) == trained(tokenizer, chat)


def test_a_system_text_of_ones_own_is_used_where_the_chat_has_none(tokenizer):
    text = modelfile("x.gguf", tokenizer, system=SYSTEM["content"])
    assert ollama_ids(text, [USER], tokenizer) == trained(tokenizer, [SYSTEM, USER])
    other = {"role": "system", "content": "Another."}
    assert ollama_ids(text, [other, USER], tokenizer) == trained(tokenizer, [other, USER])


@each_chat
def test_llama_3_is_metas_own_chat_format(llama, chat):  # noqa: F811
    from llama_models.datatypes import RawMessage

    chat_format, tokenizer = llama
    text = modelfile("x.gguf", with_template(tokenizer, "llama-3"))
    meta = chat_format.encode_dialog_prompt([RawMessage(**message) for message in chat]).tokens
    assert ollama_ids(text, chat, tokenizer) == meta
    assert meta.count(tokenizer.bos_token_id) == 1


@each_chat
def test_llama_3_1_keeps_its_dates_in_every_chat(llama, chat):  # noqa: F811
    tokenizer = with_template(llama[1], "llama-3.1")
    assert "26 Jul 2024" in (text := modelfile("x.gguf", tokenizer))
    assert ollama_ids(text, chat, tokenizer) == trained(tokenizer, chat)


@pytest.mark.parametrize("family", ["llama-3", "llama-3.1"])
def test_bos_stands_once_where_the_runtime_puts_it_there(llama, family):  # noqa: F811
    from tokenizers.processors import TemplateProcessing

    tokenizer = llama[1]
    plain = tokenizer.backend_tokenizer.post_processor
    begin = (tokenizer.bos_token, tokenizer.bos_token_id)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begin[0]} $A", special_tokens=[begin])
    try:
        text = modelfile("x.gguf", with_template(tokenizer, family))
        assert begin[0] not in text
        ids = ollama_ids(text, CHATS["all"], tokenizer)
        assert ids == trained(tokenizer, CHATS["all"]) and ids.count(begin[1]) == 1
        twice = ollama_ids(text.replace('TEMPLATE """', f'TEMPLATE """{begin[0]}'), CHATS["all"], tokenizer)
        assert twice == [begin[1], *ids]  # the fault this is about
    finally:
        tokenizer.backend_tokenizer.post_processor = plain


@each_chat
def test_qwens_default_system_text_is_kept(qwen, chat):  # noqa: F811
    tokenizer = with_template(qwen[1], "qwen2.5")
    text = modelfile("x.gguf", tokenizer)
    assert 'SYSTEM """You are Qwen' in text
    assert ollama_ids(text, chat, tokenizer) == trained(tokenizer, chat)
    with_template(tokenizer, "chatml")
    assert "SYSTEM" not in modelfile("x.gguf", tokenizer)


@each_chat
def test_mistrals_system_text_goes_into_the_first_user_turn(mistral, chat):  # noqa: F811
    encoder, tokenizer = mistral
    text = modelfile("x.gguf", with_template(tokenizer, "mistral"))
    assert ollama_ids(text, chat, tokenizer) == trained(tokenizer, chat)
    assert ollama_ids(text, [USER], tokenizer) == mistrals_own(encoder, [USER])


def test_stop_tokens_and_parameters(tokenizer):
    lines = modelfile("x.gguf", tokenizer, parameters={"num_ctx": 512, "temperature": 0.5}).splitlines()
    assert lines[1] == "FROM ./x.gguf"
    assert [line for line in lines if line.startswith("PARAMETER")] == [
        'PARAMETER stop "<|im_end|>"', 'PARAMETER stop "<|im_start|>"', "PARAMETER temperature 0.5",
        "PARAMETER repeat_penalty 1", "PARAMETER num_ctx 512",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "options, said",
    [
        ({"system": 'a """ b'}, "system"), ({"system": 'ends "'}, "system"), ({"parameters": {"a b": 1}}, "PARAMETER"),
        ({"parameters": {"num_ctx": "1\nFROM y"}}, "PARAMETER num_ctx"), ({"gguf_name": "a\nb"}, "gguf_name"),
    ],
)  # fmt: skip
def test_what_cannot_stand_in_a_modelfile_is_refused(tokenizer, options, said):
    with pytest.raises(LorakitError, match=said):
        modelfile(options.pop("gguf_name", "x.gguf"), tokenizer, **options)


def test_a_template_of_no_known_family_is_refused(qwen):  # noqa: F811
    with pytest.raises(LorakitError, match="ChatML, Llama 3 and Mistral"):
        modelfile("x.gguf", with_template(qwen[1], "zephyr"))


@pytest.fixture(scope="module")
def unsloths_modelfiles():
    """Unsloth's table of Modelfiles, read as text."""
    from importlib.util import find_spec

    source = Path(next(iter(find_spec("unsloth").submodule_search_locations))) / "ollama_template_mappers.py"
    named = [node for node in ast.parse(source.read_text(encoding="utf-8")).body if isinstance(node, ast.Assign)]
    return {n.targets[0].id: n.value.value for n in named if isinstance(n.value, ast.Constant) and hasattr(n.targets[0], "id")}


def test_unsloths_chatml_modelfile_drops_the_default_system_text(tokenizer, unsloths_modelfiles):
    theirs = unsloths_modelfiles["chatml_ollama"]
    for chat in CHATS.values():
        same = ollama_ids(theirs, chat, tokenizer) == trained(tokenizer, chat)
        assert same == (chat[0]["role"] == "system")


def test_without_a_template_ollama_sends_the_bare_text(tokenizer):
    assert render_modelfile("FROM x.gguf", [SYSTEM, USER]) == USER["content"]


def test_instructions_are_read_in_either_case_and_turns_of_its_own_are_refused(tokenizer):
    text = modelfile("x.gguf", tokenizer)
    lower = re.sub("^(FROM|TEMPLATE|SYSTEM)", lambda m: m[1].lower(), text, flags=re.M)
    assert lower != text and render_modelfile(lower, [USER]) == render_modelfile(text, [USER])
    with pytest.raises(LorakitError, match="MESSAGE"):
        render_modelfile(text + "message user Hello\n", [USER])


def test_neighbours_of_one_role_become_one_turn_as_in_ollama(tokenizer):
    text = modelfile("x.gguf", tokenizer)
    joined = USER | {"content": USER["content"] + "\n\n" + MORE["content"]}
    assert render_modelfile(text, [USER, MORE]) == render_modelfile(text, [joined])


REFERENCE = json.loads((Path(__file__).parent / "reference" / "go_templates.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", REFERENCE["cases"], ids=range(len(REFERENCE["cases"])))
def test_templates_are_rendered_as_gos_text_template_does(case):
    assert parse(case["template"]).execute(REFERENCE["data"][case["data"]]) == case["out"]


@pytest.mark.parametrize("text", ["{{ if .A }}", "{{ end }}", "{{ else }}", "{{ currentDate }}", "{{ printf .A }}", "{{ }}",
                                  "{{ .A | json }}", "{{ template }}", "{{ $x }}", "{{ (.A }}"])  # fmt: skip
def test_what_the_subset_does_not_know_is_refused(text):
    with pytest.raises(LorakitError, match="Ollama template"):
        parse(text).execute({"A": "a"})


@pytest.fixture(scope="module")
def small_gguf(tmp_path_factory):
    """Writes a GGUF without tensors, by the gguf package: template, and pairs of every kind."""
    import gguf

    def write(template, name="x.gguf"):
        path = tmp_path_factory.mktemp("gguf") / name
        writer = gguf.GGUFWriter(path, "llama")
        if template:
            writer.add_chat_template(template)
        writer.add_array("tokenizer.ggml.tokens", ["a", "é", "<|im_end|>"])
        writer.add_array("some.numbers", [1.5, 2.5])
        writer.add_array("some.flags", [True, False, True])
        writer.add_array("nested", [["a"], ["b", "c"]])
        writer.add_float32("rope", 0.5)
        writer.add_uint64("big", 2**40)
        writer.add_bool("tokenizer.ggml.add_bos_token", False)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        return path

    return write


def test_the_header_is_what_the_gguf_package_reads(small_gguf):
    import gguf

    path = small_gguf("{{ 'ü' }}")
    fields = {n: f for n, f in gguf.GGUFReader(path).fields.items() if not n.startswith("GGUF.")}
    header = read_header(path)
    assert header.keys() == fields.keys()
    for name, field in fields.items():
        if field.types[0] != gguf.GGUFValueType.ARRAY:
            assert header[name] == field.contents(), name
    assert (header["tokenizer.ggml.tokens"], header["some.flags"], header["nested"]) == (3, 3, 2)


def test_a_header_cut_off_anywhere_is_said_so(small_gguf, tmp_path):
    whole = small_gguf("{{ x }}").read_bytes()
    for length in range(4, len(whole) - 8, 7):
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(LorakitError, match=r"cut\.gguf"):
            read_header(tmp_path / "cut.gguf")


def test_template_check_finds_the_same_ids(small_gguf, tokenizer):
    text = modelfile("x.gguf", tokenizer)
    found = template_check(small_gguf(tokenizer.chat_template), tokenizer, CHATS.values(), modelfile_text=text)
    assert found.same and str(found) == "the same token ids in 4 of 4 chats: tokenizer, GGUF, Ollama"


def test_template_check_names_the_chat_the_place_and_the_tokens_that_differ(small_gguf, tokenizer):
    found = template_check(small_gguf(find_family("chatml").template), tokenizer, [[SYSTEM, USER], [USER]])
    (odd,) = found.differences
    assert (odd.index, odd.where) == (1, "GGUF") and not found.same
    assert odd.at == 1 and odd.expected.startswith("system") and odd.got.startswith("user")
    assert "other token ids in 1 of 2 chats" in str(found)


def test_template_check_refuses_a_gguf_without_template(small_gguf, tokenizer):
    with pytest.raises(LorakitError, match=TEMPLATE_KEY):
        template_check(small_gguf(""), tokenizer, [[USER]])
    with pytest.raises(LorakitError, match="conversations"):
        template_check(small_gguf("{{ 1 }}"), tokenizer, [])
