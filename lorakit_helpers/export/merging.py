"""Merge an adapter into its base: one standalone 16-bit model with tokenizer, chat template, stop token and model card."""

import glob
import json
from pathlib import Path

from ..errors import LorakitError
from ..evalreport import EvalReport, check_adapter, read_report
from ..files import atomic_folder, atomic_write_text, need_space
from ..models import MANIFEST
from ..profiles import SMALL_LICENCE, SMALL_MODEL

__all__ = ["check_vocabulary", "merge_adapter", "merge_in_place", "model_card", "published"]

BITS16 = 2  # bytes a parameter


def merge_adapter(adapter, base: str, folder, *, reports=None) -> Path:
    """Merge an adapter into its 16-bit base and save the result standalone.

    ``W + (alpha / r) B A`` takes the place of every adapted weight (LoRA paper, arXiv:2106.09685, section 4.1); the sum is
    rounded to 16 bits once. The folder is written whole or not at all.

    Args:
        adapter: folder of a peft adapter with its tokenizer.
        base: folder or Hub name of the base model.
        folder: where the merged model goes; what is there is replaced.
        reports: folder of evaluation reports; the newest on this very training goes into the model card.

    Returns:
        ``folder``.

    Raises:
        LorakitError: for an adapter of another base, a vocabulary that was changed, or too little disk.
    """
    from transformers import AutoTokenizer, GenerationConfig

    from ..models import load_model

    notes = check_adapter(adapter, base)
    report = _report_on(Path(adapter).name, notes, reports) if reports else None
    card = model_card(Path(adapter).name, base, notes, report)
    tokenizer = AutoTokenizer.from_pretrained(str(adapter))
    check_vocabulary(tokenizer, base)
    model, _ = load_model(base, adapter)
    parameters = sum(p.numel() for name, p in model.named_parameters() if "lora_" not in name)
    need_space(folder, 1.1 * parameters * BITS16 / 2**30, "the merged model")
    merged = merge_in_place(model)
    merged.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=merged.config.bos_token_id
    )
    with atomic_folder(folder) as temporary:
        merged.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        atomic_write_text(temporary / "README.md", card)
    return Path(folder)


def merge_in_place(model):
    """Merge the active adapter of a loaded peft model into its base and drop it; peft's ``merge_and_unload``.

    Into a 4-bit base the sum is rounded to 4 bits again: part of what was learned is lost. Then this warns; measure it
    with :mod:`lorakit_helpers.export.ladder`.

    Returns:
        The plain model.
    """
    import warnings

    if getattr(model.get_base_model(), "is_quantized", False):
        warnings.warn(
            "merging into a quantized base rounds the merged weights to few bits again and loses part of what was learned: "
            "load the base in 16 bit to merge",
            stacklevel=2,
        )
    return model.merge_and_unload(safe_merge=True)


def check_vocabulary(tokenizer, base: str) -> None:
    """Raise when the tokenizer has another vocabulary than the base model's.

    Tokens added for training have rows in the output layer that a merge of the projections does not carry over.

    Raises:
        LorakitError: naming tokens that were added or are missing.
    """
    from transformers import AutoTokenizer

    own, known = tokenizer.get_vocab(), AutoTokenizer.from_pretrained(base).get_vocab()
    odd = sorted(token for token in own.keys() | known.keys() if own.get(token) != known.get(token))
    if odd:
        raise LorakitError(
            "vocabulary of the adapter's tokenizer", got=f"{len(odd)} tokens that differ from the base's, {odd[0]!r} first",
            expected=f"the {len(known)} tokens of {Path(base).name}",
            do="Train without added tokens: words the tokenizer has, in angle brackets or not, can mark anything.",
        )  # fmt: skip


def _report_on(name: str, notes: dict, folder) -> EvalReport | None:
    """The newest report in a folder on this very training: same name, recipe and log; None where the notes tell neither."""
    same = (name, notes.get("recipe"), notes.get("log"))
    if not all(same):
        return None
    paths = Path(folder).glob(f"{glob.escape(name)}-*.json")
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            report = read_report(path)
        except LorakitError:  # a merge does not fail for a report that cannot be read
            continue
        if (report.adapter, report.recipe, report.log) == same:
            return report
    return None


def published(base: str) -> dict:
    """A base model's name and licence, from its own model card where there is one.

    Args:
        base: its folder or Hub name.

    Returns:
        ``base_model``, ``license`` as the Hub writes it (``"apache-2.0"``, ``"llama3.1"``), and ``license_name`` and
        ``license_link`` where the card has them. Where no card says it, the licence is ``"other"``.
    """
    from huggingface_hub import try_to_load_from_cache

    folder = Path(base)
    if (folder / MANIFEST).is_file():
        return {"base_model": SMALL_MODEL, "license": SMALL_LICENCE}
    card = folder / "README.md" if folder.is_dir() else try_to_load_from_cache(base, "README.md")
    said = _front_matter(Path(card)) if isinstance(card, str | Path) else {}
    kept = {key: said[key] for key in ("license", "license_name", "license_link") if said.get(key)}
    if not kept.get("license"):
        kept = {"license": "other", "license_name": "that-of-the-base-model"}
    return {"base_model": folder.name if folder.is_dir() else base, **kept}


def _front_matter(path: Path) -> dict:
    """What a model card says of itself in its first lines; ``{}`` where it is missing or broken."""
    import yaml
    from huggingface_hub import metadata_load

    try:
        return metadata_load(path) or {}
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def model_card(name: str, base: str, notes: dict, report: EvalReport | None = None) -> str:
    """A model card in Markdown: what it is, how it was made, how good it is, its licence (the base model's).

    Args:
        name: of the adapter.
        base: folder or Hub name of the base model.
        notes: what ``lorakit_run.json`` says; may be empty.
        report: an :class:`~lorakit_helpers.evalreport.EvalReport` with figures for it, or None.
    """
    import yaml

    recipe, head = notes.get("recipe") or {}, published(base) | {"library_name": "transformers"}
    lines = [
        "---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(), "---", "", f"# {name}", "",
        f"{head['base_model']} with the LoRA adapter `{name}` merged in (16 bit). Its licence is the base model's.", "",
        "## Training", "",
    ]  # fmt: skip
    lines += [f"- {key}: {json.dumps(value)}" for key, value in sorted(recipe.items())] or [
        "The adapter's folder does not say."
    ]
    if notes.get("key"):
        lines.append(f"- fingerprint of recipe, rows and base: {notes['key']}")
    lines += ["", "## Results", ""]
    if report is None:
        lines.append("Not measured.")
    else:
        lines.append(
            f"Base and adapter, before merging, on {report.data['rows']} tickets of {report.data['name']} "
            f"(data {report.data['hash']}), with 95 % intervals:"
        )
        lines += [""] + [
            f"- {m['name']}: {m['value']:.1%} [{m['low']:.1%}, {m['high']:.1%}]" for m in report.metrics.values()
        ]  # fmt: skip
    return "\n".join(lines) + "\n"
