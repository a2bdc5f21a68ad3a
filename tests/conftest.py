"""Shared pieces of the tests: the real base model, and a tiny Llama with the real tokenizer for quick training."""

import os

import pytest

from lorakit_helpers.start import start

start("smoke")  # before anything imports torch
os.environ["LORAKIT_PROGRESS"] = "off"  # nobody answers the exercises here


@pytest.fixture(scope="session")
def base():
    """The verified base model's folder."""
    from lorakit_helpers.models import base_model

    return base_model(log=lambda line: None).path


@pytest.fixture(scope="session")
def tokenizer(base):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


@pytest.fixture(scope="session")
def tiny(base, tokenizer, tmp_path_factory):
    """A folder with a random two-layer Llama (hidden size 128) and the real tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def train_rows():
    from lorakit_helpers.tickets import load_split

    return load_split("train")


@pytest.fixture(scope="session")
def browser():
    """Chromium, one for all tests: playwright's synchronous interface starts only once in a process."""
    pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    from test_browser import CHROMIUM, chromium_browser

    if CHROMIUM is None:
        pytest.skip("no Chromium: install your system's package `chromium`")
    with chromium_browser() as chromium:
        yield chromium
