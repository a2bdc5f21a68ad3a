"""One page on how well a tickets adapter does, and on what it rests: ``lorakit evaluate``, ``lorakit compare``.

A report carries every row's result and a hash of the test data, so that two of them can be paired row by row later.
"""

import json
import math
import platform
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from .errors import LorakitError
from .evaluation import CompletionLoss, Difference, TicketScores, completion_loss, evaluate_tickets, paired_difference
from .files import atomic_write_text, fingerprint
from .tickets import Ticket, to_conversation

__all__ = [
    "BASELINE", "EvalReport", "check_adapter", "compare_reports", "data_hash", "evaluate_adapter", "read_report", "report_from",
    "report_on", "write_report",
]  # fmt: skip

#: The name under which the untrained base model is reported: the "before" of every adapter on the same tickets.
BASELINE = "base-model"
FORMAT = 1
RECITED_ROWS = 24
_LIBRARIES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "unsloth", "scikit-learn", "lorakit")


@dataclass(frozen=True)
class EvalReport:
    """The results of one adapter on one set of tickets, as it is stored.

    Attributes:
        adapter, base: folder names.
        data: ``{"name", "rows", "hash"}`` of the test tickets.
        metrics: by name, as :meth:`lorakit_helpers.evaluation.Metric.to_dict` gives them.
        loss: ``{"nats_per_token", "perplexity", "tokens"}`` on the right answers.
        recitation: as :meth:`lorakit_helpers.recitation.Recitation.to_dict` gives it, without the texts; None if not run.
        rows: one dict per ticket: ``id``, ``output``, ``reason``, ``loss`` and ``correct`` by metric.
        recipe, log: what ``lorakit_run.json`` in the adapter's folder says; None where it says nothing.
        environment: versions and hardware.
        seeds: of training (None where unknown) and of the intervals.
        seconds: the whole evaluation.
    """

    adapter: str
    base: str
    data: dict
    metrics: dict[str, dict]
    loss: dict
    recitation: dict | None
    rows: list[dict] = field(repr=False)
    recipe: dict | None
    log: dict | None = field(repr=False)
    environment: dict = field(repr=False)
    seeds: dict
    seconds: float
    format: int = FORMAT

    def __str__(self):
        lines = [f"{self.adapter} on {self.data['rows']} tickets of {self.data['name']} (data {self.data['hash']})"]
        for metric in self.metrics.values():
            lines.append(f"  {metric['name']:20} {metric['value']:6.1%} [{metric['low']:.1%}, {metric['high']:.1%}]")
        loss = self.loss
        lines.append(f"  loss {loss['nats_per_token']:.3f} nats per answer token, perplexity {loss['perplexity']:.2f}")
        if self.recitation:
            lines.append(f"  {self.recitation['sentence']}")
        return "\n".join(lines)

    def to_dict(self) -> dict:
        return asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False, indent=1, allow_nan=False)

    def values(self, name: str) -> np.ndarray:
        """One figure per ticket: ``"loss"``, or a metric by name."""
        return np.array([row["loss"] if name == "loss" else row["correct"][name] for row in self.rows], dtype=float)


def data_hash(tickets: list[Ticket]) -> str:
    """A hash of what is asked and what is right, in this order; file names and notes do not count."""
    return fingerprint([[t.id, t.ticket, t.answer] for t in tickets])


def check_adapter(adapter, base: str, *, any_name: bool = False) -> dict:
    """Make sure before anything is loaded that this is an adapter of this base, whole and with its tokenizer.

    Args:
        adapter: folder written by ``save_pretrained``.
        base: folder or Hub name of the base model.
        any_name: let a base of another name pass if every layer has the right shape.

    Returns:
        What ``lorakit_run.json`` says, ``{}`` where there is none.

    Raises:
        LorakitError: for a missing or broken file, no tokenizer, another base's name, or a layer of another shape.
    """
    folder = Path(adapter)
    config = _json(folder / "adapter_config.json", "adapter", "Run notebook 07, or check the path.")
    named = str(config.get("base_model_name_or_path"))
    if not any_name and _plain_name(named) != _plain_name(base):
        raise _other_base(folder, f"one trained on {named}", base)
    if not (folder / "tokenizer.json").is_file():
        raise LorakitError(
            f"adapter {folder}", got="no tokenizer.json", expected="the tokenizer it was trained with, saved beside it",
            do="Run tokenizer.save_pretrained on this folder, with the same chat template.",
        )  # fmt: skip
    _check_shapes(folder, base)
    notes = folder / "lorakit_run.json"
    return _json(notes, "run notes", "Remove the file, or train again.") if notes.is_file() else {}


def _plain_name(name: str) -> str:
    return Path(name).name.lower().removesuffix("-bnb-4bit").removesuffix("-unsloth")


def _other_base(folder, got: str, base: str) -> LorakitError:
    return LorakitError(
        f"adapter {folder}", got=got, expected=f"an adapter of {base}", do="Name the right base model with --base."
    )


def _json(path: Path, what: str, do: str) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise LorakitError(f"{what} {path.parent}", got=f"no {path.name} there", expected="that file", do=do) from error
    except (OSError, ValueError) as error:
        raise LorakitError(f"{what} {path}", got=str(error).splitlines()[0], expected="a JSON file", do=do) from error
    if not isinstance(found, dict):
        raise LorakitError(f"{what} {path}", got=type(found).__name__, expected="a JSON object", do=do)
    return found


#: An adapter matrix's side that must fit its layer, and the layer's number for it.
_SIDES = {
    "A": (1, "in_features"), "B": (0, "out_features"),
    "embedding_A": (1, "num_embeddings"), "embedding_B": (0, "embedding_dim"),
}  # fmt: skip


def _check_shapes(folder: Path, base: str) -> None:
    """Compare every adapter matrix with the base's layer of that name, without loading weights."""
    import torch
    from safetensors import SafetensorError, safe_open
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(base)
    except (OSError, ValueError) as error:
        raise LorakitError(
            f"base model {base}", got=str(error).splitlines()[0][:120], expected="a model's folder, or its name on the Hub",
            do="Pass the folder that `lorakit model` prints.",
        ) from error  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    layers, weights = dict(model.named_modules()), dict(model.named_parameters(remove_duplicate=False))
    try:
        with safe_open(folder / "adapter_model.safetensors", "pt") as file:
            shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118, not a dict
    except (OSError, SafetensorError) as error:
        raise LorakitError(
            f"adapter {folder}", got=str(error).splitlines()[0], expected="a whole adapter_model.safetensors",
            do="Train it again, or copy the folder once more.",
        ) from error  # fmt: skip
    for key, shape in shapes.items():
        name = key.removeprefix("base_model.model.")
        if name in weights:  # trained whole: peft's modules_to_save
            if shape != list(weights[name].shape):
                raise _other_base(folder, f"{name} of shape {shape} where the base has {list(weights[name].shape)}", base)
            continue
        name, _, matrix = name.removesuffix(".weight").rpartition(".lora_")
        if not name or name not in layers:
            raise _other_base(folder, f"a layer {name or key} that the base lacks", base)
        side, number = _SIDES.get(matrix, (0, ""))
        features = getattr(layers[name], number, None) if number else None
        if features not in (None, shape[side]):
            raise _other_base(folder, f"{name} for {shape[side]} features where the base has {features}", base)


def evaluate_adapter(
    adapter, tickets: list[Ticket], base: str, *, data_name="test", seen: list[Ticket] | None = None, batch_size=25,
    any_name=False, progress=None,
) -> EvalReport:  # fmt: skip
    """Load an adapter on its base, answer the tickets, and report.

    Args:
        adapter: its folder.
        tickets: the test tickets.
        base: folder or Hub name of the base model.
        data_name: what the tickets are called in the report.
        seen: tickets it was trained on, for the recitation check; None leaves it out.
        batch_size, progress: as for :func:`lorakit_helpers.evaluation.generate`.
        any_name: as for :func:`check_adapter`.

    Raises:
        LorakitError: as :func:`check_adapter`; when there are no tickets, or a loss is not a number.
    """
    from transformers import AutoTokenizer

    from .models import load_model

    if not tickets:
        raise LorakitError("test tickets", got="none", expected="at least one", do="Choose another file or split.")
    notes = check_adapter(adapter, base, any_name=any_name)
    model, _ = load_model(base, adapter)
    return report_on(
        model, AutoTokenizer.from_pretrained(adapter), tickets, adapter=Path(adapter).name, base=Path(base).name, notes=notes,
        data_name=data_name, seen=seen, batch_size=batch_size, progress=progress,
    )  # fmt: skip


def report_on(
    model, tokenizer, tickets: list[Ticket], *, adapter: str, base: str, notes: dict, data_name: str, seen=None, batch_size=25,
    progress=None,
) -> EvalReport:  # fmt: skip
    """The report on a model that is loaded; the arguments are those of :func:`evaluate_adapter`."""
    start = time.perf_counter()
    rows = [to_conversation(t) for t in tickets]
    loss = completion_loss(model, tokenizer, rows)
    wrong = np.flatnonzero(~np.isfinite(loss.per_row))
    if len(wrong):
        raise LorakitError(
            f"loss of {adapter}", got=f"NaN or infinite on {len(wrong)} of {len(rows)} tickets, {tickets[wrong[0]].id} first",
            expected="a number on every ticket", do="The weights are damaged: train again with a smaller learning rate.",
        )  # fmt: skip
    scores = evaluate_tickets(model, tokenizer, tickets, batch_size=batch_size, progress=progress)
    recited = _recited(model, tokenizer, seen, rows) if seen else None
    return report_from(
        scores, loss, tickets, adapter=adapter, base=base, notes=notes, data_name=data_name, recited=recited,
        seconds=time.perf_counter() - start,
    )  # fmt: skip


def report_from(
    scores: TicketScores, loss: CompletionLoss, tickets: list[Ticket], *, adapter: str, base: str, notes: dict, data_name: str,
    seconds: float, recited: dict | None = None,
) -> EvalReport:  # fmt: skip
    """The report on results that were measured already.

    Args:
        scores, loss: of the same tickets in the same order.
        adapter, base: names; :data:`BASELINE` for the untrained base model.
        notes: what ``lorakit_run.json`` says; for the base model, for example ``{"recipe": {"system_prompt": …}}``.
        data_name, recited, seconds: as :class:`EvalReport` holds them.
    """
    results = [
        {
            "id": t.id, "output": scores.outputs[i], "reason": scores.reasons[i], "loss": float(loss.per_row[i]),
            "correct": {name: int(values[i]) for name, values in scores.correct.items()},
        }
        for i, t in enumerate(tickets)
    ]  # fmt: skip
    return EvalReport(
        adapter, base, {"name": data_name, "rows": len(tickets), "hash": data_hash(tickets)},
        {name: metric.to_dict() for name, metric in scores.metrics.items()},
        {"nats_per_token": loss.loss, "perplexity": loss.perplexity, "tokens": loss.tokens},
        recited, results, notes.get("recipe"), notes.get("log"), _environment(),
        {"training": (notes.get("recipe") or {}).get("seed"), "intervals": 0}, seconds,
    )  # fmt: skip


def _recited(model, tokenizer, seen: list[Ticket], unseen: list[dict]) -> dict:
    from .recitation import recitation

    found = recitation(model, tokenizer, [to_conversation(t) for t in seen[:RECITED_ROWS]], unseen[:RECITED_ROWS])
    keep = ("seen_share", "unseen_share", "gap", "low", "high", "recites")
    return {key: value for key, value in found.to_dict().items() if key in keep} | {"sentence": str(found)}


def _environment() -> dict:
    from importlib.metadata import PackageNotFoundError, version

    from .hardware import detect

    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    hardware = detect()
    kept = {key: hardware.to_dict()[key] for key in ("device", "name", "cores", "bf16", "memory_total_gib")}
    return {"python": platform.python_version(), "system": platform.system(), "versions": found, "hardware": kept}


def read_report(path) -> EvalReport:
    """Read a report that ``lorakit evaluate`` wrote.

    Raises:
        LorakitError: when it is missing, no report, of another version, or its rows do not fit its own figures.
    """
    path = Path(path)
    again = "Give the .json file that `lorakit evaluate` wrote."
    found = _json(path, "report", again)
    names = set(EvalReport.__dataclass_fields__)
    if found.get("format") != FORMAT or set(found) != names:
        odd = sorted(names ^ set(found)) if found.get("format") == FORMAT else [f"format {found.get('format')}"]
        raise LorakitError(f"report {path}", got=", ".join(odd[:3]), expected=f"a report of format {FORMAT}", do=again)
    report = EvalReport(**found)
    try:
        n = report.data["rows"]
        sound = len(report.rows) == n and all(math.isfinite(row["loss"]) and row["id"] for row in report.rows)
        sound = sound and len({tuple(sorted(row["correct"])) for row in report.rows}) == 1
    except (KeyError, TypeError):
        sound = False
    if not sound:
        raise LorakitError(
            f"report {path}", got="rows that are missing or broken", expected="one whole row for each ticket",
            do="Run `lorakit evaluate` again.",
        )  # fmt: skip
    return report


def compare_reports(first: EvalReport, second: EvalReport) -> list[Difference]:
    """Paired differences, second minus first: the loss and every metric that is counted ticket by ticket.

    Raises:
        LorakitError: when they rest on different test data.
    """
    if first.data["hash"] != second.data["hash"]:
        raise LorakitError(
            "reports to compare", got=f"{_data(first)} and {_data(second)}", expected="the same test tickets in both",
            do="Evaluate both adapters with the same --data and --rows.",
        )  # fmt: skip
    a, b = {row["id"]: row for row in first.rows}, [row["id"] for row in second.rows]
    if list(a) != b:
        raise LorakitError(
            "reports to compare", got="other ticket ids", expected="the same rows in the same order", do="Evaluate both again."
        )
    unit = "nats per token"
    found = [paired_difference("loss", first.values("loss"), second.values("loss"), unit=unit, lower_is_better=True)]
    for name in first.rows[0]["correct"]:
        lower = name == "extra keys"
        found.append(paired_difference(name, first.values(name), second.values(name), lower_is_better=lower))
    return found


def _data(report: EvalReport) -> str:
    return f"{report.data['rows']} rows of {report.data['name']} ({report.data['hash']})"


def write_report(report: EvalReport, folder, page: str) -> tuple[Path, Path]:
    """Write ``<adapter>-<data>.json`` and ``.html``, each whole or not at all."""
    stem = f"{report.adapter}-{Path(report.data['name']).stem}"
    text = report.to_json()  # before anything is written
    return atomic_write_text(Path(folder) / f"{stem}.json", text), atomic_write_text(Path(folder) / f"{stem}.html", page)
