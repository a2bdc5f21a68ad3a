"""General questions that have nothing to do with the course's tasks: what a model could do before it was tuned.

Two kinds. A *choice* is scored by log-probability: the model never sees the options side by side, it reads each as its own
answer, and its choice is the one it finds likeliest per byte. An *answer* is written greedily and looked for word by word.
A choice asks what the model still knows even if it no longer writes prose; an answer also asks whether it still talks.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np

from .errors import LorakitError
from .evaluation import Metric, generate, mean_metric
from .files import project_root
from .handbook import answered
from .rows import load_rows

__all__ = [
    "HALVES", "KINDS", "OVERALL", "SKILLS", "Probe", "ProbeScores", "load_probes", "option_log_probabilities", "score_probes",
]  # fmt: skip

SKILLS = ("facts", "arithmetic", "common sense", "instructions", "language", "safety and tone")
#: Forms of question were chosen with the base model's answers on one half in view; the other half is what to report.
HALVES = ("select", "report")
#: The probes by how they are scored: what a model still knows, and whether it still says so. Names of groups, with the kind.
KINDS = {"all choices": "choice", "all answers": "answer"}
OVERALL = "overall"
#: An answer must come within so many tokens.
ANSWER_TOKENS = 24


@dataclass(frozen=True)
class Probe:
    """One question.

    Attributes:
        id: begins with its half, for example ``"report-facts-07"``.
        skill: one of :data:`SKILLS`.
        kind: ``"choice"`` or ``"answer"``.
        prompt: the user's turn.
        options: of a choice, possible replies; none is shown to the model beside another.
        right: of a choice, the right option's place.
        answers: of an answer, what counts as right.
        note: what it asks for, for readers; never shown to the model.
    """

    id: str
    skill: str
    kind: str
    prompt: str
    options: tuple[str, ...] = ()
    right: int = 0
    answers: tuple[str, ...] = ()
    note: str = ""

    @property
    def half(self) -> str:
        return self.id.split("-")[0]

    @property
    def chance(self) -> float:
        """How often guessing is right: one in so many options; 0 for an answer in the model's own words.

        Example:
            >>> Probe("select-facts-01", "facts", "choice", "Sky?", ("Blue.", "Loud.")).chance
            0.5
        """
        return 1 / len(self.options) if self.options else 0.0

    @property
    def chat(self) -> list[dict]:
        """What the model is asked with. No system turn of ours: the tokenizer's template adds the model's usual one."""
        return [{"role": "user", "content": self.prompt}]


def load_probes(half: str | None = None, *, path=None) -> list[Probe]:
    """The course's own questions, or those in another file.

    Args:
        half: ``"select"`` or ``"report"``; None means both.
        path: another JSON-lines file of the same schema.

    Raises:
        LorakitError: for an unknown half, and with file and line for anything that is not a right row.
    """
    if half not in (None, *HALVES):
        raise LorakitError("half", got=repr(half), expected="select or report", do="Leave it out for both.")
    folder = project_root() / "data" / "general_probes"
    paths = [path] if path is not None else [folder / f"{name}.jsonl" for name in HALVES]
    rows = [row for one in paths for row in load_rows(one, "general_probes", noun="probe", check=_check_row)]
    probes = [Probe(**row | {key: tuple(row[key]) for key in ("options", "answers") if key in row}) for row in rows]
    return [probe for probe in probes if half in (None, probe.half)]


def _check_row(row: dict, where: str) -> None:
    needed, barred = (("options", "right"), ("answers",))[:: 1 if row["kind"] == "choice" else -1]
    wrong = [key for key in needed if key not in row] + [key for key in barred if key in row]
    if wrong:
        raise LorakitError(
            f"{where}, {wrong[0]}", got="it" if wrong[0] in row else "nothing",
            expected=f"a row of kind {row['kind']} with {' and '.join(needed)}, without {' and '.join(barred)}",
            do="See data/general_probes/README.md.",
        )  # fmt: skip
    if row["kind"] == "choice" and (row["right"] >= len(row["options"]) or len(set(row["options"])) < len(row["options"])):
        raise LorakitError(
            f"{where}, options", got=f"{row['options']} with right = {row['right']}",
            expected="options that differ, and the place of one of them, counted from 0", do="Mend the row.",
        )  # fmt: skip
    if row["kind"] == "answer" and answered(row["prompt"], row["answers"], longest=len(row["prompt"])):
        raise LorakitError(
            f"{where}, answers", got="an answer that stands in the prompt", expected="one that an echo does not give",
            do="Ask in other words.",
        )  # fmt: skip


@dataclass(frozen=True)
class ProbeScores:
    """How one model did on a list of probes.

    Attributes:
        probes: what was asked, in the order given.
        correct: 0 or 1 per probe, for :func:`~lorakit_helpers.evaluation.paired_difference`.
        replies: the likeliest option, or what the model wrote.
        per_byte: of a choice each option's log-probability per byte in nats; empty for an answer.
        seconds: how long it took, or None.
    """

    probes: tuple[Probe, ...]
    correct: np.ndarray = field(repr=False)
    replies: tuple[str, ...] = field(repr=False)
    per_byte: tuple[tuple[float, ...], ...] = field(repr=False)
    seconds: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The groups of probes: the skills that were asked for, the two kinds (where there are both), ``"overall"``."""
        skills, kinds = {probe.skill for probe in self.probes}, {probe.kind for probe in self.probes}
        return (*(skill for skill in SKILLS if skill in skills), *(KINDS if len(kinds) == 2 else ()), OVERALL)

    def rows(self, name: str) -> np.ndarray:
        """True where a probe belongs to the group; everywhere for ``"overall"``."""
        if name not in self.names:
            raise LorakitError(
                "group of probes", got=repr(name), expected="one of " + ", ".join(self.names), do="Choose one of these."
            )
        return np.array([name == OVERALL or name == probe.skill or KINDS.get(name) == probe.kind for probe in self.probes])

    @property
    def metrics(self) -> dict[str, Metric]:
        """The share of right replies by group (see :attr:`names`), with bootstrap intervals over the probes."""
        return {name: mean_metric(name, self.correct[self.rows(name)]) for name in self.names}

    @property
    def chance(self) -> dict[str, float]:
        """What guessing would reach, by group: the mean of the probes' own chances."""
        chances = np.array([probe.chance for probe in self.probes])
        return {name: float(chances[self.rows(name)].mean()) for name in self.names}

    def part(self, keep: Callable[[Probe], bool]) -> "ProbeScores":
        """The scores of some of the probes, for example ``scores.part(lambda probe: probe.half == "report")``."""
        rows = [i for i, probe in enumerate(self.probes) if keep(probe)]
        if not rows:
            raise LorakitError("probes", got="none left", expected="at least one", do="Keep more of them.")
        pick = [tuple(values[i] for i in rows) for values in (self.probes, self.replies, self.per_byte)]
        return ProbeScores(pick[0], self.correct[rows], pick[1], pick[2])

    def __str__(self):
        return "\n".join(f"{metric} on {metric.n}, chance {self.chance[name]:.1%}" for name, metric in self.metrics.items())

    def to_dict(self) -> dict:
        return {
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()}, "chance": self.chance,
            "replies": [
                {**asdict(probe), "correct": bool(right), "reply": reply, "per_byte": list(scores)}
                for probe, right, reply, scores in zip(self.probes, self.correct, self.replies, self.per_byte, strict=True)
            ],
            "seconds": self.seconds,
        }  # fmt: skip


def score_probes(model, tokenizer, probes: list[Probe], *, batch_size: int = 32, progress=None) -> ProbeScores:
    """Ask a model all the probes.

    An option's score is its log-probability after the prompt divided by its length in UTF-8 bytes. Without the division
    long options lose because they are long; dividing by tokens would make the score depend on the tokenizer, and models
    could not be compared (Gao 2021, "Multiple choice normalization in LM evaluation", EleutherAI; lm-evaluation-harness
    calls it ``acc_norm``). No normalization is fair to every length, so a probe's options are of like length. Two options
    that score alike are no choice: a tie counts as wrong.

    Args:
        batch_size: options read, or answers written, at once.
        progress: called with (done, total) after each batch; an option or an answer counts as one.

    Raises:
        LorakitError: when there are no probes.
    """
    if not probes:
        raise LorakitError("probes", got="none", expected="at least one", do="Use load_probes().")
    begun = time.perf_counter()
    choices, written = [p for p in probes if p.options], [p for p in probes if not p.options]
    pairs = [(probe.chat, option) for probe in choices for option in probe.options]
    total = len(pairs) + len(written)
    told = progress or (lambda done, of: None)
    sums = option_log_probabilities(model, tokenizer, pairs, batch_size=batch_size, progress=lambda d, _: told(d, total))
    scores = iter((sums / np.array([len(option.encode()) for _, option in pairs] or [1])).tolist())
    texts = iter(
        generate(
            model, tokenizer, [p.chat for p in written], batch_size=batch_size, max_new_tokens=ANSWER_TOKENS,
            progress=lambda d, _: told(len(pairs) + d, total),
        )
    )  # fmt: skip
    correct, replies, per_byte = [], [], []
    for probe in probes:
        own = tuple(next(scores) for _ in probe.options)
        reply = probe.options[int(np.argmax(own))] if own else next(texts)
        correct.append(_right(probe, own, reply))
        replies.append(reply)
        per_byte.append(own)
    seconds = time.perf_counter() - begun
    return ProbeScores(tuple(probes), np.array(correct, dtype=float), tuple(replies), tuple(per_byte), seconds)


def _right(probe: Probe, scores: tuple[float, ...], reply: str) -> bool:
    if scores:
        return all(scores[probe.right] > score for i, score in enumerate(scores) if i != probe.right)
    return answered(reply, probe.answers, longest=ANSWER_TOKENS)


def option_log_probabilities(model, tokenizer, pairs, *, batch_size: int = 32, progress=None) -> np.ndarray:
    """The log-probability of each text as the answer to a chat: ``sum over its tokens of log p(token | chat, tokens before)``.

    The end-of-turn token is not part of it: an option may be the beginning of a longer answer.

    Args:
        pairs: ``(messages, text)``; the prompt is the tokenizer's template with its generation prompt.
        batch_size: rows read at once, sorted by length so that a batch carries little padding.
        progress: called with (done, total) after each batch.

    Returns:
        ``(len(pairs),)`` in nats, in the order given.
    """
    import torch

    prompts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat, _ in pairs]
    ids = [[tokenizer(text, add_special_tokens=False)["input_ids"] for text in pair]
           for pair in zip(prompts, (text for _, text in pairs), strict=True)]  # fmt: skip
    order = sorted(range(len(ids)), key=lambda i: len(ids[i][0]) + len(ids[i][1]), reverse=True)
    found, training = np.zeros(len(ids)), model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            # Padded on the right, where a causal model cannot look, so the result needs no attention mask to be right.
            texts = [prompt + option for prompt, option in (ids[i] for i in rows)]
            batch = tokenizer.pad({"input_ids": texts}, padding_side="right", return_tensors="pt").to(model.device)
            width = batch["input_ids"].shape[1]
            # The output layer is a fifth of the small model; it is spent only where some row's option may stand.
            kept = min(width, width - min(len(ids[i][0]) for i in rows) + 1)
            with torch.inference_mode():
                logits = model(**batch, logits_to_keep=kept).logits
            for row, i in enumerate(rows):
                prompt, option = (len(part) for part in ids[i])
                at = prompt - 1 - (width - kept)  # the position before a token predicts it
                logs = logits[row, at : at + option].float().log_softmax(-1)
                wanted = torch.tensor(ids[i][1], device=logs.device)
                found[i] = logs.gather(1, wanted[:, None]).double().sum().item()
            if progress:
                progress(min(start + batch_size, len(order)), len(order))
    finally:
        model.train(training)
    return found
