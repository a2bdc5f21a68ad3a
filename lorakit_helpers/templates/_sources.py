"""Chat templates where the installed packages keep them, read as text: nothing is imported and nothing is copied here."""

import ast
import importlib.util
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..errors import LorakitError, did_you_mean

__all__ = ["package_version", "trl_template", "trl_training_template", "unsloth_template", "unsloth_templates"]


def package_version(package: str) -> str:
    """The installed version of a package, or ``"not installed"``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _folder(package: str) -> Path:
    """Where a package is installed. ``find_spec`` of a top-level name looks it up without running it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise LorakitError(
            f"package {package}", got="not installed", expected="the package that carries this chat template",
            do="Run `pip install --no-deps -r requirements/cpu.lock` in this environment (on a GPU `pip install '.[gpu]'`).",
        )  # fmt: skip
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def trl_template(name: str) -> str:
    """``chat_templates/NAME.jinja`` of the installed trl.

    Raises:
        LorakitError: when this trl has no such file.
    """
    folder = _folder("trl") / "chat_templates"
    path = folder / f"{name}.jinja"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.jinja"))
        raise LorakitError(
            f"trl {package_version('trl')}, chat_templates/{name}.jinja",
            got="no such file",
            expected=f"one of {len(known)} there",
            do=did_you_mean(name, known, "Install the trl that this course pins.", n=3),
        )
    return path.read_text(encoding="utf-8")


@cache
def trl_training_template(template: str) -> str | None:
    """What ``trl.chat_template_utils.get_training_chat_template`` gives for a template without generation marks.

    trl knows a template by its text being exactly one of its files, and then trains with ``NAME_training.jinja``.

    Returns:
        The training variant, or None where trl has none (its SFTTrainer then refuses ``assistant_only_loss``).
    """
    for path in sorted((_folder("trl") / "chat_templates").glob("*_training.jinja")):
        original = path.with_name(path.name.replace("_training", ""))
        if original.is_file() and original.read_text(encoding="utf-8") == template:
            return path.read_text(encoding="utf-8")
    return None


@cache
def unsloth_templates() -> dict[str, str]:
    """Every template in Unsloth's ``chat_templates.py``, by Unsloth's own name, default system text filled in.

    ``import unsloth`` patches trl and transformers in the whole process, so the module's source is read instead and only
    its string assignments are evaluated: literals, names of earlier strings, ``+``, ``.replace(…)`` and the tuples
    stored in ``CHAT_TEMPLATES``. Anything else there is passed over.
    """
    path = _folder("unsloth") / "chat_templates.py"
    names: dict[str, object] = {}
    tables: dict[str, dict] = {"CHAT_TEMPLATES": {}, "DEFAULT_SYSTEM_MESSAGE": {}}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.Assign) or len(node.targets) != 1:
            continue
        target, value = node.targets[0], _value(node.value, names, tables)
        if isinstance(target, ast.Name):
            names[target.id] = value
        elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name) and target.value.id in tables:
            tables[target.value.id][ast.literal_eval(target.slice)] = value
    found = {}
    for name, entry in tables["CHAT_TEMPLATES"].items():
        if isinstance(entry, tuple) and isinstance(entry[0], str):
            default = tables["DEFAULT_SYSTEM_MESSAGE"].get(name)
            # as Unsloth's own _change_system_message does when no other text is given
            default = default.replace("\\", "\\\\").replace("'", r"\'") if isinstance(default, str) else ""
            found[name] = entry[0].replace("{system_message}", default)
    return found


def unsloth_template(name: str) -> str:
    """One template of :func:`unsloth_templates`.

    Raises:
        LorakitError: when the installed Unsloth does not carry it, or keeps it in a way this cannot read.
    """
    known = unsloth_templates()
    if name not in known:
        raise LorakitError(
            f"unsloth {package_version('unsloth')}, chat template {name}",
            got="not found",
            expected=f"one of {len(known)} there",
            do=did_you_mean(name, known, "Install the Unsloth that this course pins.", n=3),
        )
    return known[name]


def _value(node, names: dict, tables: dict):
    """The value of a constant string expression (or a tuple of them), else None."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return names.get(node.id)
        case ast.Tuple():
            return tuple(_value(part, names, tables) for part in node.elts)
        case ast.BinOp(op=ast.Add()):
            left, right = _value(node.left, names, tables), _value(node.right, names, tables)
            return left + right if isinstance(left, str) and isinstance(right, str) else None
        case ast.Subscript(value=ast.Name(id=table), slice=ast.Constant(value=key)) if table in tables:
            return tables[table].get(key)
        case ast.Call(func=ast.Attribute(value=base, attr="replace"), args=[old, new], keywords=[]):
            text, old, new = (_value(part, names, tables) for part in (base, old, new))
            return text.replace(old, new) if all(isinstance(part, str) for part in (text, old, new)) else None
    return None
