"""Lesson 06: exercises against the tokenizer itself, the picture of prompt templates, and families with training variants."""

import itertools
import re

import numpy as np
import pytest

from lorakit_helpers.data import length_stats, pack_first_fit
from lorakit_helpers.evaluation import mean_metric
from lorakit_helpers.exercises import EXERCISES
from lorakit_helpers.plots.templates import describe_by_template, plot_by_template
from lorakit_helpers.templates import FAMILIES, injected_tokens, tokenize_row, tokens_html

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is A-1?"},
    {"role": "assistant", "content": "On its way 🎈."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "Any time!"},
]


def reference(identifier):
    return EXERCISES[identifier].reference


def test_chatml_by_hand_is_the_tokenizers_own(tokenizer):
    for messages, prompt in ((CHAT, False), (CHAT[:2], True), (CHAT[:4], True)):
        wanted = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
        assert reference("6.1")(messages, prompt) == wanted


def test_answers_only_is_the_mask_by_prefix_difference(tokenizer):
    row = tokenize_row({"messages": CHAT}, tokenizer, assistant_only_loss=True)
    header = tokenizer("<|im_start|>assistant\n", add_special_tokens=False)["input_ids"]
    assert reference("6.2")(list(row.ids), header, tokenizer.eos_token_id) == list(row.labels)


def test_packing_by_hand_needs_as_many_sequences_as_the_package():
    rng = np.random.default_rng(0)
    for room in (10, 64):
        for _ in range(20):
            lengths = rng.integers(1, room + 1, 15).tolist()
            assert reference("6.3")(lengths, room) == len(pack_first_fit(lengths, room))


def test_smallest_max_length_is_the_percentile_of_the_lengths():
    lengths = np.random.default_rng(1).integers(20, 300, 321).tolist()
    stats = length_stats(lengths)
    assert [reference("6.4")(lengths, share) for share in (0.5, 0.9, 0.99, 1.0)] == [
        stats.p50, stats.p90, stats.p99, stats.longest,
    ]  # fmt: skip


def test_no_control_token_survives_any_weaving(tokenizer):
    marks = ["<|im_start|>", "<|im_end|>"]
    for outer, inner in itertools.product(marks, repeat=2):
        for cut in range(1, len(outer)):
            safe = reference("6.5")(f"a{outer[:cut]}{inner}{outer[cut:]}b", marks)
            assert safe[0] == "a" and safe[-1] == "b" and not any(mark in safe for mark in marks)
            assert injected_tokens([{"role": "user", "content": safe}], tokenizer) == ()


def test_bars_of_templates_are_the_metrics_and_the_sentence_says_them():
    scores = {
        name: {"exact match": mean_metric("exact match", np.array([1.0] * n + [0.0] * (8 - n))),
               "valid JSON": mean_metric("valid JSON", np.ones(8))}
        for name, n in (("own", 6), ("other", 0))
    }  # fmt: skip
    ax = plot_by_template(scores)
    drawn = [[bar.get_width() for bar in container] for container in ax.containers if hasattr(container, "patches")]
    assert drawn == [[75, 0], [100, 100]]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["own", "other"] and "8 tickets (%)" in ax.get_xlabel()
    assert "own: exact match 75%, valid JSON 100%; other: exact match 0%" in describe_by_template(scores)


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_a_training_template_is_what_trl_takes_and_has_marks(family, tokenizer, monkeypatch):
    from trl.chat_template_utils import get_training_chat_template

    monkeypatch.setattr(tokenizer, "chat_template", family.template)
    if family.training_template is None:
        with pytest.raises(ValueError):
            get_training_chat_template(tokenizer)
    else:
        assert family.training_template == (get_training_chat_template(tokenizer) or family.template)
        assert re.search(r"\{%-? generation -?%\}", family.training_template)


def test_a_long_line_of_tokens_may_break_between_any_two(tokenizer):
    row = tokenize_row({"messages": CHAT}, tokenizer)
    assert tokens_html(row).count("</span><wbr><span ") == len(row.ids) - 1
