"""Recitation: what is counted, what is shown to the model, and that a model which recites is told from one that does not."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.plain_style import load_split, to_conversation
from lorakit_helpers.recitation import FEWEST, GAP, PARTS, SHORTEST, continuations, longest_run, recitation, unpaired_difference

TOKENS = st.lists(st.integers(0, 3), max_size=12)
ROWS = [to_conversation(pair) for pair in load_split("train")[:8]]
UNSEEN = [to_conversation(pair) for pair in load_split("test")[:8]]


@given(TOKENS, TOKENS)
def test_the_longest_run_is_that_of_trying_every_pair_of_places(a, b):
    runs = [
        n for n in range(min(len(a), len(b)) + 1)
        for i in range(len(a) - n + 1) for j in range(len(b) - n + 1) if a[i : i + n] == b[j : j + n]
    ]  # fmt: skip
    assert longest_run(a, b) == max(runs)


def test_a_token_that_fills_a_long_text_is_not_passed_over():
    text = [7] * 300 + list(range(100, 110))
    assert longest_run(text, text) == 310  # difflib's autojunk would drop the 7s


class Parrot(torch.nn.Module):
    """A model that knows some texts by heart: it writes what followed where it has seen the last tokens before, else 0."""

    def __init__(self, texts, known_tokens=6):
        super().__init__()
        self.texts, self.k, self.shown = texts, known_tokens, []
        self.head, self.device = torch.nn.Linear(1, 1), torch.device("cpu")

    def get_output_embeddings(self):
        return self.head

    def generate(self, input_ids, attention_mask, max_new_tokens, **_):
        rows = []
        for ids, mask in zip(input_ids.tolist(), attention_mask.tolist(), strict=True):
            assert mask == sorted(mask)  # padded on the left
            self.shown.append([i for i, used in zip(ids, mask, strict=True) if used])
            tail, more = ids[-self.k :], [0] * max_new_tokens
            for text in self.texts:
                places = [p for p in range(len(text) - self.k) if text[p : p + self.k] == tail]
                if places:
                    found = text[places[0] + self.k :][:max_new_tokens]
                    more = found + [0] * (max_new_tokens - len(found))
            rows.append(ids + more)
        return torch.tensor(rows)


def answer_ids(tokenizer, rows):
    return [tokenizer(r["completion"][0]["content"], add_special_tokens=False)["input_ids"] for r in rows]


@pytest.mark.parametrize("part", ["answer", "answer alone"])
def test_a_parrot_of_the_training_answers_recites_and_is_not_fooled_by_batches(tokenizer, part):
    model = Parrot(answer_ids(tokenizer, ROWS))
    found = [recitation(model, tokenizer, ROWS, UNSEEN, part=part, batch_size=n) for n in (1, 3, 16)]
    assert found[0].recites and found[0].seen_share.value == 1.0 and found[0].unseen_share.value < 0.2
    assert all(f.to_dict() == found[0].to_dict() for f in found)
    assert str(found[0]).startswith("Recites")
    assert found[0].longest.run == max(len(ids) - len(ids) // 2 for ids in answer_ids(tokenizer, ROWS))


def test_a_parrot_that_knows_both_groups_does_not_count_as_reciting_its_training_rows(tokenizer):
    found = recitation(Parrot(answer_ids(tokenizer, ROWS + UNSEEN)), tokenizer, ROWS, UNSEEN)
    assert found.seen_share.value == found.unseen_share.value == 1.0
    assert not found.recites and str(found).startswith("No sign")


def test_a_handful_of_rows_gives_no_verdict(tokenizer):
    found = recitation(Parrot(answer_ids(tokenizer, ROWS)), tokenizer, ROWS[: FEWEST - 1], UNSEEN)
    assert found.gap > 0.5 and found.low > 0 and not found.recites and str(found).startswith("Too few rows to tell")


def test_each_part_shows_what_it_says_and_never_what_should_follow(tokenizer):
    row = ROWS[0]
    question, answer = row["prompt"][-1]["content"], row["completion"][0]["content"]
    shown = {}
    for part in PARTS:
        model = Parrot([])
        continuations(model, tokenizer, [row], part=part)
        shown[part] = tokenizer.decode(model.shown[0])
    assert question in shown["answer"] and answer[:40] in shown["answer"] and answer not in shown["answer"]
    assert question not in shown["answer alone"] and answer[:40] in shown["answer alone"]
    assert question[:40] in shown["question"] and question not in shown["question"] and answer[:40] not in shown["question"]
    assert not shown["question"].endswith("<|im_end|>\n")


def test_texts_that_are_too_short_are_left_out_and_none_at_all_is_an_error(tokenizer):
    short = {"prompt": ROWS[0]["prompt"], "completion": [{"role": "assistant", "content": "Yes. " * (SHORTEST // 4)}]}
    assert len(continuations(Parrot([]), tokenizer, [short, ROWS[0]], part="answer")) == 1
    with pytest.raises(LorakitError, match="unseen rows"):
        recitation(Parrot([]), tokenizer, ROWS, [short])
    with pytest.raises(LorakitError, match="'aswer'"):
        recitation(Parrot([]), tokenizer, ROWS, UNSEEN, part="aswer")


def test_padding_side_mode_and_hooks_are_as_before_even_after_an_error(tokenizer):
    model = Parrot([]).train()
    model.generate = lambda **_: (_ for _ in ()).throw(RuntimeError("out of memory"))
    side = tokenizer.padding_side
    with pytest.raises(RuntimeError):
        continuations(model, tokenizer, ROWS, part="answer")
    assert model.training and tokenizer.padding_side == side and not model.head._forward_pre_hooks


def test_the_unpaired_interval_covers_the_true_gap_about_nineteen_times_in_twenty():
    rng = np.random.default_rng(2)
    covered = []
    for _ in range(200):
        _, low, high = unpaired_difference(rng.beta(2, 3, 30), rng.beta(1, 4, 40))
        covered.append(low <= 0.2 <= high)
    assert 0.9 <= np.mean(covered) <= 0.99


def test_a_gap_by_chance_is_no_recitation():
    noisy = unpaired_difference([1.0, 0.0, 0.0], [0.0, 0.1, 0.0])
    assert noisy[0] > GAP and noisy[1] <= 0
