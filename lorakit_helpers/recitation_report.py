"""Where the threshold of :mod:`~lorakit_helpers.recitation` comes from: ``python -m lorakit_helpers.recitation_report``.

Trains an adapter that must recite (16 plain-style pairs, 30 times over) and one that should not (the same steps on 240
pairs, each seen twice), and measures both, and the base model, on rows they saw and rows they did not.
"""

import argparse
import json
import sys
import tempfile
import time

from .recitation import PARTS, recitation

__all__ = ["main", "measure"]

SEEN, UNSEEN = 16, 45
KINDS = {"overfit": (16, 30.0), "good": (240, 2.0), "base": (0, 0.0)}


def measure(kind: str, *, rows: int | None = None, epochs: float | None = None, parts=PARTS) -> dict:
    """Train one kind of adapter on plain-style pairs and measure its recitation.

    Args:
        kind: one of :data:`KINDS`.
        rows, epochs: None takes the kind's own.
        parts: of :data:`~lorakit_helpers.recitation.PARTS`.
    """
    from .models import base_model, load_model
    from .plain_style import load_split, to_conversation
    from .profiles import PROFILES
    from .training import train

    base = base_model(log=lambda _: None).path
    train_rows = [to_conversation(pair) for pair in load_split("train")]
    unseen = [to_conversation(pair) for pair in load_split("test")[:UNSEEN]]
    own_rows, own_epochs = KINDS[kind]
    rows, epochs = own_rows if rows is None else rows, own_epochs if epochs is None else epochs
    found = {"kind": kind, "rows": rows, "epochs": epochs}
    model, tokenizer = (None, None) if rows else load_model(base)
    with tempfile.TemporaryDirectory() as scratch:
        if rows:
            recipe = PROFILES["cpu"].recipe.but(
                num_train_epochs=epochs, torch_compile=False, save_steps=10_000, logging_steps=5, max_length=384
            )
            start = time.perf_counter()
            run = train(recipe, train_rows[:rows], base, output_dir=scratch, resume=False)
            run.save(f"{scratch}/adapter")
            found |= {"train_s": time.perf_counter() - start, "loss": run.log.losses[-1], "steps": run.log.max_steps}
            del run
            model, tokenizer = load_model(base, f"{scratch}/adapter")
        for part in parts:
            result = recitation(model, tokenizer, train_rows[:SEEN], unseen, part=part)
            print(f"{kind}, {part}: {result}", file=sys.stderr, flush=True)
            known = ("seen_share", "unseen_share", "gap", "low", "high", "recites")
            found[part] = {name: value for name, value in result.to_dict().items() if name in known}
            found[part]["longest"] = result.longest.text
    return found


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lorakit_helpers.recitation_report", description=__doc__.splitlines()[0])
    parser.add_argument("--kind", choices=[*KINDS, "all"], default="all", help="which model (default all)")
    parser.add_argument("--rows", type=int, help="training pairs, instead of the kind's own")
    parser.add_argument("--epochs", type=float, help="passes over them, instead of the kind's own")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)
    kinds = list(KINDS) if options.kind == "all" else [options.kind]
    found = [measure(kind, rows=options.rows, epochs=options.epochs) for kind in kinds]
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
