"""Where the threshold of :mod:`~lorakit_helpers.recitation` comes from: ``python -m lorakit_helpers.recitation_report``.

Trains an adapter that must recite (16 rows, 15 times over) and one that should not (as many steps on 240 rows, each seen
once), and measures both, and the base model, on rows they saw and rows they did not.
"""

import argparse
import json
import sys
import tempfile
import time
from importlib import import_module

from .recitation import PARTS, recitation

__all__ = ["main", "measure"]

SEEN, UNSEEN = 16, 45
TASKS = ("tickets", "plain_style")
KINDS = {"overfit": (16, 15.0), "good": (240, 1.0), "base": (0, 0.0)}


def measure(kind: str, task: str = TASKS[0], *, rows=None, epochs=None, first: int = 0, seed: int = 42, parts=PARTS) -> dict:
    """Train one kind of adapter and measure its recitation.

    Args:
        kind: one of :data:`KINDS`.
        task: one of :data:`TASKS`.
        rows, epochs: None takes the kind's own.
        first: the first training row that is used.
        seed: of the training.
        parts: of :data:`~lorakit_helpers.recitation.PARTS`.
    """
    from .models import base_model, load_model
    from .profiles import PROFILES
    from .training import train

    data, base = import_module(f".{task}", __package__), base_model(log=lambda _: None).path
    train_rows = [data.to_conversation(row) for row in data.load_split("train")][first:]
    unseen = [data.to_conversation(row) for row in data.load_split("test")[:UNSEEN]]
    own_rows, own_epochs = KINDS[kind]
    rows, epochs = own_rows if rows is None else rows, own_epochs if epochs is None else epochs
    found = {"kind": kind, "task": task, "rows": rows, "epochs": epochs}
    model, tokenizer = (None, None) if rows else load_model(base)
    with tempfile.TemporaryDirectory() as scratch:
        if rows:
            recipe = PROFILES["cpu"].recipe.but(
                num_train_epochs=epochs,
                torch_compile=False,
                save_steps=10_000,
                logging_steps=5,
                max_length=384,
                seed=seed,
            )
            start = time.perf_counter()
            run = train(recipe, train_rows[:rows], base, output_dir=scratch, resume=False)
            run.save(f"{scratch}/adapter")
            found |= {"train_s": time.perf_counter() - start, "loss": run.log.losses[-1], "steps": run.log.max_steps}
            del run
            model, tokenizer = load_model(base, f"{scratch}/adapter")
        for part in parts:
            result = recitation(model, tokenizer, train_rows[:SEEN], unseen, part=part)
            print(f"{task}, {kind}, {part}: {result}", file=sys.stderr, flush=True)
            known = ("seen_share", "unseen_share", "gap", "low", "high", "recites")
            found[part] = {name: value for name, value in result.to_dict().items() if name in known}
            found[part]["longest"] = result.longest.text
    return found


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lorakit_helpers.recitation_report", description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=[*KINDS, "all"], default="all", help="which model (default all)")
    parser.add_argument("--task", choices=TASKS, default=TASKS[0], help="whose rows (default tickets)")
    parser.add_argument("--rows", type=int, help="training rows, instead of the kind's own")
    parser.add_argument("--first", type=int, default=0, help="the first training row that is used (default 0)")
    parser.add_argument("--seed", type=int, default=42, help="of the training (default 42)")
    parser.add_argument("--epochs", type=float, help="passes over them, instead of the kind's own")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    kinds = list(KINDS) if options.kind == "all" else [options.kind]
    found = [measure(kind, options.task, rows=options.rows, epochs=options.epochs, first=options.first, seed=options.seed)
             for kind in kinds]  # fmt: skip
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    print(f"{'model':8} {'rows':>5} {'epochs':>6}  {'part':13} {'seen':>6} {'unseen':>6}  gap (points)")
    for run in found:
        for part in PARTS:
            m = run[part]
            print(
                f"{run['kind']:8} {run['rows']:5} {run['epochs']:6.0f}  {part:13} {m['seen_share']['value']:6.1%} "
                f"{m['unseen_share']['value']:6.1%}  {100 * m['gap']:+.1f} [{100 * m['low']:+.1f}, {100 * m['high']:+.1f}]"
                f"{'  recites' if m['recites'] else ''}"
            )
    return 0


if __name__ == "__main__":
    from .start import start as quiet

    quiet("cpu")
    sys.exit(main())
