"""What must hold of a template and a tokenizer before training on them: each point checked on one row."""

from dataclasses import dataclass
from itertools import pairwise

from .families import FAMILIES, Family, has_generation_marks, template_text, training_variant
from .mask import TokenRow, row_messages, tokenize_row
from .render import apply_template, injected_tokens

__all__ = ["Check", "check_template", "describe_checks"]


@dataclass(frozen=True)
class Check:
    """One point of :func:`check_template`.

    Attributes:
        name: what was checked.
        status: ``"ok"``, ``"warning"`` (works here, can go wrong elsewhere) or ``"error"`` (training would go wrong).
        found: what is so, in a sentence.
        do: the next step; empty when the status is ok.
    """

    name: str
    status: str
    found: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.status}: {self.name}. {self.found} {self.do}".rstrip()


def check_template(row, tokenizer, *, template=None, assistant_only_loss: bool = False, max_length: int | None = None):
    """Check a template with a tokenizer on one row: seven points, in the order a fault would bite.

    Args:
        row, tokenizer, template, assistant_only_loss, max_length: as for :func:`~lorakit_helpers.templates.tokenize_row`.

    Returns:
        A tuple of seven :class:`Check`.

    Raises:
        LorakitError: where the row cannot be rendered at all.
    """
    tokens = tokenize_row(
        row, tokenizer, template=template, assistant_only_loss=assistant_only_loss, max_length=max_length
    )  # fmt: skip
    jinja = template_text(template, tokenizer)
    prompt, completion = row_messages(row)
    messages = prompt + (completion or [])
    family = next((known for known in FAMILIES.values() if known.template == jinja), None)
    return (
        _bos_once(tokens, tokenizer, messages),
        _stop_trained(tokens, tokenizer, family),
        _pad_and_eos(tokenizer),
        _prompt_is_prefix(messages, tokenizer, jinja),
        _generation_marks(jinja),
        _control_tokens(messages, tokenizer, jinja),
        _whole(tokens, max_length),
    )


def describe_checks(checks) -> str:
    """The checks as text, one line each, faults first."""
    order = {"error": 0, "warning": 1, "ok": 2}
    return "\n".join(str(check) for check in sorted(checks, key=lambda check: order[check.status]))


def _bos_once(tokens: TokenRow, tokenizer, messages) -> Check:
    name, bos = "BOS once", tokenizer.bos_token_id
    if bos is None:
        return Check(name, "ok", "This tokenizer has no BOS token.")
    leading = next((i for i, number in enumerate(tokens.ids) if number != bos), len(tokens.ids))
    plain = tokenizer("x")["input_ids"]
    adds = bool(plain) and plain[0] == bos
    if leading > 1:
        return Check(
            name, "error", f"The row begins with {leading} {tokenizer.bos_token}.",
            "Remove it from the template or from the messages: one place must write it.",
        )  # fmt: skip
    if adds and leading == 1:
        return Check(
            name, "warning", f"The template writes {tokenizer.bos_token}, and tokenizer(text) would add a second one.",
            "Tokenize rendered text with add_special_tokens=False, as apply_chat_template does.",
        )  # fmt: skip
    if adds:
        return Check(
            name, "warning", f"The template writes no {tokenizer.bos_token}, which this tokenizer puts before other texts.",
            "Check that this template is the model's own.",
        )  # fmt: skip
    if leading and 1 < tokens.ids.count(bos) != _turns(tokens, tokenizer):
        return Check(
            name, "error", f"{tokenizer.bos_token} stands {tokens.ids.count(bos)} times in {len(messages)} messages.",
            "Look for it inside the messages' own text.",
        )  # fmt: skip
    role = "opens every turn" if tokens.ids.count(bos) > 1 else "stands once, at the start"
    return Check(name, "ok", f"{tokenizer.bos_token} {role}." if leading else f"The template writes no {tokenizer.bos_token}.")


def _turns(tokens: TokenRow, tokenizer) -> int:
    """How often the BOS token stands among what the template itself writes."""
    pairs = zip(tokens.ids, tokens.roles, strict=True)
    return sum(number == tokenizer.bos_token_id and role == "template" for number, role in pairs)


def _stop_trained(tokens: TokenRow, tokenizer, family: Family | None) -> Check:
    name, stops = "end of turn trained", {tokenizer.eos_token_id: tokenizer.eos_token}
    if family and len(number := tokenizer(family.stop, add_special_tokens=False)["input_ids"]) == 1:
        stops[number[0]] = family.stop
    tagged = list(zip(tokens.ids, tokens.roles, tokens.trained, strict=True))
    begins = [i for i, (_, role, _) in enumerate(tagged) if role == "assistant" and (i == 0 or tokens.roles[i - 1] != role)]
    answers = [tagged[begin:end] for begin, end in pairwise([*begins, len(tagged)])]
    runs = [answer for answer in answers if any(role == "assistant" and on for _, role, on in answer)]
    ends = sum(any(n in stops and role == "template" and on for n, role, on in answer) for answer in runs)
    token = " or ".join(str(token) for token in stops.values())
    if runs and ends == len(runs):
        return Check(name, "ok", f"{token} is among the labels of every answer ({len(runs)}).")
    return Check(
        name, "error", f"{len(runs) - ends} of {len(runs)} answers end without {token} among the labels." if runs
        else "No token of an answer is among the labels.",
        "The model would never learn to stop: use the template of this tokenizer's family, or raise max_length.",
    )  # fmt: skip


def _pad_and_eos(tokenizer) -> Check:
    name = "padding is not the end of turn"
    if tokenizer.pad_token_id is None:
        return Check(name, "error", "This tokenizer has no padding token.", "Set tokenizer.pad_token to a token of its own.")
    if tokenizer.pad_token_id != tokenizer.eos_token_id:
        return Check(name, "ok", f"Padding is {tokenizer.pad_token}, the end is {tokenizer.eos_token}.")
    return Check(
        name, "warning", f"Both are {tokenizer.eos_token}. SFTTrainer is not misled: it masks padding by place, not by number.",
        "With transformers' DataCollatorForLanguageModeling, which masks by number, the end would never be trained.",
    )  # fmt: skip


def _prompt_is_prefix(messages, tokenizer, jinja: str) -> Check:
    name = "generation prompt is a prefix"
    last = max((index for index, message in enumerate(messages) if message["role"] == "assistant"), default=0)
    if last == 0:
        return Check(name, "warning", "There is no answer after a question here.", "Check a row that has one.")
    head = apply_template(messages[:last], tokenizer, jinja, add_generation_prompt=True)
    text = apply_template(messages, tokenizer, jinja)
    if not text.startswith(head):
        at = next((i for i, (a, b) in enumerate(zip(text, head, strict=False)) if a != b), min(len(text), len(head)))
        return Check(
            name, "error", f"Generation would see {head[at : at + 20]!r} where training saw {text[at : at + 20]!r}.",
            "Train and generate with one template.",
        )  # fmt: skip
    head_ids, ids = (tokenizer(part, add_special_tokens=False)["input_ids"] for part in (head, text))
    if ids[: len(head_ids)] != head_ids:
        return Check(
            name, "error", "The text is a prefix, its tokens are not: a token reaches from the prompt into the answer.",
            "Do not begin answers with what merges into the header, such as a space or a line break.",
        )  # fmt: skip
    return Check(name, "ok", f"The answer follows the prompt's {len(head_ids)} tokens without a seam.")


def _generation_marks(jinja: str) -> Check:
    name = "assistant mask"
    if has_generation_marks(jinja):
        return Check(name, "ok", "The template marks what the assistant writes.")
    if training_variant(jinja):
        return Check(name, "ok", "No {% generation %} in the template; trl swaps in its own variant that has it.")
    return Check(
        name,
        "warning",
        "No {% generation %} in the template and no variant of trl's, whose SFTTrainer then refuses assistant_only_loss.",
        "Use prompt and completion rows, or labelled_rows, which finds the answers by prefix difference.",
    )


def _control_tokens(messages, tokenizer, jinja: str) -> Check:
    name, found = "no control tokens in the text", injected_tokens(messages, tokenizer, jinja)
    if not found:
        return Check(name, "ok", "The messages hold none.")
    text = "; ".join(str(injection) for injection in found)
    return Check(
        name, "error" if any(injection.live for injection in found) else "warning", f"In the row, {text}.",
        "Remove or escape it, so that no text can open or close a turn.",
    )  # fmt: skip


def _whole(tokens: TokenRow, max_length: int | None) -> Check:
    name = "nothing cut off"
    if not tokens.cut:
        return Check(name, "ok", f"All {len(tokens.ids)} tokens are used.")
    fate = "trl drops the row without a word" if tokens.dropped else f"{tokens.cut_trained} of them would have been trained"
    return Check(
        name, "error" if tokens.cut_trained else "warning", f"max_length={max_length} cuts {tokens.cut} tokens; {fate}.",
        "Raise max_length, or shorten the row.",
    )  # fmt: skip
