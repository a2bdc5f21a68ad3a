"""How far :mod:`~lorakit_helpers.diagnosis` can be trusted: ``python -m lorakit_helpers.diagnosis_report``.

Ten runs with a planted fault and ten healthy ones, really trained: a small Llama with random weights reads tickets and
their facts in another form, then learns the ticket task. Nothing of the curves is stored; ``--seed`` and ``--size`` make
others.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from functools import cache

import numpy as np

from .diagnosis import Finding, RunRecord, diagnose
from .tickets import answer_text, load_split

__all__ = ["HEALTHY", "PLANTED", "SIZES", "Judged", "Plan", "judge", "make_run"]

EOS = 0
VOCABULARY = 1024
LONGEST = 140  # tokens; longer tickets are left out to save time
READ = 600  # tickets of the training file's end that the base model reads
#: Hidden size, layers and the healthy learning rate of the small models.
SIZES = {"small": (64, 2, 3e-3), "medium": (128, 4, 2e-3), "large": (192, 6, 1e-3)}


@dataclass(frozen=True)
class Plan:
    """One run to make.

    Attributes:
        name: for the table.
        fault: the finding that should be named, ``""`` for a healthy run.
        rate: factor on the size's healthy learning rate.
        rows, epochs, max_steps, batch: training data and length.
        schedule, warmup: of the learning rate.
        max_length: in tokens; None cuts nothing, a share between 0 and 1 cuts that share of the answers.
        mask: whether the search for the answer's start finds it.
        bad_rows: how many rows have the labels of random text.
        logging_steps: optimizer updates per logged point.
    """

    name: str
    fault: str = ""
    rate: float = 1.0
    rows: int = 1200
    epochs: float = 1.0
    max_steps: int = -1
    batch: int = 8
    schedule: str = "cosine"
    warmup: int = 10
    max_length: float | None = None
    mask: bool = True
    bad_rows: int = 0
    logging_steps: int = 5


PLANTED = (
    Plan("learning rate 100 times too high", "diverged", rate=100),
    Plan("the same, constant, batch 4", "diverged", rate=100, schedule="constant", batch=4, rows=800),
    Plan("learning rate 1000 times too low", "plateau", rate=1e-3),
    Plan("the same, constant, 800 rows", "plateau", rate=1e-3, schedule="constant", rows=800),
    Plan("20 epochs on 16 rows", "overfit", rows=16, epochs=20, batch=4),
    Plan("30 epochs on 32 rows", "overfit", rows=32, epochs=30, schedule="linear"),
    Plan("5 steps", "undertrained", max_steps=5, warmup=2, logging_steps=1),
    Plan("max_length cuts half of the answers", "truncated", max_length=0.5),
    Plan("the answer's start is never found", "empty_mask", mask=False, rows=400),
    Plan("6 rows of noise in 1200", "spikes", bad_rows=6, logging_steps=1),
)
HEALTHY = (
    Plan("1200 rows, cosine"),
    Plan("1200 rows, linear", schedule="linear"),
    Plan("1200 rows, constant", schedule="constant"),
    Plan("1200 rows, every step logged", logging_steps=1),
    Plan("1200 rows, batch 4", batch=4, logging_steps=10),
    Plan("1200 rows, batch 16", batch=16),
    Plan("1200 rows, 2 epochs, half the rate", rate=0.5, epochs=2),
    Plan("1200 rows, twice the rate", rate=2.0),
    Plan("800 rows, 2 epochs", rows=800, epochs=2),
    Plan("1200 rows, no warm-up, every step logged", warmup=0, logging_steps=1, schedule="linear"),
)


@cache
def _tokenizer():
    """Byte-level BPE of the tickets' own text: 1024 entries, so that the small model's output layer is small."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([t.ticket + "\n" + answer_text(t.answer) for t in load_split("train")[:1000]], trainer)
    return tokenizer


@cache
def _rows(split: str) -> list[tuple[list[int], list[int]]]:
    """(prompt, answer with end token) in token ids."""
    encode = _tokenizer().encode_batch
    tickets = load_split(split)
    prompts = encode([t.ticket + "\nAnswer: " for t in tickets])
    answers = encode([answer_text(t.answer) for t in tickets])
    rows = [(p.ids, [*a.ids, EOS]) for p, a in zip(prompts, answers, strict=True)]
    return [(p, a) for p, a in rows if len(p) + len(a) <= LONGEST]


@cache
def _read_first(size: str, seed: int):
    """The small model after reading tickets without answers: the "base model" of these runs."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    hidden, layers, rate = SIZES[size]
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY, hidden_size=hidden, intermediate_size=3 * hidden, num_hidden_layers=layers,
            num_attention_heads=hidden // 32, num_key_value_heads=hidden // 32, bos_token_id=EOS, eos_token_id=EOS,
            pad_token_id=EOS, tie_word_embeddings=True, max_position_embeddings=1024,
        )
    )  # fmt: skip
    texts = [t.ticket + "".join(f"\n{key} - {value}" for key, value in t.answer.items()) for t in load_split("train")[-READ:]]
    ids = [encoding.ids[:LONGEST] for encoding in _tokenizer().encode_batch(texts)]
    _trained(model, [(row, row) for row in ids], [], rate, Plan("reading", rows=READ, epochs=2), seed)
    return model


def _trained(model, rows, validation, rate, plan: Plan, seed: int):
    """Train with transformers' Trainer; returns it."""
    import datasets
    import torch
    from transformers import PrinterCallback, Trainer, TrainingArguments

    def collate(batch):
        width = max(len(row["input_ids"]) for row in batch)
        ids = torch.full((len(batch), width), EOS)
        labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
        for i, row in enumerate(batch):
            n = len(row["input_ids"])
            ids[i, :n], labels[i, :n], mask[i, :n] = torch.tensor(row["input_ids"]), torch.tensor(row["labels"]), 1
        return {"input_ids": ids, "labels": labels, "attention_mask": mask}

    def dataset(pairs):
        return datasets.Dataset.from_list([{"input_ids": ids, "labels": labels} for ids, labels in pairs])

    steps = plan.max_steps if plan.max_steps > 0 else max(1, int(len(rows) * plan.epochs / plan.batch))
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = TrainingArguments(
            scratch, per_device_train_batch_size=plan.batch, num_train_epochs=plan.epochs, max_steps=plan.max_steps,
            learning_rate=rate * plan.rate, lr_scheduler_type=plan.schedule, warmup_steps=plan.warmup, seed=seed,
            logging_steps=plan.logging_steps, eval_strategy="steps" if validation else "no", eval_steps=max(1, steps // 5),
            per_device_eval_batch_size=32, save_strategy="no", report_to="none", disable_tqdm=True, use_cpu=True,
            dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Trainer(
            model, arguments, train_dataset=dataset(rows), eval_dataset=dataset(validation) if validation else None,
            data_collator=collate,
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return trainer


def _labelled(plan: Plan, seed: int) -> list[tuple[list[int], list[int]]]:
    """The plan's training rows as (ids, labels), its fault planted."""
    rng = np.random.default_rng(seed)
    every = _rows("train")[:-READ]
    chosen = [every[i] for i in rng.permutation(len(every))[: plan.rows]]
    whole = [len(p) + len(a) for p, a in chosen]
    longest = max(whole) if plan.max_length is None else int(np.quantile(whole, plan.max_length))
    bad = set(rng.choice(len(chosen), plan.bad_rows, replace=False).tolist())
    made = []
    for i, (prompt, answer) in enumerate(chosen):
        if i in bad:
            answer = [*rng.integers(1, VOCABULARY, 4 * len(answer)).tolist(), EOS]
        labels = [-100] * len(prompt) + (answer if plan.mask else [-100] * len(answer))
        made.append(((prompt + answer)[:longest], labels[:longest]))
    return made


def make_run(plan: Plan, size: str = "medium", seed: int = 0) -> RunRecord:
    """Train one planned run and return its record."""
    from copy import deepcopy

    validation = [(p + a, [-100] * len(p) + a) for p, a in _rows("validation")[:96]]
    model = deepcopy(_read_first(size, seed))
    trainer = _trained(model, _labelled(plan, seed), validation, SIZES[size][2], plan, seed)
    return RunRecord.from_trainer(trainer, eos_token_id=EOS)


@dataclass(frozen=True)
class Judged:
    """One run and what was found: ``right`` when a planted fault is among the findings, or a healthy run has none."""

    plan: Plan
    findings: tuple[Finding, ...]
    seconds: float

    @property
    def right(self) -> bool:
        found = [finding.id for finding in self.findings]
        return self.plan.fault in found if self.plan.fault else not found

    def __str__(self):
        found = ", ".join(finding.id for finding in self.findings) or "nothing"
        wanted = self.plan.fault or "nothing"
        return f"{self.plan.name:42} {wanted:12} {found:24} {'right' if self.right else 'WRONG'}  {self.seconds:.0f} s"


def judge(plans, size: str = "medium", seed: int = 0, log=lambda line: None) -> list[Judged]:
    """Make the runs and diagnose them; ``log`` is called with each one's line."""
    found = []
    for plan in plans:
        start = time.perf_counter()
        run = make_run(plan, size, seed)
        found.append(Judged(plan, tuple(diagnose(run)), time.perf_counter() - start))
        log(str(found[-1]))
    return found


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lorakit_helpers.diagnosis_report", description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="small", help="of the model (default small)")
    parser.add_argument("--seed", type=int, default=0, help="of weights, rows and order (default 0)")
    parser.add_argument("--json", action="store_true", help="print JSON, sentences included")
    options = parser.parse_args(argv)
    log = (lambda line: None) if options.json else print
    log(f"{'run':42} {'planted':12} {'found':24}")
    judged = [judge(plans, options.size, options.seed, log) for plans in (PLANTED, HEALTHY)]
    if options.json:
        rows = [
            {"plan": asdict(j.plan), "right": j.right, "findings": [asdict(f) for f in j.findings]}
            for group in judged
            for j in group
        ]
        print(json.dumps(rows, indent=1))
    else:
        named, silent = (sum(j.right for j in group) for group in judged)
        print(
            f"planted faults named: {named} of {len(judged[0])}; healthy runs without a finding: {silent} of {len(judged[1])}"
        )
    return 0


if __name__ == "__main__":
    from .start import start as quiet

    quiet("cpu")
    sys.exit(main())
