"""Ollama's Modelfile for an exported model, and the proof that its template says what training said, token for token.

Ollama renders chats with a Go template of its own, not with the Jinja template in the GGUF. Where the two differ, the model
sees prompts it was never trained on.
"""

import re
from dataclasses import dataclass

from ..errors import LorakitError
from ..templates import check_messages
from .gotemplate import parse
from .header import TEMPLATE_KEY, read_header

__all__ = ["Difference", "TemplateCheck", "modelfile", "ollama_ids", "render_modelfile", "template_check"]

_CHATML = "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
_LLAMA3 = "<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}<|eot_id|>"
_LLAMA3_OPEN = "<|start_header_id|>assistant<|end_header_id|>\n\n"
_MISTRAL = (
    '{{ range $i, $_ := .Messages }}{{ if eq .Role "system" }}[INST] {{ .Content }} '
    '{{ else if eq .Role "user" }}{{ if or (eq $i 0) (not $.System) (ne $i 1) }}[INST] {{ end }}{{ .Content }} [/INST]'
    "{{ else }}{{ .Content }}</s>{{ end }}{{ end }}"
)
_PROBES = (  # contents without blanks around, which some templates cut
    ("system", "user"), ("user",), ("system", "user", "assistant", "user"), ("user", "assistant", "user", "assistant", "user"),
)  # fmt: skip
_MARK = "\ue000"  # a private character, in no template


@dataclass(frozen=True)
class Difference:
    """A chat that does not come out the same.

    Attributes:
        index: of the conversation, counted from 0.
        where: ``"GGUF"`` (the template in the file), ``"llama.cpp"`` (as the server renders it) or ``"Ollama"``.
        at: the first token that differs, counted from 0.
        expected, got: texts of both from there, shortened.
    """

    index: int
    where: str
    at: int
    expected: str
    got: str

    def __str__(self):
        return f"chat {self.index + 1}, {self.where}: from token {self.at} {self.got!r} in place of {self.expected!r}"


@dataclass(frozen=True)
class TemplateCheck:
    """What :func:`template_check` found.

    Attributes:
        conversations: how many were rendered.
        against: what was compared with the tokenizer's own template.
        differences: empty when every chat gives the same token ids everywhere.
    """

    conversations: int
    against: tuple[str, ...]
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        return not self.differences

    def __str__(self):
        names = ", ".join(self.against)
        if self.same:
            return f"the same token ids in {self.conversations} of {self.conversations} chats: tokenizer, {names}"
        odd = len({d.index for d in self.differences})
        return f"other token ids in {odd} of {self.conversations} chats ({names}); first: {self.differences[0]}"


def modelfile(gguf_name: str, tokenizer, *, system: str | None = None, parameters: dict | None = None) -> str:
    """The Modelfile for ``ollama create NAME -f Modelfile``.

    The template is chosen by trial: the one of ChatML, Llama 3 and Mistral that gives this tokenizer's token ids on four
    kinds of chat. Ollama puts the BOS token before a prompt by itself where the GGUF says so; then the template must not.

    Args:
        gguf_name: file beside the Modelfile.
        tokenizer: as trained with.
        system: for chats without a system turn; None keeps the template's own default, if it has one.
        parameters: more PARAMETER lines by name; ``temperature`` is 0 unless given.

    Raises:
        LorakitError: when no template of the three gives the same token ids, or a text cannot stand in a Modelfile.
    """
    template, family = _choose(tokenizer)
    system = _default_system(tokenizer) if system is None else system
    _plain("gguf_name", gguf_name)
    stops = {"ChatML": ["<|im_end|>", "<|im_start|>"], "Llama 3": ["<|eot_id|>", "<|start_header_id|>"], "Mistral": ["[INST]"]}
    lines = [f"# {family}", f"FROM {gguf_name if '/' in gguf_name else './' + gguf_name}", f'TEMPLATE """{template}"""']
    if system:
        if '"""' in system or system.endswith('"') or _control(system):
            raise LorakitError("system", got=repr(system[-40:]), expected='text without """', do="Reword it.")
        lines.append(f'SYSTEM """{system}"""')
    for token in dict.fromkeys([tokenizer.eos_token, *stops[family]]):
        lines.append(f'PARAMETER stop "{token}"')
    for name, value in ({"temperature": 0, "repeat_penalty": 1} | (parameters or {})).items():
        if not re.fullmatch(r"[a-z_]+", str(name)):
            raise LorakitError("PARAMETER", got=repr(name), expected="a name like num_ctx", do="See Ollama's list.")
        _plain(f"PARAMETER {name}", str(value))
        lines.append(f"PARAMETER {name} {value}")
    return "\n".join(lines) + "\n"


def render_modelfile(text: str, messages) -> str:
    """The prompt Ollama makes of a chat with this Modelfile, BOS not counted.

    As its ``/api/chat`` does: SYSTEM goes before a chat that does not begin with a system turn; neighbouring turns of one
    role become one. A template without ``.Messages`` is run once per turn pair, cut off at ``.Response`` in the last.

    Example:
        >>> render_modelfile('FROM x.gguf', [{"role": "user", "content": "Hi"}])  # no TEMPLATE: no turns at all
        'Hi'
    """
    given = _commands(text)
    chat = [dict(message) for message in check_messages(messages)]
    if given.get("SYSTEM") and chat[0]["role"] != "system":
        chat.insert(0, {"role": "system", "content": given["SYSTEM"]})
    merged: list[dict] = []
    for message in chat:
        if merged and merged[-1]["Role"] == message["role"] != "tool":
            merged[-1]["Content"] += "\n\n" + message["content"]
        else:
            merged.append({"Role": message["role"], "Content": message["content"]})
    system = "\n\n".join(message["content"] for message in chat if message["role"] == "system")
    source = given.get("TEMPLATE", "{{ .Prompt }}")
    template = parse(source)
    if "Messages" in template.fields:
        return template.execute({"System": system, "Messages": merged, "Response": "", "Tools": None})
    if "Response" not in template.fields:
        template = parse(source + "{{ .Response }}")
    return _turn_by_turn(template, merged)


def _turn_by_turn(template, messages) -> str:
    names, order = {"system": "System", "user": "Prompt", "assistant": "Response"}, ("System", "Prompt", "Response")
    out, held = "", dict.fromkeys(order, "")
    for message in messages:
        name = names.get(message["Role"])
        if not name:
            continue
        if any(held[later] for later in order[order.index(name) + 1 :]):
            out += template.execute(held)
            held = dict.fromkeys(order, "")
        held[name] = message["Content"]
    return out + template.until_response().execute(held)


def ollama_ids(text: str, messages, tokenizer) -> list[int]:
    """Token ids of what Ollama sends: control tokens recognized, BOS put before if the tokenizer does so."""
    return list(tokenizer(render_modelfile(text, messages))["input_ids"])


def template_check(gguf_path, tokenizer, conversations, *, server=None, modelfile_text: str | None = None) -> TemplateCheck:
    """Compare the prompts of an export with those of training, as token ids, with the assistant's turn opened.

    Args:
        gguf_path: its embedded template is rendered.
        tokenizer: as trained with; its template is the measure.
        conversations: lists of messages.
        server: a running :class:`~lorakit_helpers.export.serving.Server` of that file; then llama.cpp's own rendering and
            tokenizing is compared as well.
        modelfile_text: then Ollama's rendering of it, too.

    Raises:
        LorakitError: for a GGUF without chat template, or an empty list.
    """
    own = read_header(gguf_path).get(TEMPLATE_KEY)
    if not own:
        raise LorakitError(
            f"GGUF {gguf_path}", got="no chat template in it", expected=f"one under {TEMPLATE_KEY}",
            do="Save the tokenizer with the model before converting: save_pretrained on both.",
        )  # fmt: skip
    conversations = [check_messages(chat) for chat in conversations]
    if not conversations:
        raise LorakitError("conversations", got="none", expected="at least one chat", do="Pass some validation prompts.")
    ways = {"GGUF": lambda chat: _ids(tokenizer, chat, own)}
    if server is not None:
        ways["llama.cpp"] = lambda chat: server.tokenize(server.apply_template(chat))
    if modelfile_text is not None:
        ways["Ollama"] = lambda chat: ollama_ids(modelfile_text, chat, tokenizer)
    found = []
    for index, chat in enumerate(conversations):
        expected = _ids(tokenizer, chat)
        for name, way in ways.items():
            got = list(way(chat))
            if got != expected:
                pairs = zip(got, expected, strict=False)
                at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(got), len(expected)))
                texts = (tokenizer.decode(ids[at : at + 8]) for ids in (expected, got))
                found.append(Difference(index, name, at, *texts))
    return TemplateCheck(len(conversations), tuple(ways), tuple(found))


def _ids(tokenizer, chat, template=None) -> list[int]:
    from ..templates import render

    text = render(chat, tokenizer, template, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _choose(tokenizer) -> tuple[str, str]:
    bos = tokenizer.bos_token_id
    written = "" if bos is None or tokenizer("x")["input_ids"][:1] == [bos] else tokenizer.bos_token
    dated = '{{ range .Messages }}{{ if ne .Role "system" }}' + _LLAMA3 + "{{ end }}{{ end }}" + _LLAMA3_OPEN
    head = "<|start_header_id|>system<|end_header_id|>\n\n" + _between_head(tokenizer) + "{{ .System }}<|eot_id|>"
    candidates = {"ChatML": _CHATML, "Llama 3": "{{ range .Messages }}" + _LLAMA3 + "{{ end }}" + _LLAMA3_OPEN}
    tried = [(name, text) for name, text in candidates.items()] + [("Llama 3", head + dated), ("Mistral", _MISTRAL)]
    system = _default_system(tokenizer)
    for name, text in [(name, bos_first + text) for name, text in tried for bos_first in dict.fromkeys(["", written])]:
        file = f'FROM x\nTEMPLATE """{text}"""\n' + (f'SYSTEM """{system}"""\n' if system else "")
        if all(ollama_ids(file, chat, tokenizer) == _ids(tokenizer, chat) for chat in _probes()):
            return text, name
    raise LorakitError(
        "chat template of the tokenizer", got="one that none of ChatML, Llama 3 and Mistral reproduces token for token",
        expected="a template of these families", do="Write TEMPLATE by hand and prove it with template_check.",
    )  # fmt: skip


def _probes():
    return [[{"role": role, "content": f"Text {i}: “{role}”"} for i, role in enumerate(roles)] for roles in _PROBES]


def _between_head(tokenizer) -> str:
    """What a Llama 3.1 template writes into the system turn before the system text: its dates."""
    text = _rendered(tokenizer, ("system", "user"))
    return text[: text.find(_MARK)].rpartition("<|end_header_id|>\n\n")[2]


def _default_system(tokenizer) -> str:
    """The system text a template puts in where a chat has none; empty where it puts in none."""
    before, found, after = _rendered(tokenizer, ("system", "user")).partition(_MARK)
    alone = _rendered(tokenizer, ("user",))
    closing = after[: after.find(_MARK)] if _MARK in after else ""
    if not found or not closing or not alone.startswith(before) or closing not in alone[len(before) :]:
        return ""
    text = alone[len(before) :].split(closing)[0]
    return "" if _MARK in text else text


def _rendered(tokenizer, roles) -> str:
    from ..templates import render

    return render([{"role": role, "content": _MARK} for role in roles], tokenizer)


def _commands(text: str) -> dict:
    value = r'(?:"""(.*?)"""|"([^"\n]*)"|([^\n]*))'
    pattern = rf"^(FROM|TEMPLATE|SYSTEM|MESSAGE)\s+{value}[^\S\n]*$"  # Ollama takes either case
    found = list(re.finditer(pattern, text, re.MULTILINE | re.DOTALL | re.IGNORECASE))
    if any(m[1].upper() == "MESSAGE" for m in found):
        raise LorakitError("Modelfile", got="a MESSAGE line", expected="none", do="Remove it: training has no such turns.")
    return {m[1].upper(): next(part for part in m.groups()[1:] if part is not None) for m in found}


def _control(text: str) -> bool:
    return any(not (c.isprintable() or c in "\n\t") for c in text)


def _plain(name: str, text: str) -> None:
    if not isinstance(text, str) or not text.strip() or "\n" in text or _control(text):
        raise LorakitError(name, got=repr(text), expected="one line of text", do="Give it without line breaks.")
