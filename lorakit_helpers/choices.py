"""Ways of getting a model to do a task, asked the same questions and measured alike: score, time, tokens, training."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .errors import LorakitError
from .evaluation import Metric, check_one_each, generate, mean_metric, paired_difference, verdict

__all__ = [
    "NEW",
    "OLD",
    "OTHER",
    "TRAINED",
    "TRAINED_TOKEN",
    "WAYS",
    "WayResult",
    "after_a_change",
    "ask",
    "fields_right",
    "in_turns",
    "ways_table",
]

#: The five ways of lesson 01, from the cheapest to set up to the dearest.
WAYS = ("zero-shot prompt", "few-shot prompt", "RAG", "fine-tuned", "fine-tuned + RAG")
#: Those that need training.
TRAINED = ("fine-tuned", "fine-tuned + RAG")

#: What a token costs in training, in tokens read, at most: LoRA goes forward, back through the frozen weights (they need no
#: gradient of their own), and with gradient checkpointing forward once more.
TRAINED_TOKEN = 3

NEW, OLD, OTHER = "new", "old", "other"


@dataclass(frozen=True)
class WayResult:
    """What one way of asking gave on one set of questions.

    Attributes:
        way: one of :data:`WAYS`.
        outputs: what the model wrote, one text per question.
        correct: per-question figures from 0 to 1, by metric name, for paired comparison.
        seconds: time per question, all of them answered in batches.
        prompt_tokens, answer_tokens: mean tokens per question.
        training_seconds, training_tokens: what training the adapter took, now or earlier; 0 without one.
        examples: labelled examples the adapter was trained on; 0 without one.
    """

    way: str
    outputs: tuple[str, ...]
    correct: dict[str, np.ndarray] = field(repr=False)
    seconds: float
    prompt_tokens: float
    answer_tokens: float
    training_seconds: float = 0.0
    training_tokens: int = 0
    examples: int = 0

    @property
    def tokens(self) -> float:
        """Prompt and answer tokens per question."""
        return self.prompt_tokens + self.answer_tokens

    def cost(self, questions: int) -> float:
        """Tokens computed for training and ``questions`` answers; it does not depend on the machine, as seconds do.

        A trained token counts :data:`TRAINED_TOKEN` times.
        """
        return TRAINED_TOKEN * self.training_tokens + questions * self.tokens

    def metric(self, name: str, rows=None) -> Metric:
        """A figure with its interval, over all questions or those where ``rows`` is True."""
        values = self.correct[name]
        return mean_metric(name, values if rows is None else values[np.asarray(rows, dtype=bool)])

    def compared(self, other: "WayResult", name: str) -> str:
        """The verdict on ``other`` against this way, question by question."""
        found = verdict(paired_difference(name, self.correct[name], other.correct[name]))
        return f"{self.way} -> {other.way}. {found}"


def ask(
    model, tokenizer, way: str, chats: list[list[dict]], score: Callable[[list[str]], dict[str, np.ndarray]], *,
    batch_size: int, max_new_tokens: int, training_seconds: float = 0.0, training_tokens: int = 0, examples: int = 0,
) -> WayResult:  # fmt: skip
    """Ask every chat, score the outputs, and count seconds and tokens.

    Args:
        way: its name.
        chats: one list of messages per question.
        score: from the outputs to per-question figures by metric name.
        batch_size, max_new_tokens: as for :func:`lorakit_helpers.evaluation.generate`.
        training_seconds, training_tokens, examples: see :class:`WayResult`.
    """
    start = time.perf_counter()
    outputs = generate(model, tokenizer, chats, batch_size=batch_size, max_new_tokens=max_new_tokens)
    seconds = (time.perf_counter() - start) / len(chats)
    prompts = [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]
    return WayResult(
        way, tuple(outputs), score(outputs), seconds, _mean_tokens(tokenizer, prompts), _mean_tokens(tokenizer, outputs),
        training_seconds, training_tokens, examples,
    )  # fmt: skip


def _mean_tokens(tokenizer, texts) -> float:
    return float(np.mean([len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]))


def in_turns(chat: list[dict], solved: list[tuple[str, str]]) -> list[dict]:
    """A chat with solved examples before its last turn, each as a user's turn and its answer.

    Example:
        >>> chat = [{"role": "system", "content": "Add."}, {"role": "user", "content": "2+2"}]
        >>> [turn["content"] for turn in in_turns(chat, [("1+1", "2")])]
        ['Add.', '1+1', '2', '2+2']
    """
    turns = [turn for asked, answer in solved for turn in (_turn("user", asked), _turn("assistant", answer))]
    return [*chat[:-1], *turns, chat[-1]]


def _turn(role: str, content: str) -> dict:
    return {"role": role, "content": content}


def fields_right(correct: dict[str, np.ndarray], keys) -> np.ndarray:
    """The mean over a ticket's fields of whether each is right, from the arrays of ``score_tickets``."""
    return np.mean([correct[f"{key} accuracy"] for key in keys], axis=0)


def after_a_change(outputs, old: list[tuple[str, ...]], new: list[tuple[str, ...]]) -> list[str]:
    """Which fact each output tells: the ``new`` one, the ``old`` one, or neither (``other``; both count as ``other``).

    Raises:
        LorakitError: when the lists differ in length or are empty.

    Example:
        >>> after_a_change(["£5", "£4", "no idea"], [("£4",)] * 3, [("£5",)] * 3)
        ['new', 'old', 'other']
    """
    from .handbook import answered

    check_one_each(outputs, old, "question")
    check_one_each(outputs, new, "question")
    told = [(answered(text, n), answered(text, o)) for text, n, o in zip(outputs, new, old, strict=True)]
    return [{(True, False): NEW, (False, True): OLD}.get(pair, OTHER) for pair in told]


def ways_table(results: list[WayResult], names) -> str:
    """Several ways as a Markdown table: figures with 95 % intervals, seconds and tokens per question, training.

    Raises:
        LorakitError: when a way lacks one of the figures.
    """
    lines = [
        "| way | " + " | ".join(names) + " | seconds a question | tokens a question | training |",
        "|---" * (len(names) + 4) + "|",
    ]
    for result in results:
        missing = [name for name in names if name not in result.correct]
        if missing:
            raise LorakitError("figure", got=repr(missing[0]), expected=f"one of {list(result.correct)}", do="Check the name.")
        figures = [f"{m.value:.1%} [{m.low:.1%}, {m.high:.1%}]" for m in map(result.metric, names)]
        training = f"{result.examples} examples, {result.training_seconds:.0f} s" if result.examples else "none"
        cells = [result.way, *figures, f"{result.seconds:.2f}", f"{result.tokens:.1f}", training]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
