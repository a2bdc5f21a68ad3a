"""Messages to text through ``tokenizer.apply_chat_template`` alone, with faults said in the learner's terms."""

import re
import warnings
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from ..errors import LorakitError, did_you_mean
from .families import Family, find_family, markers_of, template_text

__all__ = [
    "ROLES", "Injection", "TemplateTokenWarning", "apply_template", "byte_tokenizer", "check_messages", "content_spans",
    "injected_tokens", "render",
]  # fmt: skip

_WRITTEN = ("<think>", "</think>", "<tool_call>", "</tool_call>")  # an assistant may write these itself

ROLES = ("system", "user", "assistant", "tool")


class TemplateTokenWarning(UserWarning):
    """A message's own text holds the template's control strings."""


@dataclass(frozen=True)
class Injection:
    """A control string inside a message's text.

    Attributes:
        index, role: of the message, counted from 0.
        token: the string found.
        live: whether this tokenizer turns it into the control token itself, so that the text can open or end a turn.
    """

    index: int
    role: str
    token: str
    live: bool

    def __str__(self) -> str:
        effect = "becomes the control token itself" if self.live else "stays plain text for this tokenizer"
        return f"message {self.index + 1} ({self.role}) contains {self.token}, which {effect}"


def check_messages(messages) -> list[dict]:
    """The messages, if they are a list of dicts with a known role and text as content.

    Raises:
        LorakitError: naming the first message that is not.

    Example:
        >>> check_messages([{"role": "usr", "content": "Hi"}])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        lorakit_helpers.errors.LorakitError: message 1, role: expected one of system, user, assistant, tool, got 'usr'. ...
    """
    if not isinstance(messages, list | tuple) or not messages:
        got = "an empty list" if isinstance(messages, list | tuple) else type(messages).__name__
        raise LorakitError(
            "messages", got=got, expected="a list of at least one message",
            do='For example [{"role": "user", "content": "Hello"}].',
        )  # fmt: skip
    for number, message in enumerate(messages, 1):
        if not isinstance(message, dict) or not {"role", "content"} <= set(message):
            got = f"the keys {', '.join(map(str, message))}" if isinstance(message, dict) else type(message).__name__
            raise LorakitError(
                f"message {number}", got=got, expected="a dict with role and content",
                do="Convert ShareGPT's from/value or Alpaca's instruction/output to messages first.",
            )  # fmt: skip
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise LorakitError(
                f"message {number}, role", got=repr(role), expected="one of " + ", ".join(ROLES),
                do=did_you_mean(role, ROLES, "A template would write any name into the text; use one the model was trained on.",
                                show=repr),
            )  # fmt: skip
        if not isinstance(content, str):
            raise LorakitError(
                f"message {number} ({role}), content", got=f"{type(content).__name__} {str(content)[:40]!r}", expected="text",
                do="Turn it into text yourself, for example with json.dumps; a template would print its Python form.",
            )  # fmt: skip
    return list(messages)


def injected_tokens(messages, tokenizer, template=None) -> tuple[Injection, ...]:
    """Control strings of the template or the tokenizer inside the messages' own text.

    Args:
        messages: see :func:`check_messages`.
        tokenizer: decides whether the string is *live*.
        template: a family, its name, a Jinja text, or None for the tokenizer's own.
    """
    messages = check_messages(messages)
    special = set(tokenizer.get_added_vocab()) | set(tokenizer.all_special_tokens)
    suspects = dict.fromkeys([*markers_of(template_text(template, tokenizer)), *sorted(special)])
    return tuple(
        Injection(index, message["role"], token, token in special)
        for index, message in enumerate(messages)
        for token in suspects
        if token.strip() and token in message["content"] and not (message["role"] == "assistant" and token in _WRITTEN)
    )


def apply_template(messages, tokenizer, template=None, *, add_generation_prompt: bool = False, **options):
    """``tokenizer.apply_chat_template`` with its many exceptions turned into one.

    Args:
        messages: checked before.
        tokenizer: a transformers tokenizer.
        template: a family, its name, a Jinja text, or None for the tokenizer's own.
        options: passed on; ``tokenize=False`` unless given.

    Raises:
        LorakitError: for a template that is broken, that refuses these roles, or that fails on them.
    """
    from jinja2 import TemplateError, TemplateSyntaxError, UndefinedError

    text, name = template_text(template, tokenizer), _name(template)
    options = {"tokenize": False} | options
    try:
        return tokenizer.apply_chat_template(
            messages, chat_template=text, add_generation_prompt=add_generation_prompt, **options
        )  # fmt: skip
    except TemplateSyntaxError as error:
        raise LorakitError(
            f"{name}, line {error.lineno}", got=error.message, expected="a Jinja template that parses",
            do="Check that line for a missing brace or an end tag; compare with a family's template.",
        ) from error  # fmt: skip
    except UndefinedError as error:
        raise LorakitError(
            name, got=error.message, expected=f"a template that can render the roles {_roles(messages)}",
            do="It reads something these messages lack: check the order of the turns, or the template's spelling.",
        ) from error  # fmt: skip
    except TemplateError as error:
        raise LorakitError(
            name,
            got=f"its own refusal: {error.message or type(error).__name__}",
            expected="roles it knows, in the order it knows",
            do=_cure(messages, error.message or ""),
        ) from error
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise LorakitError(
            name, got=f"{type(error).__name__}: {error}", expected=f"a template that can render the roles {_roles(messages)}",
            do="The template fails on these messages; try a family's template on them.",
        ) from error  # fmt: skip


def render(messages, tokenizer, template=None, *, add_generation_prompt: bool = False) -> str:
    """The text a chat becomes, exactly ``apply_chat_template``'s, after checking what went in and what came out.

    Args:
        messages: a list of ``{"role": …, "content": …}``.
        tokenizer: a transformers tokenizer; its bos and eos tokens are the ones written.
        template: a family, its name, a Jinja text, or None for the tokenizer's own.
        add_generation_prompt: end with the header of an assistant's turn, as for generation.

    Warns:
        TemplateTokenWarning: when a message's text holds control strings, as in a prompt injection.

    Raises:
        LorakitError: for bad messages, and for a template that is broken, refuses a role, or silently drops a message.
    """
    messages = check_messages(messages)
    text = apply_template(messages, tokenizer, template, add_generation_prompt=add_generation_prompt)
    for number, message in enumerate(messages, 1):
        said = message["content"].split("</think>")[-1].strip()  # Qwen3 drops the thoughts of earlier turns on purpose
        if said not in text:
            raise LorakitError(
                f"{_name(template)}, message {number} ({message['role']})",
                got="a text without it",
                expected="every message's text",
                do=f"This template silently drops it: it has no place for a {message['role']} turn there.",
            )
    for injection in injected_tokens(messages, tokenizer, template):
        warnings.warn(f"{injection}. Remove or escape it before training.", TemplateTokenWarning, stacklevel=2)
    return text


def content_spans(messages, tokenizer, template, text: str) -> list[tuple[int, int]]:
    """Where each message's content stands in the rendered ``text``, as ``(start, end)`` in characters.

    The same chat is rendered once more with a placeholder for each content; what stands between the placeholders is the
    template's own writing. A template may trim a content; where it does more than that the contents are searched for.
    """
    stand_ins = [{**message, "content": f"\ue000{index}\ue001"} for index, message in enumerate(messages)]
    parts = re.split("\ue000(\\d+)\ue001", apply_template(stand_ins, tokenizer, template))
    spans, position = {}, len(parts[0]) if text.startswith(parts[0]) else None
    for index, after in zip(parts[1::2], parts[2::2], strict=True):
        content = messages[int(index)]["content"]
        for said in dict.fromkeys((content, content.strip(), content.rstrip(), content.lstrip())):
            if position is not None and text.startswith(said + after, position):
                spans[int(index)] = (position, position + len(said))
                position += len(said) + len(after)
                break
        else:
            position = None
    if position == len(text) and sorted(spans) == list(range(len(messages))):
        return [spans[index] for index in range(len(messages))]
    found, position = [], 0
    for message in messages:
        said = message["content"].split("</think>")[-1].strip()
        start = text.find(said, position)
        start = position if start < 0 else start
        found.append((start, start + len(said) if text.startswith(said, start) else start))
        position = found[-1][1]
    return found


def byte_tokenizer(family):
    """A stand-in tokenizer of a family, for looking at templates offline: one token per control string, else one per byte.

    Its text rendering is the family's own, since it has the family's bos and eos tokens; its ids are not.

    Args:
        family: a :class:`~lorakit_helpers.templates.Family` or its name.
    """
    return _byte_tokenizer(find_family(family))


@cache
def _byte_tokenizer(family: Family):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    plain = Tokenizer(models.BPE({letter: index for index, letter in enumerate(letters)}, []))
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    plain.decoder = decoders.ByteLevel()
    plain.add_special_tokens([AddedToken(marker, special=True, normalized=False) for marker in (*family.markers, "<|pad|>")])
    named = {name: token for name, token in (("bos_token", family.bos), ("eos_token", family.eos)) if token}
    return PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<|pad|>", chat_template=family.template, clean_up_tokenization_spaces=False, **named
    )


def _name(template) -> str:
    if template is None:
        return "the tokenizer's chat template"
    if isinstance(template, str) and ("{{" in template or "{%" in template):
        return "the given chat template"
    return f"chat template {find_family(template).name}"


def _roles(messages) -> str:
    return ", ".join(message["role"] for message in messages)


def _cure(messages, reason: str) -> str:
    roles = [message["role"] for message in messages]
    if "system" in roles and ("system" in reason.lower() or "alternate" not in reason.lower()):
        return "Put the system text at the start of the first user message, or choose a family with a system turn."
    if any(first == second for first, second in pairwise(roles)) or roles[0] == "assistant":
        return "Start with a user turn, let user and assistant alternate, and join neighbouring turns of one role."
    return f"These roles were given: {', '.join(roles)}. Change the order, or choose another family."
