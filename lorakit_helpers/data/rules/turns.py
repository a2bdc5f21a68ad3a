"""Rules about the turns of one row: empty, in the wrong order, without an answer, too long, template marks inside."""

import re
from collections.abc import Callable
from itertools import pairwise

from .base import ERROR, WARNING, Example, Rule

__all__ = ["AssistantNotLast", "EmptyTurn", "NoSystemPrompt", "RoleOrder", "TemplateToken", "TooLong"]


class EmptyTurn(Rule):
    id = "empty-turn"
    severity = ERROR
    why = "An empty answer teaches the model to stop at once; an empty question teaches it to answer nothing."
    fix = "Fill the turn or remove the row."

    def see(self, example: Example) -> None:
        for number, content in enumerate(example.contents):
            if (not content or content.isspace()) and not example.row["messages"][number].get("tool_calls"):
                self.hit(example.line, f"turn {number + 1} ({example.roles[number]}) is empty")
                return

    def message(self) -> str:
        return f"{self.count} row{'s have' if self.count != 1 else ' has'} a turn with no text"


def _order_problem(roles: tuple[str, ...]) -> str:
    if "system" in roles[1:]:
        return "a system turn that is not the first"
    spoken = [role for role in roles if role != "system"]
    if spoken and spoken[0] != "user":
        return f"the first to speak is {spoken[0]}, not user"
    for before, after in pairwise(spoken):
        if before == after != "tool":
            return f"two {after} turns in a row"
        if after == "tool" and before not in ("assistant", "tool"):
            return "a tool answers without an assistant's call"
        if (before, after) == ("tool", "user"):
            return "a user turn right after a tool's"
    return ""


class RoleOrder(Rule):
    id = "role-order"
    severity = ERROR
    why = "Chat templates expect system, then user and assistant in turn; some raise, others train on a scrambled chat."
    fix = "Put the turns in order, and join two turns in a row by the same speaker."

    def __init__(self):
        super().__init__()
        self.known = {}

    def see(self, example: Example) -> None:
        roles = example.roles
        if roles not in self.known:
            if len(self.known) > 10_000:
                self.known.clear()
            self.known[roles] = _order_problem(roles)
        if self.known[roles]:
            self.hit(example.line, self.known[roles])

    def message(self) -> str:
        return f"{self.count} row{'s have' if self.count != 1 else ' has'} turns in a wrong order"


class AssistantNotLast(Rule):
    id = "assistant-not-last"
    severity = ERROR
    why = "The last turn is what the model learns to say; here it would learn nothing, or to play the user."
    fix = "Add the answer, or cut the turns after the last answer."

    def see(self, example: Example) -> None:
        if example.roles[-1] != "assistant":
            self.hit(example.line, f"ends with a {example.roles[-1]} turn")

    def message(self) -> str:
        return f"{self.count} row{'s do' if self.count != 1 else ' does'} not end with the assistant's answer"


_MARKS = re.compile(
    r"<\|[A-Za-z][\w ]{1,40}\|>|<｜[^｜<>]{2,40}｜>|\[/?INST\]|<</?SYS>>|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_turn>"
    r"|\[/?(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS)\]|^### (?:Instruction|Input|Response):",
    re.M,
)


class TemplateToken(Rule):
    id = "template-token"
    severity = ERROR
    why = "Marks such as <|im_end|> become control tokens: a turn ends inside the text, or the template is applied twice."
    fix = "Remove the marks: the rows hold plain text, and apply_chat_template adds the marks of the model trained."

    def see(self, example: Example) -> None:
        text = example.text
        if ("<" in text or "[" in text or "### " in text) and (found := _MARKS.search(text)):
            self.hit(example.line, found.group())

    def message(self) -> str:
        return f"{self.count} row{'s hold' if self.count != 1 else ' holds'} marks of a chat template inside the text"


class NoSystemPrompt(Rule):
    id = "no-system-prompt"
    severity = WARNING
    why = (
        "Many templates put in a default system prompt when there is none, and the model is later asked with yours: "
        "it then meets a prompt it was never trained with."
    )
    fix = 'Begin every row with the same {"role": "system", ...} turn that you will use when asking the tuned model.'

    def see(self, example: Example) -> None:
        if example.roles[0] != "system":
            self.hit(example.line)

    def findings(self, total: int) -> list:
        if not self.count:
            return []
        if self.count == total:
            return [self.finding("no row has a system prompt", total)]
        message = f"{self.count} of {total} rows have no system prompt, the others do"
        return [self.finding(message, self.count, tuple(self.lines))]


class TooLong(Rule):
    """Rows longer than ``max_length``, by a callable that counts a row's tokens; without one, 4 characters count as one."""

    id = "too-long"
    severity = ERROR
    why = "A row over max_length is cut without a word: the end of the answer, and the mark that ends it, are never trained."
    fix = "Choose a larger max_length, or shorten or split these rows."

    def __init__(self, max_length: int, count_tokens: Callable[[list], int] | None = None):
        super().__init__()
        self.max_length, self.count_tokens, self.longest = max_length, count_tokens, 0

    def see(self, example: Example) -> None:
        messages = example.row["messages"]
        length = self.count_tokens(messages) if self.count_tokens else -(-len(example.text) // 4)
        self.longest = max(self.longest, length)
        if length > self.max_length:
            self.hit(example.line, f"{length} tokens")

    def findings(self, total: int) -> list:
        if not self.count:
            return []
        how = "" if self.count_tokens else ", estimated as characters / 4 since no tokenizer was given"
        message = f"{self.count} of {total} rows are longer than {self.max_length} tokens{how}; the longest has {self.longest}"
        severity = ERROR if self.count_tokens else WARNING
        return [self.finding(message, self.count, tuple(self.lines), tuple(self.examples), severity)]
