"""Notebook 11's instruments: short real trainings, a stop rate, a model for looking at labels, and the record of the cases.

The cases themselves, what is seen and what may be guessed, are in :mod:`lorakit_helpers.clinic_cases`.
"""

import math
from dataclasses import asdict, dataclass, field

from .clinic_cases import CASES, Case
from .diagnosis import RunRecord
from .errors import LorakitError, did_you_mean
from .evaluation import generate_ids
from .recipes import Recipe
from .tickets import Ticket, load_split

__all__ = [
    "RECIPE", "Tuned", "Visit", "clinic_table", "score_guesses", "short_tickets", "stop_share", "tiny_llama", "tune", "visit",
]  # fmt: skip

#: What the clinic's short trainings change one thing of: 24 updates of 4 rows, the loss of each logged.
RECIPE = Recipe(
    r=16, lora_alpha=16, learning_rate=2e-3, lr_scheduler_type="cosine", warmup_steps=2, max_steps=24,
    per_device_train_batch_size=4, max_length=256, attn_implementation="eager", logging_steps=1, save_steps=10_000, seed=0,
)  # fmt: skip


@dataclass(frozen=True)
class Visit:
    """A case as it went in this run.

    Attributes:
        case: the case.
        sick, well: one figure before and after the cure; None where it could not be shown on this machine.
        unit: what they count, for example ``"nats per answer token"``.
        lower_is_better: whether the cure should lower the figure.
        tool: what the tool of the course said, shortened.
        cured: whether the figures say that the cure worked.
        digits: after the point, for printing.
    """

    case: Case
    sick: float | None
    well: float | None
    unit: str
    tool: str
    cured: bool | None
    lower_is_better: bool = True
    digits: int = 2

    def figure(self, value: float | None) -> str:
        """A figure as text, with its unit.

        Example:
            >>> visit("too fast", 3.0, 0.5, "nats", "diverged").figure(0.5)
            '0.50 nats'
        """
        return "not shown here" if value is None else f"{value:,.{self.digits}f} {self.unit}"

    @property
    def outcome(self) -> str:
        """``cured``, ``not cured`` or ``not shown here``."""
        return {True: "cured", False: "not cured", None: "not shown here"}[self.cured]

    def __str__(self):
        return f"{self.case.title}: {self.figure(self.sick)}, after the cure {self.figure(self.well)} ({self.outcome})"

    def to_dict(self) -> dict:
        return asdict(self) | {"outcome": self.outcome}


def visit(
    case: str, sick: float | None, well: float | None, unit: str, tool, *, lower_is_better: bool = True,
    cured: bool | None = None, digits: int = 2,
) -> Visit:  # fmt: skip
    """Record a case. Without ``cured``, it counts as cured when the figure went the right way by a tenth or more.

    Args:
        case: its id in :data:`~lorakit_helpers.clinic_cases.CASES`.
        sick, well: the figure before and after; None (or NaN) where it could not be shown here.
        unit: what it counts.
        tool: what a tool of the course said; any object, its text is kept.
        lower_is_better: whether the cure should lower the figure.
        cured: the verdict of a better test than the tenth, such as an interval.
        digits: after the point.

    Raises:
        LorakitError: for an unknown case.

    Example:
        >>> print(visit("too fast", 15.8, 0.14, "nats per answer token", "diverged"))
        Learning rate too high: 15.80 nats per answer token, after the cure 0.14 nats per answer token (cured)
    """
    if case not in CASES:
        do = did_you_mean(case, CASES, "Choose one.", show=repr)
        raise LorakitError("case", got=repr(case), expected="one of " + ", ".join(CASES), do=do)
    sick, well = (None if value is None or math.isnan(value) else float(value) for value in (sick, well))
    if sick is None or well is None:
        cured = None
    elif cured is None:
        cured = bool(well < 0.9 * sick if lower_is_better else well > 1.1 * sick)
    said = " ".join(str(tool).split())
    return Visit(CASES[case], sick, well, unit, said, cured, lower_is_better, digits)


def clinic_table(visits) -> str:
    """All cases as a Markdown table: what was seen, which tool found it, the figure before and after, the outcome."""
    lines = ["| case | found by | sick | after the cure | |", "|---|---|---|---|---|"]
    for v in visits:
        lines.append(f"| {v.case.title} | {v.case.tool} | {v.figure(v.sick)} | {v.figure(v.well)} | {v.outcome} |")
    return "\n".join(lines)


def score_guesses(guesses: dict, cases) -> tuple[int, int]:
    """``(right, given)`` of the first guesses, ``{case id: place of the chosen option}``.

    Example:
        >>> score_guesses({"too fast": CASES["too fast"].right}, [CASES["too fast"]])
        (1, 1)
    """
    known = {case.id: case for case in cases}
    given = {name: place for name, place in guesses.items() if name in known}
    return sum(known[name].right == place for name, place in given.items()), len(given)


def short_tickets(split: str, n: int, words: int = 20) -> list[Ticket]:
    """The first ``n`` tickets of a split with at most so many words: they train fast."""
    return [ticket for ticket in load_split(split) if len(ticket.ticket.split()) <= words][:n]


@dataclass(frozen=True)
class Tuned:
    """A short training that ended.

    Attributes:
        model, tokenizer: with the adapter on.
        record: its log, for :func:`lorakit_helpers.diagnosis.diagnose`.
        seconds: of training.
    """

    model: object = field(repr=False)
    tokenizer: object = field(repr=False)
    record: RunRecord
    seconds: float

    @property
    def losses(self) -> tuple[float, ...]:
        return self.record.losses


def tune(recipe: Recipe, rows: list[dict], base, *, change_batch=None) -> Tuned:
    """A LoRA training on 16-bit weights with transformers, peft and trl alone, in this process.

    Unsloth would be faster, but patches transformers for the whole process, and some cases need it as it is.

    Args:
        recipe: all of it is used as it stands.
        rows: of prompt and completion.
        base: from :func:`lorakit_helpers.models.base_model`.
        change_batch: called with every batch, a dict of tensors, and changes it in place: a fault to be planted.
    """
    import tempfile
    import time
    import warnings

    from .models import load_model
    from .training import TrainingLog, add_lora, build_trainer

    model, tokenizer = load_model(base)
    model = add_lora(model, recipe)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = build_trainer(model, tokenizer, rows, recipe, scratch, "plain")
        if change_batch is not None:
            trainer.data_collator = _changed(trainer.data_collator, change_batch)
        TrainingLog().attach(trainer)
        start = time.perf_counter()
        trainer.train()
    return Tuned(model.eval(), tokenizer, RunRecord.from_trainer(trainer, recipe=recipe), time.perf_counter() - start)


def _changed(collate, change):
    def collated(examples):
        batch = collate(examples)
        change(batch)
        return batch

    return collated


def tiny_llama(tokenizer, *, hidden: int = 64, seed: int = 0):
    """A Llama with random weights for a tokenizer: useless as a model, but its labels are those of a real training."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    heads = hidden // 32
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=2 * hidden, num_hidden_layers=2,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=1024, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def stop_share(model, tokenizer, conversations, *, max_new_tokens: int = 96) -> tuple[float, float]:
    """Share of answers that end by themselves, and the mean number of tokens written.

    Args:
        conversations: lists of messages that end with the user's turn, answered greedily.
        max_new_tokens: an answer of that length was ended from outside.

    Raises:
        LorakitError: when there are no conversations.
    """
    if not conversations:
        raise LorakitError("conversations", got="none", expected="at least one", do="Pass some rows' prompts.")
    texts = [tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in conversations]
    written = generate_ids(model, tokenizer, tokenizer(texts, add_special_tokens=False)["input_ids"], max_new_tokens)
    ended = [answer[-1] == tokenizer.eos_token_id for answer in written]
    return sum(ended) / len(ended), sum(map(len, written)) / len(written)
