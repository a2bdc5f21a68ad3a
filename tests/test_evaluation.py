"""Scores equal sklearn's and numpy's, intervals hold their value, and the verdict is honest."""

import contextlib
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import beta
from sklearn.metrics import accuracy_score, f1_score

from lorakit_helpers import evaluation
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.evaluation import (
    CompletionLoss,
    Difference,
    TicketScores,
    _f1_of_rows,
    before_after_table,
    compare,
    evaluate_tickets,
    paired_difference,
    score_tickets,
    verdict,
)
from lorakit_helpers.tickets import INTENTS, KEYS, URGENCIES, Ticket, load_split, to_conversation

WRONG = "I would rather chat."


def make(rng, n) -> list[Ticket]:
    pick = {"order_id": ["A-1", "B-2", None], "customer": ["Ann", "Bo", None], "product": ["lamp", "chair"],
            "intent": INTENTS, "urgency": URGENCIES}  # fmt: skip
    rows = [{key: values[rng.integers(len(values))] for key, values in pick.items()} for _ in range(n)]
    return [Ticket(f"t{i}", "text", right) for i, right in enumerate(rows)]


def write_outputs(rng, tickets, p_invalid=0.2, p_noise=0.3) -> list[str]:
    """Answers of which some are not JSON, some have a key too many, and some have wrong values."""
    other, outputs = make(rng, len(tickets)), []
    for ticket, noise in zip(tickets, other, strict=True):
        said = {key: (noise if rng.random() < p_noise else ticket).answer[key] for key in KEYS}
        fault = rng.random()
        if fault < p_invalid / 2:
            outputs.append(WRONG)
        elif fault < p_invalid:
            outputs.append(json.dumps(said | {"note": "x"}))
        else:
            outputs.append(json.dumps(said))
    return outputs


def said(text):
    """What a plain reader makes of an output: the object if it has exactly the five keys, else None."""
    value = None if text == WRONG else json.loads(text)
    return value if value and set(value) == set(KEYS) else None


def plain_f1(truth, guess):
    scores = []
    for label in set(truth):
        pairs = list(zip(truth, guess, strict=True))
        tp = sum(t == label and g == label for t, g in pairs)
        fp = sum(t != label and g == label for t, g in pairs)
        fn = sum(t == label and g != label for t, g in pairs)
        scores.append(2 * tp / (2 * tp + fp + fn))
    return sum(scores) / len(scores)


def scores_with(right) -> TicketScores:
    """Scores whose exact match follows the list of 0 and 1."""
    tickets = make(np.random.default_rng(0), len(right))
    return score_tickets([json.dumps(t.answer) if ok else WRONG for t, ok in zip(tickets, right, strict=True)], tickets)


@pytest.mark.parametrize("seed", range(6))
def test_metrics_equal_sklearn_and_plain_counting(seed):
    rng = np.random.default_rng(seed)
    tickets = make(rng, int(rng.integers(2, 60)))
    outputs = write_outputs(rng, tickets)
    metrics = score_tickets(outputs, tickets).metrics
    read = [said(text) for text in outputs]
    assert metrics["valid JSON"].value == pytest.approx(np.mean([r is not None for r in read]))
    assert metrics["exact match"].value == pytest.approx(np.mean([r == t.answer for r, t in zip(read, tickets, strict=True)]))
    assert metrics["extra keys"].value == pytest.approx(np.mean(["note" in text for text in outputs]))
    for key in KEYS:
        truth = [str(t.answer[key]) for t in tickets]
        guess = [str(r[key]) if r else "(none)" for r in read]
        assert metrics[f"{key} accuracy"].value == pytest.approx(accuracy_score(truth, guess))
        if key in ("intent", "urgency"):
            assert metrics[f"{key} F1"].value == pytest.approx(plain_f1(truth, guess))
            oracle = f1_score(truth, guess, labels=sorted(set(truth)), average="macro", zero_division=0)
            assert metrics[f"{key} F1"].value == pytest.approx(oracle)
    assert all(metric.n == len(tickets) for metric in metrics.values())


@pytest.mark.parametrize("seed", range(6))
def test_f1_of_resamples_is_scikit_learns_of_each(seed):
    rng = np.random.default_rng(seed)
    labels = list(range(int(rng.integers(1, 6))))
    truth = rng.choice(labels, 40)
    guess = rng.choice([-1, *labels], 40)  # -1: a label that is none of them
    rows = rng.integers(0, 40, (50, int(rng.integers(1, 41))))
    oracle = [f1_score(truth[r], guess[r], labels=labels, average="macro", zero_division=0) for r in rows]
    assert _f1_of_rows(truth, guess, len(labels), rows) == pytest.approx(np.array(oracle))


@pytest.mark.parametrize("seed", range(6))
def test_interval_brackets_its_value_and_stays_in_the_unit_range(seed):
    rng = np.random.default_rng(100 + seed)
    tickets = make(rng, int(rng.integers(2, 40)))
    for metric in score_tickets(write_outputs(rng, tickets), tickets).metrics.values():
        assert 0 <= metric.low <= metric.value <= metric.high <= 1, metric


def test_proportions_interval_has_the_bootstraps_width():
    values = np.arange(100) < 70
    metric = scores_with(values).metrics["exact match"]
    normal = 1.96 * math.sqrt(0.7 * 0.3 / 100)  # the resampled mean is near normal at n = 100
    assert metric.low == pytest.approx(0.7 - normal, abs=0.02) and metric.high == pytest.approx(0.7 + normal, abs=0.02)
    rng = np.random.default_rng(9)
    draws = rng.choice(values, size=(4000, 100)).mean(axis=1)
    assert (metric.low, metric.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.02)


@pytest.mark.parametrize("n", [1, 8, 150])
@pytest.mark.parametrize("right", [False, True])
def test_all_alike_still_has_an_interval_of_some_width(n, right):
    metric = scores_with([right] * n).metrics["exact match"]
    bound = beta.ppf(0.025, n, 1) if right else beta.ppf(0.975, 1, n)  # Clopper-Pearson from the beta distribution
    assert metric.value == float(right)
    assert (metric.low, metric.high) == pytest.approx((bound, 1.0) if right else (0.0, bound))
    assert metric.high - metric.low > 0.02


@pytest.mark.parametrize("right", [False, True])
def test_f1_of_all_alike_still_has_an_interval_of_some_width(right):
    metric = scores_with([right] * 150).metrics["intent F1"]
    assert metric.high - metric.low > 0


def test_same_outputs_give_the_same_intervals_again():
    right = np.random.default_rng(3).random(30) < 0.5
    assert scores_with(right).to_dict() == scores_with(right).to_dict()


def test_invalid_output_gets_no_field_right_and_its_reason_is_kept():
    ticket = make(np.random.default_rng(0), 1)[0]
    outputs = [json.dumps(ticket.answer | {"note": "x"}), WRONG, json.dumps(ticket.answer)]
    scores = score_tickets(outputs, [ticket] * 3)
    assert all(scores.correct[f"{key} accuracy"].tolist() == [0, 0, 1] for key in KEYS)
    assert scores.reasons[0].startswith("extra key") and scores.reasons[1].startswith("not JSON") and scores.reasons[2] == ""
    assert scores.outputs == tuple(outputs)


@pytest.mark.parametrize(("outputs", "tickets"), [(1, 2), (2, 1), (0, 0)])
def test_unequal_or_empty_lists_are_refused_with_both_lengths(outputs, tickets):
    rows = make(np.random.default_rng(0), tickets)
    with pytest.raises(LorakitError, match=f"{outputs} outputs for {tickets} tickets"):
        score_tickets([WRONG] * outputs, rows)


def test_scores_survive_json_and_print_one_metric_per_line():
    scores = scores_with([1, 0, 1])
    assert json.loads(json.dumps(scores.to_dict())) == scores.to_dict()
    assert len(str(scores).splitlines()) == len(scores.metrics) == 3 + len(KEYS) + 2


def test_evaluation_asks_with_the_given_prompt_and_keeps_the_order(monkeypatch):
    tickets = make(np.random.default_rng(1), 5)
    asked = []

    def fake(model, tokenizer, chats, **options):
        asked.extend(chats)
        return [json.dumps(t.answer) for t in tickets]

    monkeypatch.setattr(evaluation, "generate", fake)
    scores = evaluate_tickets(None, None, tickets, system_prompt="Only JSON.")
    assert [chat[0]["content"] for chat in asked] == ["Only JSON."] * 5
    assert scores.metrics["exact match"].value == 1.0 and scores.seconds >= 0


@pytest.mark.parametrize("seed", range(5))
def test_paired_difference_is_the_mean_of_after_minus_before(seed):
    rng = np.random.default_rng(seed)
    tickets = make(rng, 40)
    before = score_tickets(write_outputs(rng, tickets, 0.5), tickets)
    after = score_tickets(write_outputs(rng, tickets, 0.1), tickets)
    for metric in before.correct:
        a, b = before.correct[metric], after.correct[metric]
        d = compare(before, after, metric)
        assert d.difference == pytest.approx(np.mean(b - a)) == pytest.approx(d.after - d.before)
        assert d.low <= d.difference <= d.high and d.n == 40
        won, lost = int(np.sum(b > a)), int(np.sum(b < a))
        tail = sum(math.comb(won + lost, k) for k in range(max(won, lost), won + lost + 1)) / 2 ** (won + lost)
        assert d.p_value == pytest.approx(min(1.0, 2 * tail))  # exact McNemar test, written out


def test_pairing_narrows_the_interval_of_models_that_agree():
    right = np.random.default_rng(5).random(100) < 0.5
    better = right.copy()
    better[np.flatnonzero(~right)[:8]] = True
    before, after = scores_with(right), scores_with(better)
    paired = compare(before, after)
    unpaired = 1.96 * math.sqrt(right.var() / 100 + better.var() / 100)
    assert paired.high - paired.low < unpaired


def test_equal_models_show_no_evidence():
    scores = scores_with(np.random.default_rng(2).random(50) < 0.6)
    assert verdict(compare(scores, scores)).startswith("No evidence of improvement")


@pytest.mark.parametrize("n", [1, 3, 5])
def test_tiny_n_shows_no_evidence_even_when_every_ticket_improved(n):
    assert verdict(compare(scores_with([0] * n), scores_with([1] * n))).startswith("No evidence of improvement")


@pytest.mark.parametrize("n", [1, 5, 8, 48])
def test_rows_that_all_change_alike_leave_an_interval_with_a_width(n):
    sure = 0.025 ** (1 / n)  # the smallest share of which n rows out of n are not yet a surprise
    gain, none = compare(scores_with([0] * n), scores_with([1] * n)), compare(scores_with([1] * n), scores_with([1] * n))
    assert (gain.low, gain.high) == pytest.approx((2 * sure - 1, 1))
    assert (none.low, none.high) == pytest.approx((sure - 1, 1 - sure))
    lost = compare(scores_with([1] * n), scores_with([0] * n))
    assert (lost.low, lost.high) == pytest.approx((-gain.high, -gain.low))


def test_the_verdict_says_why_a_clear_looking_difference_is_no_evidence():
    few, enough = (verdict(paired_difference("exact match", [0] * n, [1] * n)) for n in (5, 6))
    assert "at best p would be 0.062" in few and enough.startswith("Better") and "would be" not in enough
    mixed = paired_difference("loss", [1.0] * 8, [0.5] * 6 + [1.1] * 2, unit="nats per token", lower_is_better=True)
    assert mixed.high < 0 and mixed.p_value > 0.05 and "one side of zero" in verdict(mixed)
    little = paired_difference("fields right", [0.2] * 10, [0.4] * 10)
    assert little.p_value < 0.05 and "the interval holds zero" in verdict(little)


def test_an_interval_holds_its_figure_whatever_the_rounding_and_the_range():
    nearly = paired_difference("share", [0.1, 0.2, 0.3] * 8, [0.3, 0.4, 0.5] * 8)
    assert nearly.low < 0.2 < nearly.high and nearly.high - nearly.low > 0.1
    beyond = paired_difference("points", [1.0] * 8, [3.0] * 8)
    assert beyond.low == beyond.difference == beyond.high == 2


def test_noise_both_ways_shows_no_evidence():
    before, after = np.tile([1, 0, 1, 0], 20), np.tile([0, 1, 1, 0], 20)
    assert verdict(compare(scores_with(before), scores_with(after))).startswith("No evidence of improvement")


def test_clear_gain_is_better_and_the_reverse_is_worse():
    low, high = scores_with([0] * 30 + [1] * 20), scores_with([0] * 5 + [1] * 45)
    assert verdict(compare(low, high)).startswith("Better:")
    assert verdict(compare(high, low)).startswith("Worse:")
    forth, back = compare(low, high), compare(high, low)
    assert forth.difference == -back.difference and forth.p_value == back.p_value


def test_more_extra_keys_are_not_better():
    tickets = make(np.random.default_rng(0), 30)
    clean = score_tickets([json.dumps(t.answer) for t in tickets], tickets)
    chatty = score_tickets([json.dumps(t.answer | {"note": "x"}) for t in tickets], tickets)
    assert not verdict(compare(clean, chatty, "extra keys")).startswith("Better")


@pytest.mark.parametrize(("low", "p"), [(0.01, 0.2), (-0.01, 0.01)])
def test_better_needs_both_the_interval_and_the_p_value(low, p):
    assert verdict(Difference("exact match", 0.5, 0.6, 0.1, low, 0.2, p, 50)).startswith("No evidence")
    assert verdict(Difference("exact match", 0.6, 0.5, -0.1, -0.2, -low, p, 50)).startswith("No evidence")


def test_verdict_carries_figures_tickets_and_p_value():
    text = verdict(compare(scores_with([0] * 40), scores_with([1] * 30 + [0] * 10)))
    assert "0.0% -> 75.0%" in text and "+75.0 points" in text and "40 rows" in text and "p = " in text


def test_unknown_metric_is_named_with_the_known_ones():
    scores = scores_with([0, 1])
    with pytest.raises(LorakitError) as caught:
        compare(scores, scores, "intent F1")
    assert "'intent F1'" in str(caught.value) and all(name in str(caught.value) for name in scores.correct)


def test_different_numbers_of_tickets_are_not_compared():
    with pytest.raises(LorakitError, match="2 and 3 rows"):
        compare(scores_with([0, 1]), scores_with([0, 1, 1]))


def test_table_has_a_row_for_each_metric_and_a_difference_where_it_is_paired():
    before, after = scores_with([0, 0, 1, 0]), scores_with([1, 1, 1, 0])
    rows = [line.strip("|").split("|") for line in before_after_table(before, after).splitlines()[2:]]
    assert [row[0].strip() for row in rows] == list(before.metrics)
    cells = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    assert cells["exact match"][0].startswith("25.0%") and cells["exact match"][1].startswith("75.0%")
    assert cells["exact match"][2].startswith("+50.0")
    assert cells["intent F1"][2] == "–"


def test_perplexity_is_e_to_the_loss():
    loss = CompletionLoss(0.7, 10, np.array([0.7]))
    assert loss.perplexity == pytest.approx(math.e**0.7)
    assert "nats per answer token" in str(loss) and "10 tokens" in str(loss)


def test_completion_loss_is_that_of_transformers_row_by_row_whatever_the_batch(tiny):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lorakit_helpers.evaluation import completion_loss

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny).eval(), AutoTokenizer.from_pretrained(tiny)
    rows = [to_conversation(t) for t in load_split("validation")[:7]]
    want, tokens = [], []
    for row in rows:
        text = tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False).removesuffix("\n")
        start = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        ids, skip = tokenizer(text, return_tensors="pt")["input_ids"], len(tokenizer(start)["input_ids"])
        labels = torch.cat([torch.full((1, skip), -100), ids[:, skip:]], 1)
        want.append(model(input_ids=ids, labels=labels).loss.item())
        tokens.append(ids.shape[1] - skip)
    for batch_size in (1, 4):
        got = completion_loss(model, tokenizer, rows, batch_size=batch_size)
        assert got.per_row == pytest.approx(want, rel=1e-4) and got.tokens == sum(tokens)
        assert got.loss == pytest.approx(np.average(want, weights=tokens), rel=1e-4)


def test_prompts_rendered_another_way_are_what_the_model_reads_and_the_answer_stays_the_same(tiny, monkeypatch):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lorakit_helpers.evaluation import completion_loss, generate

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny).eval(), AutoTokenizer.from_pretrained(tiny)
    rows = [to_conversation(t) for t in load_split("validation")[:3]]

    def shout(chat):
        return "ASKED: " + chat[-1]["content"]

    want = []
    for row in rows:
        prompt, answer = (tokenizer(t)["input_ids"] for t in (shout(row["prompt"]), row["completion"][0]["content"]))
        ids = torch.tensor([[*prompt, *answer, tokenizer.eos_token_id]])
        want.append(model(input_ids=ids, labels=ids.masked_fill(torch.arange(ids.shape[1]) < len(prompt), -100)).loss.item())
    assert completion_loss(model, tokenizer, rows, render=shout).per_row == pytest.approx(want, rel=1e-4)
    read = []
    monkeypatch.setattr(model, "generate", lambda **batch: read.extend(batch["input_ids"]) or batch["input_ids"])
    generate(model, tokenizer, [row["prompt"] for row in rows], batch_size=1, render=shout)
    assert sorted(tokenizer.batch_decode(read)) == sorted(shout(row["prompt"]) for row in rows)


def test_a_paired_loss_that_fell_is_better_and_one_that_rose_is_worse():
    rng = np.random.default_rng(0)
    before = rng.uniform(1, 2, 40)
    after = before - rng.uniform(0.1, 0.2, 40)
    options = {"unit": "nats per token", "lower_is_better": True}
    assert verdict(paired_difference("loss", before, after, **options)).startswith("Better: loss: ")
    assert verdict(paired_difference("loss", after, before, **options)).startswith("Worse:")
    assert "nats per token" in str(paired_difference("loss", before, after, **options))


def test_generation_of_nothing_asks_no_model():
    from lorakit_helpers.evaluation import generate

    model = SimpleNamespace(training=True, eval=lambda: None, train=lambda mode: None)
    assert generate(model, SimpleNamespace(padding_side="right"), []) == []


@pytest.mark.parametrize("broken", [False, True])
def test_generation_hands_the_output_layer_whole_rows_and_leaves_no_hook(tiny, broken, monkeypatch):
    """A strided view there makes torch copy the layer's weight once per prompt."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lorakit_helpers.evaluation import generate

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny).train(), AutoTokenizer.from_pretrained(tiny)
    layer, seen = model.get_output_embeddings(), []
    monkeypatch.setattr(layer, "forward", lambda x, forward=layer.forward: seen.append(x.is_contiguous()) or forward(x))
    if broken:
        real = model.generate
        monkeypatch.setattr(model, "generate", lambda **given: [real(**given), 1 / 0])
    chats = [[{"role": "user", "content": text}] for text in ("one", "two of them", "three")]
    with pytest.raises(ZeroDivisionError) if broken else contextlib.nullcontext():
        assert len(generate(model, tokenizer, chats, max_new_tokens=3)) == 3
    assert seen and all(seen)
    assert not layer._forward_pre_hooks and model.training


def test_prompts_continued_together_read_as_each_does_alone_with_its_own_limit(tiny):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from lorakit_helpers.evaluation import generate_ids

    model, tokenizer = AutoModelForCausalLM.from_pretrained(tiny).eval(), AutoTokenizer.from_pretrained(tiny)
    prompts = tokenizer(["one", "two of them, and a few more", "three", "forty winks"])["input_ids"]
    limits = [7, 2, 5, 9]

    def alone(end):
        options = {"do_sample": False, "eos_token_id": end, "pad_token_id": tokenizer.pad_token_id}
        return [
            model.generate(input_ids=torch.tensor([ids]), max_new_tokens=n, **options)[0, len(ids) :].tolist()
            for ids, n in zip(prompts, limits, strict=True)
        ]

    free = alone(None)
    end = next(ids for ids in free if len(set(ids)) > 1)[1]  # a token that some answer has before its limit
    tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end)
    want = alone(end)
    assert want != free
    for batch_size in (1, 3, 4):
        assert generate_ids(model, tokenizer, prompts, limits, batch_size=batch_size) == want
    assert generate_ids(model, tokenizer, prompts, 2) == [ids[:2] for ids in want]
