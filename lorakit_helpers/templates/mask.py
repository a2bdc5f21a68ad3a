"""One training row token by token: its ids, whose text each is, and whether the loss looks at it."""

import re
from collections import Counter
from dataclasses import dataclass

from ..errors import LorakitError
from .families import has_generation_marks, markers_of, template_text, training_variant
from .render import apply_template, check_messages, content_spans, render

__all__ = ["IGNORED", "TokenRow", "assistant_spans", "labelled_rows", "row_messages", "tokenize_row"]

IGNORED = -100  # the label that torch's cross-entropy leaves out

#: What each value of ``TokenRow.masked_by`` means.
MASKED_BY = {
    "completion": "everything after the prompt is trained",
    "generation marks": "the template marks with {% generation %} what the assistant writes",
    "training template": "trl swaps in its own variant of the template, with generation marks",
    "prefix difference": "no generation marks: an answer is what follows the generation prompt, to the end of its turn",
    "nothing": "every token is trained, the prompt too",
}


@dataclass(frozen=True)
class TokenRow:
    """A training row as the trainer sees it.

    Attributes:
        text: the rendered chat.
        ids, pieces: each token's number and the text it stands for ("" where it is a later byte of one character).
        roles: ``"system"``, ``"user"``, ``"assistant"``, ``"tool"``, or ``"template"`` for what the template writes.
        trained: whether the token is among the labels.
        masked_by: a key of :data:`MASKED_BY`.
        cut: tokens lost to ``max_length``.
        cut_trained: how many of those would have been trained.
    """

    text: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    roles: tuple[str, ...]
    trained: tuple[bool, ...]
    masked_by: str
    cut: int = 0
    cut_trained: int = 0

    @property
    def labels(self) -> tuple[int, ...]:
        """The ids with :data:`IGNORED` where the loss does not look."""
        return tuple(i if on else IGNORED for i, on in zip(self.ids, self.trained, strict=True))

    @property
    def n_trained(self) -> int:
        return sum(self.trained)

    @property
    def trained_text(self) -> str:
        """The text of the trained tokens, gaps left out."""
        return "".join(piece for piece, on in zip(self.pieces, self.trained, strict=True) if on)

    @property
    def dropped(self) -> bool:
        """Whether nothing is left to train; trl's SFTTrainer then drops the row without a word."""
        return not self.n_trained

    def counts(self) -> dict[str, tuple[int, int]]:
        """Role to ``(tokens, trained tokens)``, in the order they first appear."""
        trained = Counter(role for role, on in zip(self.roles, self.trained, strict=True) if on)
        return {role: (n, trained[role]) for role, n in Counter(self.roles).items()}

    def to_dict(self) -> dict:
        names = ("text", "ids", "pieces", "roles", "trained", "masked_by", "cut", "cut_trained")
        return {name: getattr(self, name) for name in names} | {"labels": self.labels}

    def __str__(self) -> str:
        return f"{len(self.ids)} tokens, {self.n_trained} trained ({self.masked_by})" + (
            f", {self.cut} cut" if self.cut else ""
        )


def row_messages(row) -> tuple[list[dict], list[dict] | None]:
    """``(messages, None)`` of a ``messages`` row, ``(prompt, completion)`` of a prompt-completion row.

    Raises:
        LorakitError: for any other row.
    """
    if isinstance(row, dict) and "messages" in row:
        return check_messages(row["messages"]), None
    if isinstance(row, dict) and {"prompt", "completion"} <= set(row):
        return check_messages(row["prompt"]), check_messages(row["completion"])
    got = "the keys " + ", ".join(map(str, row)) if isinstance(row, dict) else type(row).__name__
    raise LorakitError(
        "training row", got=got, expected="a dict with messages, or with prompt and completion",
        do="Convert it first, for example with tickets.to_conversation.",
    )  # fmt: skip


def tokenize_row(
    row, tokenizer, *, template=None, assistant_only_loss: bool = False, completion_only_loss: bool | None = None,
    max_length: int | None = None,
) -> TokenRow:  # fmt: skip
    """A row's tokens and loss mask, as trl's ``SFTTrainer`` makes them of the same row and options.

    Args:
        row: ``{"messages": […]}`` or ``{"prompt": […], "completion": […]}``.
        tokenizer: a fast transformers tokenizer.
        template: a family, its name, a Jinja text, or None for the tokenizer's own. To train so, set
            ``tokenizer.chat_template`` to the same text.
        assistant_only_loss: as in ``SFTConfig``. Without generation marks and without a variant of trl's, the mask is found
            by prefix difference, the mask Unsloth falls back on with a GPU; plain trl, and Unsloth on a CPU, refuse such
            a row (train on :func:`labelled_rows` there).
        completion_only_loss: as in ``SFTConfig``; None means on for prompt-completion rows.
        max_length: keep the first so many tokens.

    Raises:
        LorakitError: for a bad row or template, a slow tokenizer, or when no assistant token is found.
    """
    prompt, completion = row_messages(row)
    messages = prompt + (completion or [])
    if not getattr(tokenizer, "is_fast", False):
        raise LorakitError(
            "tokenizer", got=type(tokenizer).__name__, expected="a fast tokenizer, which knows each token's characters",
            do="Load it with AutoTokenizer.from_pretrained.",
        )  # fmt: skip
    jinja, masks, masked_by = template_text(template, tokenizer), [], "nothing"
    if assistant_only_loss:
        masked_by = "generation marks" if has_generation_marks(jinja) else "prefix difference"
        if masked_by != "generation marks" and (variant := training_variant(jinja)):
            jinja, masked_by = variant, "training template"
    text = render(messages, tokenizer, jinja)
    encoding = tokenizer(text, add_special_tokens=False)
    ids = encoding["input_ids"]
    if completion is not None and completion_only_loss is not False:
        head = apply_template(prompt, tokenizer, jinja, add_generation_prompt=True)
        n = len(tokenizer(head, add_special_tokens=False)["input_ids"])
        masks.append([0] * min(n, len(ids)) + [1] * (len(ids) - n))
        masked_by = f"completion and {masked_by}" if assistant_only_loss else "completion"
    if assistant_only_loss:
        masks.append(_assistant_mask(messages, tokenizer, jinja, text, encoding, marked="prefix" not in masked_by))
    trained = [all(bits) for bits in zip(*masks, strict=True)] if masks else [True] * len(ids)
    pieces, roles = _pieces_and_roles(text, encoding, content_spans(messages, tokenizer, jinja, text), messages)
    end = len(ids) if max_length is None else max_length
    return TokenRow(
        text, tuple(ids[:end]), tuple(pieces[:end]), tuple(roles[:end]), tuple(trained[:end]), masked_by,
        cut=len(ids[end:]), cut_trained=sum(trained[end:]),
    )  # fmt: skip


def labelled_rows(rows, tokenizer, **options) -> list[dict]:
    """Rows with ``input_ids`` and ``labels`` of their own, which SFTTrainer takes as they are, on either engine.

    It is the way to train assistant turns alone with a template that has no generation marks.

    Args:
        rows: as for :func:`tokenize_row`, with its ``options``.
    """
    tokenized = [tokenize_row(row, tokenizer, **options) for row in rows]
    return [{"input_ids": list(row.ids), "labels": list(row.labels)} for row in tokenized]


def assistant_spans(messages, tokenizer, template=None) -> list[tuple[int, int]]:
    """Where the assistant's turns stand in the rendered text, found without generation marks, by prefix difference.

    A turn begins where the rendering of the messages before it, with the generation prompt, ends. It ends where the
    rendering up to and with it parts from the whole, line breaks after the end-of-turn token left out: generation has
    stopped by then. Unsloth's own fallback (``train_on_responses_only``) draws the same line.

    Raises:
        LorakitError: when the generation prompt is no prefix of the text, so that the beginning cannot be known.
    """
    messages, jinja = check_messages(messages), template_text(template, tokenizer)
    text = apply_template(messages, tokenizer, jinja)
    spans = content_spans(messages, tokenizer, jinja, text)
    markers = [found.span() for marker in _markers(tokenizer, jinja) for found in re.finditer(re.escape(marker), text)]
    found = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        start = spans[index][0]
        if index:
            head = apply_template(messages[:index], tokenizer, jinja, add_generation_prompt=True)
            if not text.startswith(head):
                raise LorakitError(
                    f"message {index + 1} (assistant)", got="a generation prompt that the training text does not start with",
                    expected="a template that writes the same header for training and for generation",
                    do="Use a template with generation marks, or rows with prompt and completion.",
                )  # fmt: skip
            start = len(head)
        whole = apply_template(messages[: index + 1], tokenizer, jinja)
        end = next((at for at, (a, b) in enumerate(zip(text, whole, strict=False)) if a != b), min(len(text), len(whole)))
        end = min([end, *(a for a, b in markers if a < end < b)])  # never inside a control string
        if end < spans[index][1]:  # Qwen3 writes a turn otherwise once others follow: take the control string after it
            stops = [b for a, b in markers if a >= spans[index][1] and not text[spans[index][1] : a].strip()]
            end = min(stops, default=spans[index][1])
        end = max(start, spans[index][1], len(text[:end].rstrip()))
        found.append((start, end))
    return found


def _markers(tokenizer, jinja: str) -> list[str]:
    return [*markers_of(jinja), *(token for token in tokenizer.all_special_tokens if token.strip())]


def _assistant_mask(messages, tokenizer, jinja: str, text: str, encoding, *, marked: bool) -> list[int]:
    if marked:
        output = apply_template(
            messages, tokenizer, jinja, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
        )  # fmt: skip
        mask = output["assistant_masks"]
    else:
        mask = [0] * len(encoding["input_ids"])
        for start, end in assistant_spans(messages, tokenizer, jinja):
            first, last = encoding.char_to_token(start), encoding.char_to_token(end - 1)
            if first is not None and last is not None and end > start:
                mask[first : last + 1] = [1] * (last + 1 - first)
    if not any(mask):
        raise LorakitError(
            "loss mask", got="no assistant token", expected="at least one, with assistant_only_loss=True",
            do="Add the assistant's answer, or check what the template marks with {% generation %}.",
        )  # fmt: skip
    return mask


def _pieces_and_roles(text: str, encoding, spans, messages) -> tuple[list[str], list[str]]:
    owner = ["template"] * len(text)
    for (start, end), message in zip(spans, messages, strict=True):
        owner[start:end] = [message["role"]] * (end - start)
    pieces, roles, shown = [], [], 0
    for index in range(len(encoding["input_ids"])):
        chars = encoding.token_to_chars(index)
        start, end = (chars.start, chars.end) if chars is not None else (shown, shown)
        pieces.append(text[max(start, shown) : end])
        said = next((at for at in range(start, end) if not text[at].isspace()), start)  # " Where" is the user's, not its space
        roles.append(owner[min(said, len(owner) - 1)])
        shown = max(shown, end)
    return pieces, roles
