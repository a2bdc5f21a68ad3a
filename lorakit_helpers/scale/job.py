"""A training job as a file: what `lorakit train` is given, checked when it is read, the same again when it is written."""

import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from ..errors import LorakitError, did_you_mean
from ..files import atomic_write_text
from ..profiles import PROFILES, get_profile
from ..recipes import Recipe

__all__ = ["SCHEMA", "Job", "read_job", "write_job"]

#: The newest version of the file's form that this version of lorakit reads.
SCHEMA = 1

_MAX_BYTES = 1_000_000
_TYPES = {
    int: {"type": "integer"}, float: {"type": "number"}, bool: {"type": "boolean"}, str: {"type": "string"},
    bool | str: {"type": ["boolean", "string"]}, str | None: {"type": ["string", "null"]},
    tuple[str, ...]: {"type": "array", "items": {"type": "string"}},
}  # fmt: skip
_TEXT = {"type": ["string", "null"], "pattern": r"\S"}

#: JSON Schema of the file. Values of the recipe beyond their types are Recipe's own to check.
_FORM = {
    "type": "object",
    "required": ["schema"],
    "additionalProperties": False,
    "properties": {
        "schema": {"const": SCHEMA},
        "profile": {"enum": [*PROFILES, None]},
        "base": _TEXT,
        "engine": {"enum": ["unsloth", "plain"]},
        "data": {"type": "string", "pattern": r"\S"},
        "rows": {"type": ["integer", "null"], "minimum": 1},
        "validation": {"anyOf": [_TEXT, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}]},
        "output": {"type": "string", "pattern": r"\S"},
        "seed": {"type": ["integer", "null"], "minimum": 0},
        "recipe": {
            "type": "object",
            "additionalProperties": False,
            "properties": {known.name: _TYPES[known.type] for known in fields(Recipe) if known.name != "seed"},
        },
    },
}


@dataclass(frozen=True)
class Job:
    """One training: model, data, recipe, and where the adapter goes.

    Attributes:
        recipe: LoRA and training hyperparameters; None takes the profile's, else :class:`Recipe`'s defaults.
        profile: gives the base model and the device it must run on; or None.
        base: folder or Hub name of the base model; None takes the profile's.
        engine: ``"unsloth"`` or ``"plain"``.
        data: ``"tickets"``, ``"plain_style"``, or a chat file (.jsonl or .json, in any format ``lorakit lint`` knows).
        rows: the first so many rows only; None takes as many as the profile says, or all.
        validation: rows whose loss is measured after training: a chat file, or a share of the rows (above 0, below 1) that
            is then not trained on; None for none.
        output: the adapter's folder.
        seed: the recipe's; None takes it from there.
        schema: version of the file's form.

    Raises:
        LorakitError: for a value that cannot be, with its name.

    Example:
        >>> job = Job(Recipe(r=8), profile="smoke", seed=7)
        >>> print(job, job.recipe.seed)
        tickets on the smoke profile's model, unsloth, rank 8, seed 7 -> outputs/adapters/mine 7
    """

    recipe: Recipe | None = None
    profile: str | None = None
    base: str | None = None
    engine: str = "unsloth"
    data: str = "tickets"
    rows: int | None = None
    validation: str | float | None = None
    output: str = "outputs/adapters/mine"
    seed: int | None = None
    schema: int = SCHEMA

    def __post_init__(self):
        if self.recipe is None:
            object.__setattr__(self, "recipe", get_profile(self.profile).recipe if self.profile else Recipe())
        _check(self.to_dict(), "job")
        if self.seed is None:
            object.__setattr__(self, "seed", self.recipe.seed)
        object.__setattr__(self, "recipe", self.recipe.but(seed=self.seed))
        if self.profile is None and self.base is None:
            raise LorakitError(
                "job", got="neither profile nor base", expected="a model to train",
                do="Add for example `profile: cpu`, or `base:` with a model's folder or Hub name.",
            )  # fmt: skip

    def but(self, **changes) -> "Job":
        """A copy with some fields changed; an unknown field is a TypeError."""
        if "recipe" in changes and "seed" not in changes:
            changes["seed"] = None
        return replace(self, **changes)

    def to_dict(self) -> dict:
        """The file's content: plain values, the seed once, the recipe whole."""
        recipe = asdict(self.recipe)
        recipe["target_modules"] = list(recipe["target_modules"])
        own = recipe.pop("seed")
        seed = own if self.seed is None else self.seed
        names = ("schema", "profile", "base", "engine", "data", "rows", "validation", "output")
        return {name: getattr(self, name) for name in names} | {"seed": seed, "recipe": recipe}

    def __str__(self):
        model = self.base or f"the {self.profile} profile's model"
        return f"{self.data} on {model}, {self.engine}, rank {self.recipe.r}, seed {self.seed} -> {self.output}"


def read_job(path) -> Job:
    """Read and check a job's YAML file. What it leaves out of the recipe, the profile says, else :class:`Recipe`.

    Paths in it are relative to the folder the command is started in.

    Raises:
        LorakitError: with the file and the key, for anything that is not a right job.
    """
    path = Path(path)
    found = _parsed(path)
    if not isinstance(found, dict):
        raise LorakitError(f"{path}", got=type(found).__name__, expected="a job's keys and values", do=_EXAMPLE)
    schema = found.get("schema")
    if isinstance(schema, int) and not isinstance(schema, bool) and schema > SCHEMA:
        raise LorakitError(
            f"{path}, schema", got=schema, expected=f"at most {SCHEMA}, the newest this lorakit reads",
            do="The file was written for a newer lorakit: update lorakit, or write the file anew for this one.",
        )  # fmt: skip
    _check(found, str(path))
    start = get_profile(found["profile"]).recipe if found.get("profile") else Recipe()
    try:
        recipe = start.but(**found.pop("recipe", {}))
        return Job(recipe=recipe, **found)
    except LorakitError as error:
        raise LorakitError(f"{path}, {error.what}", got=error.got, expected=error.expected, do=error.do) from error


def write_job(job: Job, path) -> Path:
    """Write a job as YAML, whole or not at all, with every field of the recipe; :func:`read_job` gives it back."""
    import yaml

    return atomic_write_text(path, yaml.safe_dump(job.to_dict(), sort_keys=False, allow_unicode=True))


_EXAMPLE = "For example:  schema: 1  and on the next line  profile: cpu"


def _parsed(path: Path):
    import yaml

    class Loader(yaml.SafeLoader):
        """The safe loader, which refuses a key given twice and reads 2e-4 as a number, as YAML 1.2 does."""

        def construct_mapping(self, node, deep=False):
            names = [key.value for key, _ in node.value]
            twice = next((name for name in names if names.count(name) > 1), None)
            if twice is not None:
                raise LorakitError(f"{path}, {twice}", got="the key twice", expected="once", do="Remove one of them.")
            return super().construct_mapping(node, deep)

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))
    try:
        raw = path.read_bytes()
        if len(raw) > _MAX_BYTES:
            raise LorakitError(f"{path}", got=f"{len(raw):,} bytes", expected="a short YAML file", do="Is it the right file?")
        return yaml.load(raw.decode("utf-8"), Loader=Loader)
    except OSError as error:
        got = "a folder" if path.is_dir() else "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise LorakitError(f"job file {path}", got=got, expected="a YAML file", do="Check the path.") from error
    except UnicodeDecodeError as error:
        raise LorakitError(
            f"job file {path}", got="bytes that are not UTF-8", expected="UTF-8 text", do="Save it so."
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        got = getattr(error, "problem", None) or "text that is not YAML"
        raise LorakitError(f"{path}{where}", got=got, expected="YAML", do="Check indents, colons and quotes there.") from error
    except (RecursionError, ValueError) as error:
        if isinstance(error, LorakitError):
            raise
        raise LorakitError(f"{path}", got=str(error)[:80], expected="a job's YAML", do=_EXAMPLE) from error


def _check(found: dict, where: str) -> None:
    from jsonschema import Draft202012Validator

    problems = sorted(
        Draft202012Validator(_FORM).iter_errors(found), key=lambda e: (e.validator != "additionalProperties", str(e.path))
    )
    if not problems:
        return
    problem = problems[0]
    place = ".".join(map(str, problem.absolute_path))
    if problem.validator == "additionalProperties":
        known = problem.schema["properties"]
        extra = next(name for name in problem.instance if name not in known)
        what, got = f"{where}, {f'{place}.' if place else ''}{extra}", "an unknown key"
        do = did_you_mean(extra, known, "")
        expected, do = ("a known key", do) if do else ("one of " + ", ".join(known), "Remove it.")
        if place == "recipe" and extra == "seed":
            do = "Give seed at the top of the file, not in the recipe."
        raise LorakitError(what, got=got, expected=expected, do=do)
    if problem.validator == "required":
        raise LorakitError(f"{where}, schema", got="no such key", expected=f"schema: {SCHEMA}", do="Add it as the first line.")
    value, rule = problem.instance, problem.validator_value
    do = "Change the value."
    if problem.validator == "enum":
        names = [name for name in rule if name]
        expected, do = "one of " + ", ".join(names), did_you_mean(value, names, "Choose one.")
    else:
        expected = {
            "type": lambda: " or ".join(rule if isinstance(rule, list) else [rule]), "const": lambda: repr(rule),
            "minimum": lambda: f"at least {rule}", "pattern": lambda: "some text",
            "anyOf": lambda: "a file, or a share above 0 and below 1",
        }.get(problem.validator, lambda: str(rule))()  # fmt: skip
    raise LorakitError(f"{where}, {place}", got=repr(value)[:80], expected=expected, do=do)
