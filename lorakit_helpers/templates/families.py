"""The chat templates of model families, each read when asked for from the installed package that carries it."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..errors import LorakitError, did_you_mean
from ._sources import package_version, trl_template, trl_training_template, unsloth_template

__all__ = ["FAMILIES", "Family", "find_family", "has_generation_marks", "markers_of", "template_text", "training_variant"]

_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")  # as trl looks for it
_MARKER = re.compile(r"<\|[^\s|<>'\"]+\|>|</?[a-z]+(?:_[a-z]+)*>|\[/?[A-Z]{2,}(?:_[A-Z]+)*\]|<</?SYS>>")
_HTML_LIKE = {"<tools>", "</tools>", "<function>", "</function>"}  # words of tool prompts, no tokens of a family


@dataclass(frozen=True)
class Family:
    """One family of models and where its chat template is read.

    Attributes:
        name: as given to :func:`find_family`.
        title: for headings.
        package: ``"trl"``, ``"unsloth"`` or ``"base model"``, the course's own small model.
        key: the template's name there.
        bos, eos: the family's own ``bos_token`` and ``eos_token``, or None.
        stop: the token that ends an assistant's turn; generation must stop at it.

    Example:
        >>> str(find_family("Llama 3"))
        'Llama 3 (trl, chat_templates/llama3.jinja): turns end with <|eot_id|>'
    """

    name: str
    title: str
    package: str
    key: str
    bos: str | None
    eos: str | None
    stop: str

    @property
    def template(self) -> str:
        """The Jinja text, from the installed package.

        Raises:
            LorakitError: when the package or the template in it is missing.
        """
        if self.package == "base model":
            return _base_template()
        return {"trl": trl_template, "unsloth": unsloth_template}[self.package](self.key)

    @property
    def training_template(self) -> str | None:
        """The template with generation marks: its own if it has them, else trl's training variant, else None."""
        return self.template if has_generation_marks(self.template) else training_variant(self.template)

    @property
    def source(self) -> str:
        """Package, version and place, for a caption."""
        where = {"trl": f"chat_templates/{self.key}.jinja", "unsloth": f'CHAT_TEMPLATES["{self.key}"]'}
        if self.package == "base model":
            return f"{self.key}, chat_template.jinja"
        return f"{self.package} {package_version(self.package)}, {where[self.package]}"

    @property
    def markers(self) -> tuple[str, ...]:
        """The strings of :func:`markers_of` with the family's own bos, eos and stop tokens."""
        own = [token for token in (self.bos, self.eos, self.stop) if token]
        return tuple(dict.fromkeys([*markers_of(self.template), *own]))

    def __str__(self) -> str:
        return f"{self.title} ({self.source.replace(' ' + package_version(self.package), '')}): turns end with {self.stop}"


_TABLE = (
    ("smollm2", "SmolLM2", "base model", "SmolLM2-135M-Instruct", "<|im_start|>", "<|im_end|>", "<|im_end|>"),
    ("chatml", "ChatML", "unsloth", "chatml", None, "<|im_end|>", "<|im_end|>"),
    ("qwen2.5", "Qwen2.5", "trl", "qwen2_5", None, "<|im_end|>", "<|im_end|>"),
    ("qwen3", "Qwen3", "trl", "qwen3", None, "<|im_end|>", "<|im_end|>"),
    ("llama-2", "Llama 2", "unsloth", "llama", "<s>", "</s>", "</s>"),
    ("llama-3", "Llama 3", "trl", "llama3", "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>"),
    ("llama-3.1", "Llama 3.1", "trl", "llama3_1", "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>"),
    ("mistral", "Mistral", "unsloth", "mistral", "<s>", "</s>", "</s>"),
    ("gemma", "Gemma 1 and 2", "trl", "gemma", "<bos>", "<eos>", "<end_of_turn>"),
    ("gemma-3", "Gemma 3", "trl", "gemma3", "<bos>", "<eos>", "<end_of_turn>"),
    ("phi-3", "Phi-3", "trl", "phi3", "<s>", "<|endoftext|>", "<|end|>"),
    ("phi-4", "Phi-4", "unsloth", "phi-4", "<|endoftext|>", "<|im_end|>", "<|im_end|>"),
    ("zephyr", "Zephyr", "unsloth", "zephyr", "<s>", "</s>", "</s>"),
)

#: The families by name. Where a package carries a template, with the date fixed in it where there is one.
FAMILIES: dict[str, Family] = {row[0]: Family(*row) for row in _TABLE}


def find_family(name) -> Family:
    """A family by its name; case, spaces, dots, dashes and underscores do not matter.

    Raises:
        LorakitError: for an unknown name, with the nearest known ones.

    Example:
        >>> find_family("Qwen 2.5").name
        'qwen2.5'
    """
    if isinstance(name, Family):
        return name
    plain = {_plain(known): known for known in FAMILIES}
    if isinstance(name, str) and _plain(name) in plain:
        return FAMILIES[plain[_plain(name)]]
    otherwise = "Choose one of these, or pass the Jinja text itself."
    near = did_you_mean(_plain(str(name)), plain, otherwise, n=3, cutoff=0.5, show=plain.get)
    raise LorakitError("chat template family", got=repr(name), expected="one of " + ", ".join(FAMILIES), do=near)


def _plain(name: str) -> str:
    return re.sub(r"[\s._-]+", "", name).lower()


@cache
def _base_template() -> str:
    from ..models import base_model

    return (Path(base_model(log=lambda line: None).path) / "chat_template.jinja").read_text(encoding="utf-8")


def has_generation_marks(template: str) -> bool:
    """Whether a template says with ``{% generation %}`` what the assistant writes.

    Example:
        >>> has_generation_marks("{%- generation %}{{ message.content }}{% endgeneration %}")
        True
    """
    return _GENERATION.search(template) is not None


def training_variant(template: str) -> str | None:
    """trl's variant of a template with generation marks, or None where trl has none.

    It is what ``SFTTrainer(assistant_only_loss=True)`` swaps in for a template without marks.
    """
    return trl_training_template(template)


@cache
def markers_of(template: str) -> tuple[str, ...]:
    """The control strings a template writes, in order: ``<|im_start|>``, ``[INST]``, ``<end_of_turn>`` and their like.

    Example:
        >>> markers_of("{{ '<|im_start|>' + message['role'] }}[INST]")
        ('<|im_start|>', '[INST]')
    """
    return tuple(found for found in dict.fromkeys(_MARKER.findall(template)) if found not in _HTML_LIKE)


def template_text(template, tokenizer=None) -> str:
    """The Jinja text meant by a family, a family's name, a Jinja text, or None for the tokenizer's own.

    Raises:
        LorakitError: for an unknown family, or when the tokenizer has no template.
    """
    if template is None:
        own = getattr(tokenizer, "chat_template", None)
        if isinstance(own, dict):
            own = own.get("default")
        if not own:
            raise LorakitError(
                "chat template", got="a tokenizer without one", expected="a tokenizer of a chat model, or a template",
                do='Pass template="chatml" (see FAMILIES), or load the Instruct model\'s tokenizer.',
            )  # fmt: skip
        return own
    if isinstance(template, str) and ("{{" in template or "{%" in template):
        return template
    return find_family(template).template
