"""The third task: questions about an invented shop's handbook. Reading, prompting, and when an answer counts as right."""

import re
import unicodedata
from dataclasses import dataclass, field, replace

import numpy as np

from .errors import LorakitError
from .evaluation import Metric, check_one_each, mean_metric
from .files import project_root
from .rows import load_rows

__all__ = [
    "ANSWER_WORDS", "Article", "AnswerScores", "Change", "Question", "SYSTEM_PROMPT", "answered", "exactly", "load_articles",
    "load_changes", "load_questions", "question_rows", "score_answers", "to_question", "with_changes", "words",
]  # fmt: skip

#: What the tuned models are told.
SYSTEM_PROMPT = "Handbook question."

#: Longest output, in words, that can count as an answer: a full sentence passes, copying half an article does not.
ANSWER_WORDS = 20

_SPLITS = ("train", "test")
_TAUGHT = ("f1", "f2", "f3")
_PIECE = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+")


@dataclass(frozen=True)
class Article:
    """One page of the handbook.

    Attributes:
        id: for example ``"hb-A01"``.
        title, text: as a clerk would read them.
    """

    id: str
    title: str
    text: str

    @property
    def passage(self) -> str:
        """Title and text, as they are searched and put into a prompt."""
        return f"{self.title}. {self.text}"


@dataclass(frozen=True)
class Question:
    """A question that one article answers.

    Attributes:
        id, article: its own id and the article's.
        fact: which of the article's facts it asks for; ``f1`` to ``f3`` occur in training, ``f4`` and ``f5`` never do.
        split: ``"train"`` or ``"test"``.
        question: as a customer puts it.
        answers: right answers; the first stands word for word in the article.
    """

    id: str
    article: str
    fact: str
    split: str
    question: str
    answers: tuple[str, ...]

    @property
    def taught(self) -> bool:
        """Whether some training question asks for the same fact, in other words."""
        return self.fact in _TAUGHT


@dataclass(frozen=True)
class Change:
    """An article in which one fact has changed.

    Attributes:
        id: of the article.
        text: the article's new text.
        question: id of the test question that asks for the changed fact.
        answers: its right answers from now on.
    """

    id: str
    text: str
    question: str
    answers: tuple[str, ...]


def load_articles(path=None) -> list[Article]:
    """The handbook's pages, or those in another file.

    Raises:
        LorakitError: with file and line for anything that is not a right row; nothing is skipped silently.
    """
    return [Article(**row) for row in load_rows(_place(path, "articles"), "handbook", noun="article", kind="article")]


def load_questions(split: str | None = None, path=None, articles: list[Article] | None = None) -> list[Question]:
    """The questions about the handbook.

    Args:
        split: ``"train"`` or ``"test"``; None means both.
        path: another file; None means the course's own.
        articles: what they are about; None means the course's own.

    Raises:
        LorakitError: as for :func:`load_articles`, and for an unknown article or an answer that is not in it.
    """
    if split not in (None, *_SPLITS):
        raise LorakitError("split", got=repr(split), expected="train or test", do="Leave it out for both.")
    texts = {article.id: article.text for article in (load_articles() if articles is None else articles)}

    def check(row, where):
        _check_article(row["article"], texts, where)
        if row["answers"][0] not in texts[row["article"]]:
            raise LorakitError(
                f"{where}, answers", got=repr(row["answers"][0]), expected=f"words that stand in article {row['article']}",
                do="Put the answer first that is copied from the article.",
            )  # fmt: skip

    rows = load_rows(_place(path, "questions"), "handbook", noun="question", kind="question", check=check)
    return [Question(**row | {"answers": tuple(row["answers"])}) for row in rows if split in (None, row["split"])]


def load_changes(path=None) -> list[Change]:
    """The articles whose facts change.

    Raises:
        LorakitError: as for :func:`load_articles`, and for a new answer that is not in the new text.
    """
    texts = {article.id: article.text for article in load_articles()}

    def check(row, where):
        _check_article(row["id"], texts, where)
        if row["answers"][0] not in row["text"]:
            raise LorakitError(
                f"{where}, answers", got=repr(row["answers"][0]), expected="words that stand in the new text",
                do="Put the answer first that is copied from the text.",
            )  # fmt: skip

    rows = load_rows(_place(path, "changes"), "handbook", noun="change", kind="change", check=check)
    return [Change(**row | {"answers": tuple(row["answers"])}) for row in rows]


def with_changes(articles: list[Article], changes: list[Change]) -> list[Article]:
    """The handbook after the changes, in the same order.

    Example:
        >>> old = [Article("hb-A01", "Kettle", "It holds 1 litre.")]
        >>> with_changes(old, [Change("hb-A01", "It holds 2 litres.", "hb-A01-q1", ("2 litres",))])[0].text
        'It holds 2 litres.'
    """
    new = {change.id: change.text for change in changes}
    return [replace(article, text=new.get(article.id, article.text)) for article in articles]


def to_question(question: str, passages=(), system_prompt: str = SYSTEM_PROMPT) -> list[dict]:
    """The chat a model is asked with.

    Args:
        question: as the customer puts it.
        passages: texts to read first, the likeliest first; none means the model must know.

    Example:
        >>> to_question("How much does it hold?", ["Kettle. It holds 1 litre."])[1]["content"]
        'Kettle. It holds 1 litre.\\n\\nQuestion: How much does it hold?'
    """
    content = "\n\n".join([*passages, f"Question: {question}"]) if passages else question
    return [{"role": "system", "content": system_prompt}, {"role": "user", "content": content}]


def question_rows(questions: list[Question], passages: list | None = None) -> list[dict]:
    """Training rows in trl's conversational prompt-completion form; the completion is the first right answer.

    Args:
        questions: what to learn.
        passages: for each question the texts in its prompt; None means no context anywhere.

    Raises:
        LorakitError: when there are passages, but not one list for each question.
    """
    if passages is None:
        passages = [()] * len(questions)
    if len(passages) != len(questions):
        raise LorakitError(
            "passages", got=f"{len(passages)} lists for {len(questions)} questions", expected="one list for each question",
            do="Pass an empty list where there is nothing to read.",
        )  # fmt: skip
    return [
        {"prompt": to_question(q.question, found), "completion": [{"role": "assistant", "content": q.answers[0]}]}
        for q, found in zip(questions, passages, strict=True)
    ]


def words(text: str) -> list[str]:
    """The words of a text as they are compared: without case, marks and the space between a figure and its unit.

    Example:
        >>> words("About 1.3 litres, or 38mm (CR2450).")
        ['about', '1.3', 'litres', 'or', '38', 'mm', 'cr', '2450']
    """
    return _PIECE.findall(unicodedata.normalize("NFKC", text).casefold())


def answered(text: str, answers, *, longest: int = ANSWER_WORDS) -> bool:
    """Whether a text gives one of the right answers, as whole words, and has at most ``longest`` words.

    Example:
        >>> answered("It holds 1.3 litres.", ["1.3 litres"]), answered("It holds 21.3 litres.", ["1.3 litres"])
        (True, False)
        >>> answered("17", ["7"]), answered("no " * 30 + "7", ["7"])
        (False, False)
    """
    said = words(text)
    if len(said) > longest:
        return False
    return any(_inside(words(answer), said) for answer in answers)


def exactly(text: str, answers) -> bool:
    """Whether a text is one of the right answers and nothing else, in the sense of :func:`words`.

    Example:
        >>> exactly("1.3 Litres.", ["1.3 litres"]), exactly("It holds 1.3 litres.", ["1.3 litres"])
        (True, False)
    """
    return any(words(text) == words(answer) for answer in answers)


def _inside(part: list[str], whole: list[str]) -> bool:
    return bool(part) and any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


@dataclass(frozen=True)
class AnswerScores:
    """How well one way of asking answered one set of questions.

    Attributes:
        metrics: ``answered`` and ``exact answer`` with intervals.
        outputs: what was written, one text per question.
        correct: per-question arrays of 0 and 1, by metric name, for paired comparison.
    """

    metrics: dict[str, Metric]
    outputs: tuple[str, ...]
    correct: dict[str, np.ndarray] = field(repr=False)

    def __str__(self):
        return "\n".join(str(metric) for metric in self.metrics.values())


def score_answers(outputs: list[str], answers: list[tuple[str, ...]]) -> AnswerScores:
    """Score texts against the right answers, one tuple of them per question.

    Raises:
        LorakitError: when the two lists differ in length or are empty.
    """
    check_one_each(outputs, answers, "question")
    correct = {
        "answered": np.array([answered(o, a) for o, a in zip(outputs, answers, strict=True)], dtype=float),
        "exact answer": np.array([exactly(o, a) for o, a in zip(outputs, answers, strict=True)], dtype=float),
    }
    return AnswerScores({name: mean_metric(name, values) for name, values in correct.items()}, tuple(outputs), correct)


def _place(path, name: str):
    return project_root() / "data" / "handbook" / f"{name}.jsonl" if path is None else path


def _check_article(identifier: str, known, where: str) -> None:
    if identifier not in known:
        raise LorakitError(f"{where}, article", got=repr(identifier), expected="an article of the handbook", do="Check the id.")
