"""The fidelity ladder: what each step away from "base + adapter in 16 bit" costs in size, likeness and right answers.

Likeness is measured where it counts: at every token of the right answers of validation rows, the next-token distribution of
a rung against that of the reference, as Kullback-Leibler divergence in nats and as the share of tokens on which both find
the same token likeliest. A *model* here is anything with the two calls of :class:`TorchModel` and :class:`GgufModel`.
"""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from ..errors import LorakitError
from ..evaluation import MAX_NEW_TOKENS, Metric, _answer_ids, _prompt_text, generate_ids, mean_metric, score_tickets
from ..tickets import Ticket, to_messages
from ._child import cores

__all__ = ["GgufModel", "Rung", "TorchModel", "folder_mib", "kl_divergence", "ladder_table", "measure_rung"]


TIMED = 2  # tickets answered one at a time, for the speed


class TorchModel:
    """A transformers model (or peft model, merged or not) and its tokenizer.

    Args:
        model, tokenizer: both loaded.
        max_new_tokens: an answer's longest.
    """

    def __init__(self, model, tokenizer, max_new_tokens: int = MAX_NEW_TOKENS):
        self.model, self.tokenizer, self.max_new_tokens = model.eval(), tokenizer, max_new_tokens

    def log_probabilities(self, ids: list[int], start: int) -> np.ndarray:
        """``(len(ids) - start, vocabulary)``: log-probabilities of each token from ``start`` on, given those before it."""
        import torch

        with torch.inference_mode():
            batch = torch.tensor([ids], device=self.model.device)
            logits = self.model(input_ids=batch).logits[0, start - 1 : -1].float()
        return logits.log_softmax(-1).cpu().numpy()

    def answers(self, prompts: list[list[int]], at_once: int = 12) -> list[list[int]]:
        """Greedy continuations, at most ``max_new_tokens`` tokens each, the end token included where it came."""
        return generate_ids(self.model, self.tokenizer, prompts, self.max_new_tokens, batch_size=at_once)


class GgufModel:
    """A GGUF file read by llama.cpp through llama-cpp-python, optionally with a LoRA GGUF applied at load time.

    Args:
        path: the file.
        context: longest sequence in tokens.
        lora: path of an adapter from :func:`~lorakit_helpers.export.gguf.lora_to_gguf`.
        max_new_tokens: as for :class:`TorchModel`.

    Raises:
        LorakitError: when llama-cpp-python is missing or cannot read the file.
    """

    def __init__(self, path, *, context: int = 512, lora=None, max_new_tokens: int = MAX_NEW_TOKENS):
        from .gguf import INSTALL
        from .header import read_header

        try:
            import llama_cpp
        except ImportError as error:
            raise LorakitError(
                "llama-cpp-python", got="not installed", expected="llama.cpp's bindings", do=f"Run `{INSTALL}` once."
            ) from error
        read_header(path)  # a clear error for a file that is none
        try:
            self.llama = llama_cpp.Llama(
                str(path), n_ctx=context, logits_all=True, verbose=False, lora_path=str(lora) if lora else None,
                n_threads=cores(), n_threads_batch=cores(),
            )  # fmt: skip
        except ValueError as error:
            raise LorakitError(
                f"GGUF {path}", got=str(error), expected="a model llama.cpp can load", do="Export it again."
            ) from error
        self.end, self.max_new_tokens = self.llama.token_eos(), max_new_tokens

    def log_probabilities(self, ids: list[int], start: int) -> np.ndarray:
        self.llama.reset()
        self.llama.eval(ids)
        logits = self.llama.scores[start - 1 : len(ids) - 1].astype(np.float32)
        top = logits.max(-1, keepdims=True)
        return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))

    def answers(self, prompts: list[list[int]]) -> list[list[int]]:
        """As :meth:`TorchModel.answers`, one after another."""
        return [self._answer(ids) for ids in prompts]

    def _answer(self, ids: list[int]) -> list[int]:
        found = []
        self.llama.reset()
        for token in self.llama.generate(ids, temp=0.0, repeat_penalty=1.0):
            found.append(token)
            if token == self.end or len(found) == self.max_new_tokens:
                break
        return found

    def tokenize(self, text: str) -> list[int]:
        """Token ids by llama.cpp's own tokenizer, special tokens read as such and none added."""
        return self.llama.tokenize(text.encode(), add_bos=False, special=True)

    def close(self) -> None:
        self.llama.close()


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Attributes:
        name: what it is.
        size_mib: of its weights on disk, in MiB (2**20 bytes).
        kl: divergence from the reference in nats per answer token, with its interval over rows.
        top1: share of answer tokens where both find the same token likeliest, with its interval over rows.
        exact: exact match on the tickets.
        stopped: share of answers that ended by themselves.
        tokens_per_s: written tokens per second on the first tickets, one at a time, prompts included.
        outputs: the answers.
        correct: 0 or 1 per ticket, for a paired comparison.
    """

    name: str
    size_mib: float
    kl: Metric
    top1: Metric
    exact: Metric
    stopped: Metric
    tokens_per_s: float
    outputs: tuple[str, ...] = field(repr=False)
    correct: np.ndarray = field(repr=False)

    def __str__(self):
        return (
            f"{self.name}: {self.size_mib:.1f} MiB, KL {self.kl.value:.4f} nats, same token {self.top1.value:.1%}, exact match "
            f"{self.exact.value:.1%} [{self.exact.low:.1%}, {self.exact.high:.1%}], stopped {self.stopped.value:.0%}, "
            f"{self.tokens_per_s:.1f} tokens/s"
        )

    def to_dict(self) -> dict:
        return {**asdict(self), "correct": self.correct.tolist(), "outputs": list(self.outputs)}


def kl_divergence(reference: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``sum_v p(v) (log p(v) - log q(v))`` for each row of two arrays of log-probabilities, in nats.

    Example:
        >>> p, q = np.log([[0.5, 0.5]]), np.log([[0.25, 0.75]])
        >>> kl_divergence(p, q).round(4).tolist()
        [0.1438]
    """
    return (np.exp(reference) * (reference - other)).sum(-1)


def measure_rung(
    name: str, model, tokenizer, rows: list[dict], tickets: list[Ticket], *, size_mib: float, reference=None, progress=None
) -> tuple[Rung, list[np.ndarray]]:
    """Measure one rung.

    Args:
        name: for the table.
        model: a :class:`TorchModel` or :class:`GgufModel`.
        tokenizer: the training's own; all models are given its token ids.
        rows: validation rows, ``{"prompt", "completion"}``.
        tickets: to be answered.
        size_mib: of the weights on disk.
        reference: the first rung's log-probabilities, as returned here; None makes this the reference.
        progress: called with (done, total) rows and tickets.

    Returns:
        The rung, and the log-probabilities of all rows' answer tokens.

    Raises:
        LorakitError: when there are no rows or no tickets, or the vocabularies differ.
    """
    if not rows or not tickets:
        raise LorakitError(
            "rows and tickets", got=f"{len(rows)} and {len(tickets)}", expected="at least one of each", do="Load more."
        )
    logs, told = [], progress or (lambda done, total: None)
    for i, row in enumerate(rows):
        prompt, answer = _answer_ids(tokenizer, row)
        logs.append(model.log_probabilities(prompt + answer, len(prompt)))
        told(i + 1, len(rows) + len(tickets))
    known = logs if reference is None else reference
    if known[0].shape != logs[0].shape:
        raise LorakitError(
            f"vocabulary of {name}", got=logs[0].shape[-1], expected=f"{known[0].shape[-1]} as in the reference",
            do="Compare models with the same tokenizer, or export without padding the vocabulary.",
        )  # fmt: skip
    divergences = np.array([kl_divergence(a, b).mean() for a, b in zip(known, logs, strict=True)])
    same = np.array([(a.argmax(-1) == b.argmax(-1)).mean() for a, b in zip(known, logs, strict=True)])
    prompts = [_prompt_text(tokenizer, to_messages(ticket.ticket)) for ticket in tickets]
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in prompts]
    start = time.perf_counter()
    alone = [model.answers([ids])[0] for ids in prompts[:TIMED]]
    seconds = time.perf_counter() - start
    written = alone + model.answers(prompts[TIMED:])
    told(len(rows) + len(tickets), len(rows) + len(tickets))
    outputs = tuple(tokenizer.decode(ids, skip_special_tokens=True) for ids in written)
    scores = score_tickets(list(outputs), tickets)
    ended = np.array([bool(ids) and ids[-1] == tokenizer.eos_token_id for ids in written], dtype=float)
    rung = Rung(
        name, size_mib, mean_metric("KL", divergences, unit="nats"), mean_metric("same token", same),
        scores.metrics["exact match"], mean_metric("stopped", ended), sum(map(len, alone)) / seconds, outputs,
        scores.correct["exact match"],
    )  # fmt: skip
    return rung, logs


def ladder_table(rungs: list[Rung]) -> str:
    """All rungs as a Markdown table."""
    lines = [
        "| rung | MiB | KL (nats) | same likeliest token | exact match | ended by itself | tokens/s |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in rungs:
        lines.append(
            f"| {r.name} | {r.size_mib:.1f} | {r.kl.value:.4f} [{r.kl.low:.4f}, {r.kl.high:.4f}] | {r.top1.value:.1%} | "
            f"{r.exact.value:.1%} [{r.exact.low:.1%}, {r.exact.high:.1%}] | {r.stopped.value:.0%} | {r.tokens_per_s:.1f} |"
        )
    return "\n".join(lines)


def folder_mib(path) -> float:
    """Weights in a folder, or the size of a file, in MiB."""
    path = Path(path)
    files = [path] if path.is_file() else list(path.glob("*.safetensors"))
    return sum(f.stat().st_size for f in files) / 2**20
