"""Measure a model on the tickets: batched greedy generation, metrics with intervals, and a paired verdict."""

import time
from dataclasses import asdict, dataclass, field
from functools import partial

import numpy as np

from .errors import LorakitError
from .tickets import KEYS, SYSTEM_PROMPT, Ticket, parse_answer, to_messages

__all__ = [
    "CompletionLoss", "Difference", "Metric", "TicketScores", "before_after_table", "check_one_each", "compare",
    "completion_loss", "evaluate_tickets", "generate", "generate_ids", "mean_metric", "paired_difference", "score_tickets",
    "verdict",
]  # fmt: skip

CONFIDENCE = 0.95
RESAMPLES = 2000
MAX_NEW_TOKENS = 96


def generate(
    model, tokenizer, conversations, *, batch_size=25, max_new_tokens=MAX_NEW_TOKENS, render=None, progress=None
) -> list[str]:  # fmt: skip
    """Answer chats greedily, many at a time.

    Prompts are sorted by length, so that a batch carries little padding, and padded on the left, so that every
    row continues at its own last token. Greedy search makes the result repeatable; a different batch size can
    still change a near-tie, because floating-point sums are then made in another order.

    Args:
        conversations: lists of ``{"role", "content"}`` messages, ending with the user's turn.
        batch_size: chats answered at once.
        max_new_tokens: longest answer in tokens.
        render: from a chat to the prompt's text; None is the tokenizer's own template with its generation prompt.
        progress: called with (done, total) after each batch.

    Returns:
        One text per chat, in the order given, without special tokens.
    """
    prompts = [render(c) if render else _prompt_text(tokenizer, c) for c in conversations]
    if not prompts:
        return []
    ids = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    written = generate_ids(model, tokenizer, ids, max_new_tokens, batch_size=batch_size, progress=progress)
    return tokenizer.batch_decode(written, skip_special_tokens=True)


def generate_ids(
    model, tokenizer, prompts: list[list[int]], max_new_tokens: int | list[int], *, batch_size: int = 25, progress=None
) -> list[list[int]]:
    """Continue prompts of token ids greedily, many at a time; :func:`generate` for chats.

    Args:
        prompts: token ids of every prompt, of any lengths.
        max_new_tokens: longest continuation in tokens: one for all, or one per prompt.
        batch_size, progress: as for :func:`generate`.

    Returns:
        The new ids per prompt, in the order given, the end token included where it came.
    """
    import torch

    limits = [max_new_tokens] * len(prompts) if isinstance(max_new_tokens, int) else max_new_tokens
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]) + limits[i], reverse=True)
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id
    found, training = [[]] * len(prompts), model.training
    model.eval()
    # The last position of every prompt is a strided view; a product with it would copy the output layer once per row
    # (1.4 GB for 25 rows of the small model, a third of the prompt's time).
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(), *inputs[1:]))
    try:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch = tokenizer.pad({"input_ids": [prompts[i] for i in rows]}, padding_side="left", return_tensors="pt")
            with torch.inference_mode():
                out = model.generate(
                    **batch.to(model.device), max_new_tokens=max(limits[i] for i in rows), do_sample=False, use_cache=True,
                    pad_token_id=pad, eos_token_id=end,
                )  # fmt: skip
            for i, new in zip(rows, out[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
                new = new[: limits[i]]
                found[i] = new[: new.index(end) + 1] if end in new else new
            if progress:
                progress(min(start + batch_size, len(order)), len(order))
    finally:
        hook.remove()
        model.train(training)
    return found


@dataclass(frozen=True)
class Metric:
    """One figure with its 95 % interval.

    Attributes:
        name: for example ``"exact match"``.
        value: the figure; a share from 0 to 1 unless it has a unit.
        low, high: the interval's ends.
        n: rows (tickets, pairs) it was measured on.
        method: how the interval was made.
        unit: what a figure that is no share counts, for example ``"per 100 words"``.
    """

    name: str
    value: float
    low: float
    high: float
    n: int
    method: str
    unit: str = ""

    def __str__(self):
        if self.unit:
            return f"{self.name} {self.value:.1f} {self.unit} [{self.low:.1f}, {self.high:.1f}]"
        return f"{self.name} {self.value:.1%} [{self.low:.1%}, {self.high:.1%}]"

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class TicketScores:
    """How well one model answered one set of tickets.

    Attributes:
        metrics: by name: ``valid JSON``, ``exact match``, ``extra keys``, ``<field> accuracy`` for each of the
            five fields, ``intent F1`` and ``urgency F1`` (macro).
        outputs: what the model wrote, one text per ticket.
        reasons: why an output is not valid, ``""`` where it is.
        correct: per-ticket arrays of 0 and 1, by metric name, for paired comparison.
        seconds: generation time, or None.
    """

    metrics: dict[str, Metric]
    outputs: tuple[str, ...]
    reasons: tuple[str, ...]
    correct: dict[str, np.ndarray] = field(repr=False)
    seconds: float | None = None

    def __str__(self):
        return "\n".join(str(metric) for metric in self.metrics.values())

    def to_dict(self) -> dict:
        return {
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "outputs": list(self.outputs), "reasons": list(self.reasons), "seconds": self.seconds,
        }  # fmt: skip


def evaluate_tickets(
    model, tokenizer, tickets: list[Ticket], *, system_prompt=SYSTEM_PROMPT, batch_size=25, max_new_tokens=MAX_NEW_TOKENS,
    progress=None,
) -> TicketScores:  # fmt: skip
    """Generate an answer for every ticket and score it strictly; the options are those of :func:`generate`."""
    start = time.perf_counter()
    chats = [to_messages(ticket.ticket, system_prompt) for ticket in tickets]
    outputs = generate(
        model, tokenizer, chats, batch_size=batch_size, max_new_tokens=max_new_tokens, progress=progress
    )  # fmt: skip
    return score_tickets(outputs, tickets, seconds=time.perf_counter() - start)


def score_tickets(outputs: list[str], tickets: list[Ticket], *, seconds: float | None = None) -> TicketScores:
    """Score texts against the tickets' answers.

    An output that is not valid (see :func:`lorakit_helpers.tickets.parse_answer`) gets no field right.

    Raises:
        LorakitError: when the two lists differ in length or are empty.
    """
    check_one_each(outputs, tickets, "ticket")
    parsed = [parse_answer(text) for text in outputs]
    answers, reasons = [a for a, _ in parsed], tuple(reason for _, reason in parsed)
    correct = {
        "valid JSON": np.array([a is not None for a in answers], dtype=float),
        "exact match": np.array([a == t.answer for a, t in zip(answers, tickets, strict=True)], dtype=float),
        "extra keys": np.array([reason.startswith("extra key") for reason in reasons], dtype=float),
    }
    for key in KEYS:
        right = [a is not None and a[key] == t.answer[key] for a, t in zip(answers, tickets, strict=True)]
        correct[f"{key} accuracy"] = np.array(right, dtype=float)
    metrics = {name: mean_metric(name, values) for name, values in correct.items()}
    for key in ("intent", "urgency"):
        truth = np.array([t.answer[key] for t in tickets])
        guess = np.array([a[key] if a else "(invalid)" for a in answers])
        metrics[f"{key} F1"] = _macro_f1(f"{key} F1", truth, guess)
    return TicketScores(metrics, tuple(outputs), reasons, correct, seconds)


def check_one_each(outputs: list[str], rows: list, noun: str) -> None:
    """Raise a LorakitError unless there is one output for each row, and at least one; ``noun`` is what a row is called."""
    if len(outputs) != len(rows) or not rows:
        raise LorakitError(
            f"outputs and {noun}s", got=f"{len(outputs)} outputs for {len(rows)} {noun}s",
            expected=f"one output per {noun}, at least one", do="Score the outputs of the same split, in its order.",
        )  # fmt: skip


def _bootstrap(data, statistic, **options):
    from scipy.stats import bootstrap

    options = {"n_resamples": RESAMPLES, "confidence_level": CONFIDENCE, "method": "percentile"} | options
    done = bootstrap(data, statistic, rng=np.random.default_rng(0), **options)
    return float(done.confidence_interval.low), float(done.confidence_interval.high)


def mean_metric(name: str, values: np.ndarray, *, unit: str = "") -> Metric:
    """The mean of one figure per row with its bootstrap interval.

    Args:
        name: of the metric.
        values: one figure per row; shares (0 to 1) when there is no unit.
        unit: see :class:`Metric`.

    Example:
        >>> print(mean_metric("exact match", np.array([1.0, 1.0])))
        exact match 100.0% [15.8%, 100.0%]
    """
    n, mean = len(values), float(values.mean())
    if not unit and mean in (0.0, 1.0):
        return _all_alike(name, mean, n)
    low = high = mean
    if np.ptp(values) > 0:
        low, high = _bootstrap((values,), np.mean)
    return Metric(name, mean, low, high, n, "bootstrap, percentile", unit)


def _all_alike(name: str, share: float, n: int) -> Metric:
    """Resampling n zeros gives n zeros: the bootstrap's interval would have no width."""
    from scipy.stats import binomtest

    low, high = binomtest(round(share * n), n).proportion_ci(CONFIDENCE, method="exact")
    return Metric(name, share, float(low), float(high), n, "Clopper-Pearson (all alike)")


def _macro_f1(name: str, truth: np.ndarray, guess: np.ndarray) -> Metric:
    from sklearn.metrics import f1_score

    labels, truth_codes = np.unique(truth, return_inverse=True)
    guess_codes = np.array([{label: i for i, label in enumerate(labels)}.get(label, -1) for label in guess])
    value = float(f1_score(truth, guess, labels=labels, average="macro", zero_division=0.0))
    if len(truth) == 1 or value in (0.0, 1.0):
        return _all_alike(name, round(value), len(truth))
    low, high = _bootstrap((np.arange(len(truth)),), partial(_f1_of_rows, truth_codes, guess_codes, len(labels)))
    return Metric(name, value, low, high, len(truth), "bootstrap, percentile")


def _f1_of_rows(truth: np.ndarray, guess: np.ndarray, n_labels: int, rows: np.ndarray, axis: int = -1) -> np.ndarray:
    """Macro F1 of each resample (``rows``: places in truth and guess), all at once; scikit-learn takes them one by one.

    Per label ``2 tp / (rows that have it + rows that were given it)``, 0 for one that neither has.
    """
    rows = rows.astype(int)
    t, g = truth[rows], guess[rows]
    each = []
    for label in range(n_labels):
        has, given = t == label, g == label
        n = has.sum(axis) + given.sum(axis)
        each.append(2 * (has & given).sum(axis) / np.maximum(n, 1))
    return np.mean(each, axis=0)


@dataclass(frozen=True)
class Difference:
    """A paired difference ``after - before`` on the same rows (tickets, questions).

    Attributes:
        name: the metric.
        before, after, difference: means; shares from 0 to 1 unless the metric has a unit.
        low, high: 95 % interval of the difference, by resampling rows (paired bootstrap); where all rows changed alike, the
            widest one that Clopper-Pearson's interval of their share allows.
        p_value: exact sign test on the rows where the two differ; for right and wrong that is McNemar's exact test.
        n: rows.
        unit: what a figure that is no share counts, for example ``"nats per token"``.
        lower_is_better: true of a loss, or of extra keys.
    """

    name: str
    before: float
    after: float
    difference: float
    low: float
    high: float
    p_value: float
    n: int
    unit: str = ""
    lower_is_better: bool = False

    def __str__(self):
        if self.unit:
            return (
                f"{self.name}: {self.before:.3f} -> {self.after:.3f} {self.unit}, "
                f"{self.difference:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
            )
        return (
            f"{self.name}: {self.before:.1%} -> {self.after:.1%}, "
            f"{100 * self.difference:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"
        )

    def to_dict(self) -> dict:
        return asdict(self)


def paired_difference(name: str, before, after, *, unit: str = "", lower_is_better: bool = False) -> Difference:
    """The paired difference of one figure per row between two models on the same rows.

    Args:
        name: of the metric.
        before, after: one figure per row, in the same order.
        unit, lower_is_better: see :class:`Difference`; without a unit the figures are shares, 0 to 1.

    Raises:
        LorakitError: when the two differ in length or are empty.

    Example:
        >>> paired_difference("exact match", [0.0] * 8, [1.0] * 6 + [0.0] * 2).difference
        0.75
    """
    a, b = np.asarray(before, dtype=float), np.asarray(after, dtype=float)
    if len(a) != len(b) or not len(a):
        raise LorakitError(
            "paired comparison", got=f"{len(a)} and {len(b)} rows", expected="the same rows in both, at least one",
            do="Evaluate both models on the same list.",
        )  # fmt: skip
    from scipy.stats import binomtest

    changed = b - a
    low = high = float(changed.mean())
    if np.ptp(changed) > 1e-12:  # more than rounding
        low, high = _bootstrap((changed,), np.mean)
    elif not unit and min(a.min(), b.min()) >= 0 and max(a.max(), b.max()) <= 1:
        low, high = _changed_alike(low, len(changed))
    won, lost = int((changed > 0).sum()), int((changed < 0).sum())
    p_value = float(binomtest(won, won + lost).pvalue) if won + lost else 1.0
    return Difference(
        name, float(a.mean()), float(b.mean()), float(changed.mean()), low, high, p_value, len(a), unit, lower_is_better
    )


def _changed_alike(change: float, n: int) -> tuple[float, float]:
    """Bounds of a difference of shares when all n rows changed alike, where resampling would give no width.

    At least a share q of all rows changes like that (Clopper-Pearson); the others may change by 1 in either direction.
    """
    from scipy.stats import binomtest

    q = binomtest(n, n).proportion_ci(CONFIDENCE, method="exact").low
    return max(-1.0, q * change - (1 - q)), min(1.0, q * change + (1 - q))


def compare(before: TicketScores, after: TicketScores, metric: str = "exact match") -> Difference:
    """The paired difference of one per-ticket metric between two models on the same tickets."""
    if metric not in before.correct:
        raise LorakitError(
            "metric", got=repr(metric), expected="one of " + ", ".join(before.correct), do="Choose one of these."
        )
    return paired_difference(metric, before.correct[metric], after.correct[metric], lower_is_better=metric == "extra keys")


def verdict(difference: Difference) -> str:
    """The difference in plain words; it says so when there is no evidence of improvement.

    "Better" needs both the interval above zero and p < 0.05; on a handful of rows the interval alone is not
    to be trusted.
    """
    d = difference
    sign = -1 if d.lower_is_better else 1
    low, high = sorted((sign * d.low, sign * d.high))
    enough = d.p_value < 1 - CONFIDENCE
    word = "Better" if low > 0 and enough else "Worse" if high < 0 and enough else "No evidence of improvement"
    said = f"{word}: {d} on {d.n} row{'s' if d.n != 1 else ''}, p = {d.p_value:.2g}."
    smallest = 2.0 ** (1 - d.n)  # of the sign test: all rows changed in one direction
    if smallest >= 1 - CONFIDENCE:
        return f"{said} Too few rows for evidence: at best p would be {smallest:.2g}."
    if enough and low <= 0 <= high:
        return f"{said} p is below {1 - CONFIDENCE:.2g}, but the interval holds zero: both are needed."
    if not enough and (low > 0 or high < 0):
        return f"{said} The interval lies on one side of zero, but p must be below {1 - CONFIDENCE:.2g} as well."
    return said


def before_after_table(before: TicketScores, after: TicketScores) -> str:
    """The two models side by side as a Markdown table, with intervals and the paired difference."""
    lines = ["| metric | before | after | difference (points) |", "|---|---|---|---|"]
    for name, old in before.metrics.items():
        new, change = after.metrics[name], "–"
        if name in before.correct:
            d = compare(before, after, name)
            change = f"{100 * d.difference:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
        cells = [f"{m.value:.1%} [{m.low:.1%}, {m.high:.1%}]" for m in (old, new)]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} | {change} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class CompletionLoss:
    """Mean negative log-likelihood of the right answers, in nats per answer token.

    Attributes:
        loss: the mean over all answer tokens.
        tokens: how many there are.
        per_row: each row's own mean, in the order given, for paired comparison.
    """

    loss: float
    tokens: int
    per_row: np.ndarray = field(repr=False)

    @property
    def perplexity(self) -> float:
        """``exp(loss)``: among how many tokens the model seems to choose."""
        return float(np.exp(self.loss))

    def __str__(self):
        return f"loss {self.loss:.3f} nats per answer token, perplexity {self.perplexity:.2f} ({self.tokens} tokens)"


def completion_loss(model, tokenizer, rows: list[dict], *, batch_size: int = 8, render=None) -> CompletionLoss:
    """Loss on the answers only: the prompt's tokens are context, never targets.

    Args:
        rows: ``{"prompt": messages, "completion": [one assistant message]}``, as for training.
        batch_size: rows read at once.
        render: as for :func:`generate`; the answer and the tokenizer's own end of turn stay the same.

    Raises:
        LorakitError: when there are no rows.
    """
    import torch

    if not rows:
        raise LorakitError("rows to measure the loss on", got="none", expected="at least one", do="Load a split first.")
    parts = [_answer_ids(tokenizer, row, render) for row in rows]
    order = sorted(range(len(parts)), key=lambda i: len(parts[i][0]) + len(parts[i][1]))
    total, count, training, per_row = 0.0, 0, model.training, np.zeros(len(parts))
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            chosen_rows = order[start : start + batch_size]
            part = [parts[i] for i in chosen_rows]
            width = max(len(p) + len(c) for p, c in part)
            ids = torch.full((len(part), width), tokenizer.pad_token_id)
            labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
            for i, (prompt, answer) in enumerate(part):
                n = len(prompt) + len(answer)
                ids[i, :n], mask[i, :n] = torch.tensor(prompt + answer), 1
                labels[i, len(prompt) : n] = torch.tensor(answer)
            with torch.inference_mode():
                logits = model(input_ids=ids.to(model.device), attention_mask=mask.to(model.device)).logits
            chosen = labels[:, 1:] != -100
            wanted = labels[:, 1:][chosen].to(model.device)
            scores = logits[:, :-1][chosen.to(model.device)].float()
            losses = torch.nn.functional.cross_entropy(scores, wanted, reduction="none").cpu()
            total, count = total + losses.sum().item(), count + len(losses)
            for i, own in zip(chosen_rows, losses.split(chosen.sum(1).tolist()), strict=True):
                per_row[i] = own.mean().item()
    finally:
        model.train(training)
    return CompletionLoss(total / count, count, per_row)


def _prompt_text(tokenizer, conversation: list[dict]) -> str:
    return tokenizer.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)


def _answer_ids(tokenizer, row: dict, render=None) -> tuple[list[int], list[int]]:
    """Token ids of a row's prompt, and of its answer with the end-of-turn token."""
    prompt = render(row["prompt"]) if render else _prompt_text(tokenizer, row["prompt"])
    ids = [tokenizer(t, add_special_tokens=False)["input_ids"] for t in (prompt, row["completion"][0]["content"])]
    return ids[0], [*ids[1], tokenizer.eos_token_id]
