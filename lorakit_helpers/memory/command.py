"""The job ``lorakit estimate``: the memory of one training setup, as text or JSON."""

import json
import re
from pathlib import Path

from .catalogue import find_model
from .estimate import estimate
from .gpus import Gpu, find_gpu
from .planning import plan
from .setup import PROJECTIONS, TrainSetup
from .shape import ModelShape
from .simulate import simulate

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    """The command's arguments; values are checked by what they are handed to, which knows the nearest names."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="of the catalogue, own or Hub name, e.g. Llama-3.1-8B, or a folder with config.json",
    )
    parser.add_argument("--method", default="qlora", help="full, lora or qlora (default qlora)")
    parser.add_argument("--rank", type=int, default=16, help="rank of the adapters (default 16)")
    parser.add_argument(
        "--targets", nargs="+", default=[], metavar="NAME", help="adapted layers (default: all seven usual ones)"
    )
    parser.add_argument("--batch", type=int, default=1, help="sequences in one forward pass (default 1)")
    parser.add_argument("--seq", type=int, default=512, help="tokens of a sequence (default 512)")
    parser.add_argument("--checkpointing", action="store_true", help="gradient checkpointing")
    parser.add_argument("--fused-loss", action="store_true", help="the loss in chunks, as Unsloth and Liger compute it")
    parser.add_argument("--optimizer", default="adamw", help="adamw, adamw_8bit, paged_adamw_8bit, … (default adamw)")
    parser.add_argument("--weights", default="bf16", help="type of the weights: bf16, fp16 or fp32 (default bf16)")
    parser.add_argument("--adapters", default="fp32", help="type of the adapters: fp32 or bf16 (default fp32)")
    parser.add_argument("--attention", default="flash", help="flash, sdpa or eager (default flash)")
    parser.add_argument("--simulate", action="store_true", help="run the real model's code without weights as well (seconds)")
    parser.add_argument("--gpu", help='a card by name, e.g. "RTX 3060", or its memory in GiB')
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(call=run)


def run(options) -> int:
    """Estimate, perhaps simulate, print; returns the exit code."""
    name, shape = _shape(options.model)
    setup, gpu = _setup(options), _gpu(options.gpu)
    answers = [estimate(shape, setup)]
    if options.simulate:
        answers.append(simulate(shape, setup))
    plans = plan(shape, gpu.memory_gib, setup) if gpu else None
    if options.json:
        print(json.dumps(_as_dict(name, shape, setup, answers, gpu, plans), indent=2))
    else:
        print("\n".join(_lines(name, shape, setup, answers, gpu, plans)))
    return 0


def _shape(name):
    folder = Path(name)
    if (folder / "config.json").is_file():
        from transformers import AutoConfig

        return folder.name, ModelShape.from_config(AutoConfig.from_pretrained(folder))
    entry = find_model(name)
    return entry.name, entry.shape


def _setup(options) -> TrainSetup:
    targets = [part for text in options.targets for part in re.split(r"[,\s]+", text) if part]
    return TrainSetup(
        method=options.method, r=options.rank, target_modules=_targets(targets), micro_batch=options.batch,
        seq_len=options.seq, gradient_checkpointing=options.checkpointing, optimizer=options.optimizer,
        weights_dtype=options.weights, adapter_dtype=options.adapters, fused_loss=options.fused_loss,
        attention=options.attention,
    )  # fmt: skip


def _targets(names):
    if names in (["all-linear"], ["all"]):
        return "all-linear"
    return tuple(names) or PROJECTIONS


def _gpu(text) -> Gpu | None:
    if text is None:
        return None
    try:
        gib = float(text)
    except ValueError:
        return find_gpu(text)
    return Gpu(f"a card of {gib:g} GiB", round(gib) if gib == gib and abs(gib) < 1e9 else 0, gib)


def _trained(shape, setup) -> int:
    if setup.method == "full":
        return shape.total_params
    return shape.trainable_params(setup.r, shape.adapted(setup.target_modules))


def _as_dict(name, shape, setup, answers, gpu, plans) -> dict:
    found = {
        "model": name, "total_params": shape.total_params, "trainable_params": _trained(shape, setup),
        "setup": setup.to_dict(), "estimate": answers[0].to_dict(), "simulation": None, "gpu": None,
    }  # fmt: skip
    if len(answers) > 1:
        found["simulation"] = answers[1].to_dict()
    if gpu:
        found["gpu"] = gpu.to_dict() | {
            "fits": plans.fits, "room_gib": answers[0].room_gib(gpu.memory_gib), "largest": plans.largest,
            "ladder": [_rung(rung) for rung in plans.ladder],
        }  # fmt: skip
    return found


def _rung(rung) -> dict:
    return {
        "action": rung.action, "cost": rung.cost, "saves_gib": rung.saves_gib, "needed_gib": rung.estimate.needed_gib,
        "fits": rung.fits,
    }  # fmt: skip


def _lines(name, shape, setup, answers, gpu, plans):
    trained = _trained(shape, setup)
    yield f"{name}: {shape.total_params:,} parameters, {trained:,} trained ({trained / shape.total_params:.2%})"
    yield f"{'GiB (2^30 bytes)':18}" + "".join(f"{answer.how:>14}" for answer in answers)
    for part in answers[0].parts:
        yield f"  {part:16}" + "".join(f"{answer.parts[part]:14.3f}" for answer in answers)
    yield f"  {'peak allocated':16}" + "".join(f"{answer.total_gib:14.3f}" for answer in answers)
    yield f"  {'peak falls at':16}" + "".join(f"{answer.peak_at:>14}" for answer in answers)
    first = answers[0]
    yield f"Beside it, allowed for: {first.context_gib:.2f} GiB for CUDA, {first.slack_gib:.2f} GiB for fragments."
    if gpu is None:
        return
    yield f"{gpu}. {plans}"
    if plans.fits:
        most = ", ".join(f"{field} {value:,}" for field, value in plans.largest.items() if value)
        yield f"The most that fits, each alone: {most}."
    for rung in plans.changes:
        yield f"  {'fits' if rung.fits else 'not yet'}: {rung}"
