"""The memory model's errors, printed: ``python -m lorakit_helpers.memory.report [--measure]``."""

import argparse
import statistics
import sys
import time

from .catalogue import find_model
from .estimate import estimate
from .measure import measure
from .published import published
from .setup import TrainSetup
from .simulate import simulate

__all__ = ["GRID", "main", "measured_rows", "published_rows"]

#: The setups that are measured on this machine with the course's base model: rank, batch, sequence, checkpointing.
GRID = (
    *(
        TrainSetup(r=r, micro_batch=batch, seq_len=length, gradient_checkpointing=again)
        for r in (8, 64) for batch, length in ((1, 128), (2, 128), (1, 256)) for again in (False, True)
    ),
    *(TrainSetup(method="lora", r=r, seq_len=128, gradient_checkpointing=again) for r in (8, 64) for again in (False, True)),
    *(
        TrainSetup(method="full", seq_len=128, gradient_checkpointing=again, weights_dtype=dtype)
        for again in (False, True) for dtype in ("bf16", "fp32")
    ),
    TrainSetup(seq_len=128, target_modules=("q_proj", "v_proj")),
    TrainSetup(seq_len=128, lora_dropout=0.1),
    TrainSetup(seq_len=128, attention="eager"),
    TrainSetup(method="lora", seq_len=128, adapter_dtype="bf16"),
    TrainSetup(method="lora", seq_len=128, weights_dtype="fp32"),
    TrainSetup(method="full", seq_len=128, gradient_accumulation=False),
)  # fmt: skip


def published_rows(simulated: bool = True):
    """``(row, estimate's error, simulation's error or None)`` of every published row that can be matched; 0.1 is 10 %."""
    for row in published():
        if row.matched:
            closed = estimate(row.shape, row.setup).total_gib / row.reported_gib - 1
            yield row, closed, simulate(row.shape, row.setup).total_gib / row.reported_gib - 1 if simulated else None


def measured_rows(grid=GRID, simulated: bool = True):
    """``(setup, measured, estimate's error, simulation's error or None)`` on this machine, with the course's base model."""
    shape = find_model("SmolLM2-135M").shape
    for setup in grid:
        found = measure(None, setup)
        yield (
            setup, found, estimate(shape, setup).total_gib / found.total_gib - 1,
            simulate(shape, setup).total_gib / found.total_gib - 1 if simulated else None,
        )  # fmt: skip


def main(argv=None) -> int:
    """Print the tables; the exit code is 0."""
    parser = argparse.ArgumentParser(prog="python -m lorakit_helpers.memory.report", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="also measure a grid of real steps on this machine (minutes)")
    parser.add_argument("--quick", action="store_true", help="the closed form only")
    options = parser.parse_args(argv)
    _published(not options.quick)
    if options.measure:
        _measured()
    return 0


def _published(simulated):
    print(f"{'published peak, GiB':40}{'reported':>9}{'estimate':>10}{'simulation':>12}")
    errors = []
    for row, closed, run in published_rows(simulated):
        errors.append((closed, run))
        print(f"{row.id:40}{row.reported_gib:9.2f}{closed:+10.1%}" + (f"{run:+12.1%}" if simulated else ""), flush=True)
    print(_summary("estimate", [closed for closed, _ in errors]))
    if simulated:
        print(_summary("simulation", [run for _, run in errors]))
    print("Not compared:")
    for row in published():
        if not row.matched:
            print(f"  {row.id}: {row.reason}")


def _measured():
    print(f"{'measured here, SmolLM2-135M, GiB':66}{'measured':>9}{'estimate':>10}{'simulation':>12}{'seconds':>9}")
    errors, start = [], time.perf_counter()
    for setup, found, closed, run in measured_rows():
        errors.append((closed, run))
        took, start = time.perf_counter() - start, time.perf_counter()
        print(f"{_short(setup):66}{found.total_gib:9.3f}{closed:+10.1%}{run:+12.1%}{took:9.1f}", flush=True)
    print(_summary("estimate", [closed for closed, _ in errors]))
    print(_summary("simulation", [run for _, run in errors]))


def _short(setup) -> str:
    """The fields that differ from the default."""
    usual = TrainSetup(seq_len=setup.seq_len).to_dict()
    changed = {name: value for name, value in setup.to_dict().items() if value != usual[name]}
    return ", ".join([f"{setup.micro_batch} x {setup.seq_len}", *(f"{name}={value}" for name, value in changed.items())])[:65]


def _summary(name, errors) -> str:
    sizes = [abs(error) for error in errors]
    return f"{name}: {len(sizes)} rows, median {statistics.median(sizes):.1%}, worst {max(sizes):.1%}"


if __name__ == "__main__":
    sys.exit(main())
