"""Training speed of both engines in one run: same rows, model and batch, each engine in a process of its own.

python -m lorakit_helpers.bench              # both, with the ratio
python -m lorakit_helpers.bench --engine plain --json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time

from .errors import LorakitError

__all__ = ["flops_per_step", "matmul_peak", "measure_engine", "run_both"]

WARM_UP_STEPS = 2


def matmul_peak(seconds: float = 1.0) -> float:
    """This machine's bf16 matrix-multiply speed in FLOP/s: the best of repeated 2048-cubed products."""
    import torch

    a, b = (torch.randn(2048, 2048, dtype=torch.bfloat16) for _ in range(2))
    best, stop = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < stop:
        start = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048**3 / (time.perf_counter() - start))
    return best


def flops_per_step(shape, setup, tokens: float, trained_tokens: float) -> float:
    """Floating-point operations of one LoRA step, as :func:`lorakit_helpers.scale.token_operations` counts them.

    Products with weights only, each counted once: attention scores and what gradient checkpointing computes again, which
    ``TokenOperations.total`` holds, are left out, and the LM head is needed only where the loss is.

    Args:
        shape: the model's :class:`~lorakit_helpers.memory.ModelShape`.
        setup: its :class:`~lorakit_helpers.memory.TrainSetup`; method, rank and targets count.
        tokens, trained_tokens: per step, padding not counted; the second is the part of the first that has a loss.

    Raises:
        LorakitError: for more trained tokens than tokens.
    """
    from .scale import token_operations

    each = token_operations(shape, setup, loss_share=trained_tokens / tokens)
    return tokens * (each.frozen_forward + each.frozen_backward + each.weight_gradients + each.adapters)


def measure_engine(engine: str, rows: int, *, library_defaults: bool = False, compiled: bool = True) -> dict:
    """Train one pass over the first ``rows`` training tickets and time it after the first steps, compiling left out.

    Args:
        engine: ``"unsloth"`` or ``"plain"``.
        rows: how many tickets.
        library_defaults: attention and data order as the libraries choose, instead of the course's recipe.
        compiled: whether Unsloth's layers are compiled; the plain engine's never are.
    """
    from .lab import setup_of
    from .memory import ModelShape
    from .models import base_model
    from .profiles import PROFILES
    from .tickets import answer_text, load_split, to_conversation
    from .training import train

    recipe = PROFILES["cpu"].recipe.but(logging_steps=1, save_steps=10_000, warmup_steps=2, torch_compile=compiled)
    least = (WARM_UP_STEPS + 1) * recipe.examples_per_step
    if rows < least:
        raise LorakitError("rows", got=rows, expected=f"at least {least}", do="The first steps are not timed; try 160.")
    if library_defaults:
        recipe = recipe.but(attn_implementation=None, group_by_length=False)
    tickets = load_split("train")[:rows]
    conversations, clock = [to_conversation(ticket) for ticket in tickets], []
    with tempfile.TemporaryDirectory() as scratch:
        run = train(
            recipe, conversations, base_model(log=lambda _: None).path, engine=engine, output_dir=scratch,
            resume=False, listeners=[lambda log: clock.append((log.step, time.perf_counter()))],
        )  # fmt: skip
    ends = {}
    for step, moment in clock:
        ends.setdefault(step, moment)
    seconds = ends[run.log.max_steps] - ends[WARM_UP_STEPS]
    share = 1 - WARM_UP_STEPS / run.log.max_steps
    shape = ModelShape.from_config(run.model.get_base_model().config)
    ends_of_turn = 2  # <|im_end|> and the line break after it, both trained
    trained = sum(len(run.tokenizer(answer_text(t.answer))["input_ids"]) + ends_of_turn for t in tickets)
    flops = flops_per_step(shape, setup_of(recipe, recipe.max_length, "cpu"), run.log.tokens * share, trained * share)
    return {
        "engine": engine, "library_defaults": library_defaults, "rows": rows, "steps": run.log.max_steps, "seconds": seconds,
        "examples_per_s": rows * share / seconds, "tokens_per_s": run.log.tokens * share / seconds,
        "flop_per_s": flops / seconds, "peak_gib": run.log.peak_gib, "losses": run.log.losses,
        "matmul_peak_flop_per_s": matmul_peak(),
    }  # fmt: skip


def _child(engine: str, rows: int, library_defaults: bool, compiled: bool) -> dict:
    command = [sys.executable, "-m", "lorakit_helpers.bench", "--engine", engine, "--rows", str(rows), "--json"]
    command += ["--library-defaults"] if library_defaults else []
    command += [] if compiled else ["--not-compiled"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise LorakitError(f"{engine} engine", got=last, expected="a finished run", do=f"Try: {' '.join(command)}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_both(rows: int = 160, *, also_matched: bool = False, compiled: bool = True) -> list[dict]:
    """Measure the course's default path, then the plain engine, one after the other; arguments as for :func:`measure_engine`.

    Returns:
        One dict per run: the default path, plain with the libraries' own defaults, and with ``also_matched`` plain with
        the course's attention and data order too. ``ratio`` is the default path's speed over that run's.
    """
    runs = [_child("unsloth", rows, False, compiled), _child("plain", rows, True, compiled)]
    if also_matched:
        runs.append(_child("plain", rows, False, compiled))
    for run in runs:
        run["ratio"] = runs[0]["examples_per_s"] / run["examples_per_s"]
    return runs


def describe(run: dict) -> str:
    """One run in one line."""
    name = run["engine"] + (" (library defaults)" if run["library_defaults"] else "")
    share = run["flop_per_s"] / run["matmul_peak_flop_per_s"]
    late = run["losses"][-5:]
    return (
        f"{name:28} {run['examples_per_s']:5.2f} examples/s  {run['tokens_per_s']:5.0f} tokens/s  {share:4.0%} of the bf16 "
        f"matmul peak  {run['peak_gib']:.2f} GiB peak  loss of the last {len(late)} steps {sum(late) / len(late):.3f}"
    )


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lorakit_helpers.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=["unsloth", "plain"], help="measure this one only, in this process")
    parser.add_argument("--rows", type=int, default=160, help="training tickets, one pass (default 160)")
    parser.add_argument("--library-defaults", action="store_true", help="attention and order as the libraries choose")
    parser.add_argument("--not-compiled", action="store_true", help="leave out torch.compile: quicker to begin, slower steps")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.engine:
        run = measure_engine(
            options.engine, options.rows, library_defaults=options.library_defaults, compiled=not options.not_compiled
        )
        print(json.dumps(run) if options.json else describe(run))
        return 0
    runs = run_both(options.rows, also_matched=True, compiled=not options.not_compiled)
    if options.json:
        print(json.dumps(runs))
    else:
        for run in runs:
            print(describe(run), f" default path is {run['ratio']:.2f}x this")
    return 0


if __name__ == "__main__":
    sys.exit(main())
