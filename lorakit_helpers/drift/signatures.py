"""What a callable of an installed library accepts: from its signature, what it forwards to, or its source."""

import ast
import importlib
import importlib.util
import inspect
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FORWARDS", "LISTED", "UNSLOTH", "Accepts", "Gone", "accepted", "find", "unsloth_accepts"]

#: Where a callable hands its ``**kwargs``; what is read there counts as accepted.
FORWARDS = {
    "yaml.safe_dump": ("yaml.dump_all",),
    "transformers.AutoModelForCausalLM.from_pretrained": ("transformers.PreTrainedModel.from_pretrained",),
    "transformers.AutoModelForCausalLM.from_config": ("transformers.PreTrainedModel._from_config",),
    "transformers.AutoTokenizer.from_pretrained": ("transformers.PreTrainedTokenizerBase.from_pretrained",
                                                   "transformers.PreTrainedTokenizerBase._from_pretrained"),
    "transformers.AutoConfig.for_model": ("transformers.LlamaConfig", "transformers.PretrainedConfig"),
    "transformers.GenerationConfig": ("transformers.GenerationConfig.__init__",),
    "transformers.PreTrainedTokenizerFast": ("transformers.PreTrainedTokenizerFast.__init__",
                                             "transformers.PreTrainedTokenizerBase.__init__"),
    "transformers.LlamaForCausalLM.generate": ("transformers.GenerationConfig", "transformers.LlamaForCausalLM.forward"),
    "peft.PeftModelForCausalLM.generate": ("transformers.GenerationConfig", "transformers.LlamaForCausalLM.forward",
                                           "transformers.LlamaForCausalLM.generate"),
    "peft.PeftModelForCausalLM.__call__": ("transformers.LlamaForCausalLM.forward",),
    "matplotlib.ticker.MaxNLocator": ("matplotlib.ticker.MaxNLocator.set_params",),
    "papermill.execute_notebook": ("nbclient.NotebookClient",),
    "pygments.formatters.HtmlFormatter": ("pygments.formatter.Formatter.__init__",),
}  # fmt: skip

#: Keywords whose meaning the callable leaves to others, with who gives it: they cannot be looked up.
LISTED = {
    "bs4.BeautifulSoup.__call__": {"href"},  # any HTML attribute
    "matplotlib.patheffects.withStroke": {"linewidth", "foreground"},  # setters of the renderer's graphics context
}

_CPU, _LLAMA = "unsloth_zoo/cpu/loader.py", "unsloth/models/llama.py"
#: Unsloth's calls, and the definitions on a GPU and on a CPU that answer them: file, class or None, function; and where
#: that one hands its ``**kwargs``.
UNSLOTH = {
    "FastLanguageModel.from_pretrained": (
        ("unsloth/models/loader.py", "FastLanguageModel", "from_pretrained", (_LLAMA, "FastLlamaModel", "from_pretrained")),
        (_CPU, "FastCPUModel", "from_pretrained"),
    ),
    "FastLanguageModel.get_peft_model": (
        (_LLAMA, "FastLlamaModel", "get_peft_model"), (_CPU, "FastCPUModel", "get_peft_model"),
    ),
    "FastLanguageModel.for_inference": (
        (_LLAMA, "FastLlamaModel", "for_inference"), (_CPU, "FastCPUModel", "for_inference"),
    ),
    "save_pretrained_gguf": (("unsloth/save.py", None, "unsloth_save_pretrained_gguf"),),
    "save_pretrained_merged": (
        ("unsloth/save.py", None, "unsloth_save_pretrained_merged"),
        ("unsloth/save.py", None, "unsloth_generic_save_pretrained_merged"),
    ),
}  # fmt: skip


class Gone(Exception):
    """The library has no such name."""


@dataclass(frozen=True)
class Accepts:
    """Keywords a callable takes.

    Attributes:
        names: those it spells out.
        positional: how many values it takes by position, self included; -1 for any number.
        open: whether it takes any keyword (``**kwargs``) and nothing here says which ones it reads.
        how: "signature", "forwarded", "properties", "source" or "documentation".
    """

    names: frozenset[str]
    positional: int
    open: bool
    how: str


def find(path: str):
    """The object at a dotted path; modules are imported on the way.

    Raises:
        Gone: when there is none.

    Example:
        >>> find("json.dumps").__name__
        'dumps'
    """
    parts = path.split(".")
    try:
        found = importlib.import_module(parts[0])
    except ImportError as error:
        raise Gone(f"{parts[0]} cannot be imported ({error})") from error
    for i, part in enumerate(parts[1:], 2):
        try:
            found = getattr(found, part)
        except AttributeError:
            try:
                found = importlib.import_module(".".join(parts[:i]))
            except ImportError:
                raise Gone(f"{'.'.join(parts[: i - 1])} has no {part}") from None
    return found


def accepted(path: str) -> Accepts:
    """What the callable at ``path`` accepts.

    Raises:
        Gone: when there is no such name.
    """
    target = find(path)
    if path.endswith(".__call__"):  # a model is called through torch's own __call__
        target = getattr(find(path.removesuffix(".__call__")), "forward", target)
    try:
        parameters = inspect.signature(target).parameters.values()
    except (ValueError, TypeError):  # compiled code: its documentation is all there is
        text = inspect.getdoc(target) or ""  # "empty(*size, *, out=None, …) -> Tensor", and below "dtype (…, optional): …"
        words = frozenset(re.findall(r"[A-Za-z_]\w*", text.split("\n\n")[0]) + re.findall(r"^\s*(\w+) ?[(:]", text, re.M))
        return Accepts(words, -1, not words, "documentation")
    names, positional, has_kwargs = _spelled(parameters)
    if not has_kwargs:
        return Accepts(names, positional, False, "signature")
    properties = _properties(target)
    if properties:
        return Accepts(names | properties, positional, False, "properties")
    if path not in FORWARDS:
        return Accepts(names | LISTED.get(path, set()), positional, path not in LISTED, "signature")
    for other in FORWARDS[path]:
        names |= _read_there(find(other)) | _properties(find(other))
    return Accepts(names, -1, False, "forwarded")


def _properties(target) -> set[str]:
    """What a class takes by keyword without spelling it out: a widget its traits, a matplotlib artist what has a setter."""
    if not inspect.isclass(target):
        return set()
    if hasattr(target, "class_trait_names"):
        return set(target.class_trait_names())
    artist = any(f"{base.__module__}.{base.__name__}" == "matplotlib.artist.Artist" for base in target.__mro__)
    return {name.removeprefix("set_") for name in dir(target) if name.startswith("set_")} if artist else set()


def _spelled(parameters):
    parameters = list(parameters)
    kinds = [p.kind for p in parameters]
    names = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    several = inspect.Parameter.VAR_POSITIONAL in kinds
    positional = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    return frozenset(names), -1 if several else positional, inspect.Parameter.VAR_KEYWORD in kinds


def _read_there(target) -> frozenset[str]:
    """Parameters of a callable, and the names its source takes out of ``kwargs``; a configuration class's attributes."""
    names, _, _ = _spelled(inspect.signature(target).parameters.values())
    try:
        return names | _taken(ast.parse(textwrap.dedent(inspect.getsource(target))))
    except (OSError, TypeError):  # no source at hand
        return names


def _taken(tree) -> set[str]:
    """Constants in ``kwargs.pop("x")``, ``kwargs.get("x")`` and ``kwargs["x"]`` (or ``…_kwargs``)."""
    found = set()
    for node in ast.walk(tree):
        holder, key = None, None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            holder, key = (node.func.value, node.args[0]) if node.func.attr in ("pop", "get", "setdefault") else (None, None)
        elif isinstance(node, ast.Subscript):
            holder, key = node.value, node.slice
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
            holder, key = node.comparators[0], node.left
        if isinstance(holder, ast.Name) and holder.id.endswith(("kwargs", "options")) and isinstance(key, ast.Constant):
            found.add(key.value)
    return found


def unsloth_accepts(file: str, owner: str | None, function: str, *forwards, root: Path | None = None) -> Accepts:
    """What a function of Unsloth accepts, read from its source: its GPU classes cannot be imported without a GPU.

    What goes through ``**kwargs`` counts where the function, or one of ``forwards``, takes it out of them by name.

    Args:
        file: below the folder that holds the packages.
        owner: class that holds the function, None for a function of the module.
        function: its name.
        *forwards: ``(file, owner, function)`` of those it hands its ``**kwargs``.
        root: that folder; None asks the installed package.

    Raises:
        Gone: when there is no such file, class or function.
    """
    found = _definition(file, owner, function, root)
    names, count = _spelled_in(found.args)
    if found.args.kwarg:
        names |= _taken(found)
        for place in forwards:
            names |= _taken(_definition(*place, root))
    return Accepts(frozenset(names), count, False, "source")


def _definition(file, owner, function, root):
    path = (root or Path(importlib.util.find_spec("unsloth").origin).parents[1]) / file
    if not path.is_file():
        raise Gone(f"unsloth has no {file}")
    body = ast.parse(path.read_text(encoding="utf-8")).body
    if owner:
        body = next((node.body for node in body if isinstance(node, ast.ClassDef) and node.name == owner), [])
    found = next((node for node in body if isinstance(node, ast.FunctionDef) and node.name == function), None)
    if found is None:
        raise Gone(f"{file} has no {f'{owner}.' if owner else ''}{function}")
    return found


def _spelled_in(arguments):
    names = {argument.arg for argument in (*arguments.args, *arguments.kwonlyargs)}
    return names, -1 if arguments.vararg else len(arguments.posonlyargs) + len(arguments.args)
