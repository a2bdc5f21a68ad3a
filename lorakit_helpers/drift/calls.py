"""Library calls in the course's code, found by reading it: imports are followed, nothing is run."""

import ast
import json
from dataclasses import dataclass
from pathlib import Path

from ..files import project_root

__all__ = ["CONVENTIONS", "METHODS", "RETURNS", "Call", "Use", "course_sources", "read_source"]

#: What a variable of this name (or ending in ``_name``) is in the course where an import does not say.
CONVENTIONS = {
    "tokenizer": ("transformers.PreTrainedTokenizerFast",),
    "model": ("peft.PeftModelForCausalLM", "peft.tuners.lora.LoraModel", "transformers.LlamaForCausalLM"),
    "trainer": ("trl.SFTTrainer",),
    "dataset": ("datasets.Dataset",),
}
#: Methods that are looked up on such a variable; by any other method it may be something else.
METHODS = frozenset((
    "generate", "save_pretrained", "from_pretrained", "merge_and_unload", "unload", "set_adapter", "load_adapter",
    "delete_adapter", "disable_adapter", "add_weighted_adapter", "add_adapter", "get_base_model", "get_nb_trainable_parameters",
    "get_memory_footprint", "dequantize", "gradient_checkpointing_enable", "enable_input_require_grads", "get_input_embeddings",
    "get_output_embeddings", "named_parameters", "apply_chat_template", "decode", "batch_decode", "encode", "tokenize", "pad",
    "convert_tokens_to_ids", "convert_ids_to_tokens", "train", "evaluate", "add_callback", "remove_callback",
    "get_train_dataloader", "map", "filter", "select", "shuffle", "train_test_split", "save_pretrained_gguf",
    "save_pretrained_merged",
))  # fmt: skip
#: Instances that a call gives; a call of a class gives an instance of it without being listed.
RETURNS = {
    "transformers.AutoTokenizer.from_pretrained": CONVENTIONS["tokenizer"],
    "transformers.AutoModelForCausalLM.from_pretrained": CONVENTIONS["model"],
    "transformers.AutoModelForCausalLM.from_config": CONVENTIONS["model"],
    "peft.get_peft_model": CONVENTIONS["model"],
    "peft.PeftModel.from_pretrained": CONVENTIONS["model"],
    "unsloth.FastLanguageModel.get_peft_model": CONVENTIONS["model"],
    "datasets.Dataset.from_list": CONVENTIONS["dataset"],
    "matplotlib.figure.Figure.add_subplot": ("matplotlib.axes.Axes",),
    "matplotlib.figure.Figure.subplots": ("matplotlib.axes.Axes",),
}


@dataclass(frozen=True)
class Use:
    """A library's name in use: ``paths`` has one dotted path, or several of which one must exist."""

    where: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Call:
    """A call of it.

    Attributes:
        where: file and line (in a notebook, cell and line).
        paths: dotted paths of the callee; several where a variable may be one of several classes.
        instance: whether the first parameter, self, is given by the object.
        positional: how many values are given by position; -1 when a star hides it.
        keywords: names given, those of a dictionary's double star included where the code spells them out.
    """

    where: str
    paths: tuple[str, ...]
    instance: bool
    positional: int
    keywords: tuple[str, ...]


@dataclass(frozen=True)
class _Thing:
    paths: tuple[str, ...]
    instance: bool = False


def course_sources(root: Path | None = None) -> dict[str, list[tuple[str, str]]]:
    """``{file: [(place, code), …]}`` of all notebooks, each with its solutions, and all modules of the package."""
    root = root or project_root()
    found = {}
    for path in sorted((root / "notebooks").glob("[0-9]*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [(f"{path.name} cell {i}", "".join(c["source"])) for i, c in enumerate(cells) if c["cell_type"] == "code"]
        solved = root / "notebooks" / "solutions" / f"{path.name[:2]}.py"
        if solved.is_file():
            code.append((f"solutions/{solved.name}", solved.read_text(encoding="utf-8")))
        found[path.name] = [(place, _without_magics(text)) for place, text in code]
    for path in sorted((root / "lorakit_helpers").rglob("*.py")):
        name = str(path.relative_to(root))
        found[name] = [(name, path.read_text(encoding="utf-8"))]
    return found


def _without_magics(text):
    return "\n".join("pass" if line.startswith(("%", "!")) else line for line in text.splitlines())


def read_source(pieces: list[tuple[str, str]], libraries) -> tuple[list[Use], list[Call]]:
    """The uses and calls of ``libraries`` (top-level module names) in pieces of code that share their names.

    Example:
        >>> uses, calls = read_source([("here", "from json import dumps as d\\nd([], indent=2)")], {"json"})
        >>> calls[0].paths, calls[0].positional, calls[0].keywords
        (('json.dumps',), 1, ('indent',))
    """
    reader = _Reader(frozenset(libraries))
    for place, text in pieces:
        reader.place = place
        reader.visit(ast.parse(text))
    return reader.uses, reader.calls


class _Reader(ast.NodeVisitor):
    """Walks in the order of the text. A scope maps a name to what it is (None: something else) and its dictionary's keys."""

    def __init__(self, libraries):
        self.libraries, self.place, self.uses, self.calls = libraries, "", [], []
        self.scopes, self.keys, self.returned = [{}], [{}], {}

    def _at(self, node):
        return f"{self.place}:{node.lineno}"

    def _bind(self, name, thing, keys=()):
        self.scopes[-1][name], self.keys[-1][name] = thing, tuple(keys)

    def _look(self, name):
        return next((scope[name] for scope in reversed(self.scopes) if name in scope), None)

    def visit_Import(self, node):
        for item in node.names:
            path = item.name if item.asname else item.name.split(".")[0]
            known = path.split(".")[0] in self.libraries
            if known:
                self.uses.append(Use(self._at(node), (item.name,)))
            self._bind(item.asname or path, _Thing((path,)) if known else None)

    def visit_ImportFrom(self, node):
        known = not node.level and node.module.split(".")[0] in self.libraries
        for item in node.names:
            path = f"{node.module}.{item.name}"
            if known:
                self.uses.append(Use(self._at(node), (path,)))
            self._bind(item.asname or item.name, _Thing((path,)) if known else None)

    def visit_FunctionDef(self, node):
        for outer in (*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d)):
            self.visit(outer)
        self._bind(node.name, None)
        self.returned[node.name] = _keys_in(node)
        self.scopes.append({})
        self.keys.append({})
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
            if argument:
                self._bind(argument.arg, _by_convention(argument.arg))
        for line in node.body:
            self.visit(line)
        self.scopes.pop()
        self.keys.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Assign(self, node):
        self.visit(node.value)
        for target in node.targets:
            self._assign(target, node.value)

    def visit_With(self, node):
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars is not None:
                self._assign(item.optional_vars, item.context_expr)
        for line in node.body:
            self.visit(line)

    def visit_For(self, node):
        self.visit(node.iter)
        self._assign(node.target, None)
        for line in (*node.body, *node.orelse):
            self.visit(line)

    def _assign(self, target, value):
        if isinstance(target, ast.Name):
            thing = self._resolve(value) if value is not None else None
            self._bind(target.id, thing or _by_convention(target.id), self._keys_of(value) if value is not None else ())
        elif isinstance(target, ast.Tuple | ast.List):
            for part in target.elts:
                self._assign(part, None)
        elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name) and _text(target.slice):
            name = target.value.id
            self.keys[-1][name] = (*self.keys[-1].get(name, ()), _text(target.slice))

    def _keys_of(self, value):
        """Keys of a dictionary that the code spells out, also as a choice or a union of several, or made by a function here."""
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
            if value.func.id == "dict":
                return [k.arg for k in value.keywords if k.arg]
            return self.returned.get(value.func.id, ())
        if isinstance(value, ast.Name):
            return next((keys[value.id] for keys in reversed(self.keys) if value.id in keys), ())
        if isinstance(value, ast.IfExp):
            return [*self._keys_of(value.body), *self._keys_of(value.orelse)]
        if isinstance(value, ast.BinOp):
            return [*self._keys_of(value.left), *self._keys_of(value.right)]
        return _keys(value) if isinstance(value, ast.Dict) else ()

    def visit_Attribute(self, node):
        thing = self._resolve(node)
        if thing and not thing.instance:
            self.uses.append(Use(self._at(node), thing.paths))
        self.generic_visit(node)

    def visit_Call(self, node):
        thing = self._resolve(node.func)
        if thing:
            starred = any(isinstance(a, ast.Starred) for a in node.args)
            keywords = [k.arg for k in node.keywords if k.arg]
            keywords += [key for k in node.keywords if not k.arg for key in self._keys_of(k.value)]
            count = -1 if starred else len(node.args)
            called = thing.instance and thing.paths[0].split(".")[-1][:1].isupper()  # the instance itself is called
            paths = tuple(f"{path}.__call__" for path in thing.paths) if called else thing.paths
            self.calls.append(Call(self._at(node), paths, thing.instance, count, tuple(dict.fromkeys(keywords))))
        self.generic_visit(node)

    def _resolve(self, node) -> _Thing | None:
        """What an expression is: a library's module, class or function, an instance of its class, or None."""
        if isinstance(node, ast.Name):
            return self._look(node.id)
        if isinstance(node, ast.Attribute):
            base = self._resolve(node.value)
            guessed = base and base.paths in CONVENTIONS.values() and base.instance
            if base is None or (guessed and node.attr not in METHODS):
                return None
            if base.instance and any(path.split(".")[-1][0].islower() for path in base.paths):
                return None  # an attribute of what a method holds: its class is not known
            return _Thing(tuple(f"{path}.{node.attr}" for path in base.paths), base.instance)
        if isinstance(node, ast.Call):
            callee = self._resolve(node.func)
            if callee is None:
                return None
            given = next((RETURNS[path] for path in callee.paths if path in RETURNS), None)
            if given:
                return _Thing(given, True)
            made = not callee.instance and callee.paths[0].split(".")[-1][:1].isupper()
            return _Thing(callee.paths, True) if made else None
        return None


def _by_convention(name):
    kind = next((kind for kind in CONVENTIONS if name == kind or name.endswith("_" + kind)), None)
    return _Thing(CONVENTIONS[kind], True) if kind else None


def _text(node):
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _keys_in(function):
    """Keys of the dictionary a function returns: written after ``return``, or built under one name."""
    value = getattr(function.body[-1], "value", None) if isinstance(function.body[-1], ast.Return) else None
    if isinstance(value, ast.Dict):
        return _keys(value)
    name, keys = value.id if isinstance(value, ast.Name) else None, ()
    for node in ast.walk(function) if name else ():
        if isinstance(node, ast.Assign):
            target = node.targets[0]
            if isinstance(target, ast.Name) and target.id == name and isinstance(node.value, ast.Dict):
                keys += _keys(node.value)
            elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name) and target.value.id == name:
                keys += (_text(target.slice),) if _text(target.slice) else ()
    return keys


def _keys(dictionary):
    return tuple(_text(key) for key in dictionary.keys if _text(key))
