"""Out of memory, on purpose and safely: a child process with a fixed budget trains or evaluates a small random Llama.

The parent never runs out of memory. The child limits its own address space with ``setrlimit``, so that PyTorch's
allocator is refused what lies beyond the budget, as a full card would refuse it.
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, field

from .errors import LorakitError
from .memory import GIB, MemoryEstimate, ModelShape, TrainSetup, estimate

__all__ = ["SMALL", "Attempt", "EvalSetup", "attempt", "cannot_limit", "step_gib"]

#: A Llama of 10 million parameters: large enough that a step of it fills a budget of a few hundred MiB.
SMALL = ModelShape(256, 768, 6, 4, 4, 64, 16_384, True)


@dataclass(frozen=True)
class EvalSetup:
    """An evaluation without gradients.

    Attributes:
        batches, batch_size, seq_len: what is read.
        keep: what is held of every batch until the end: ``"logits"``, as transformers' Trainer does where
            ``compute_metrics`` is set; ``"tokens"``, the most likely token of each place; ``"loss"``, one number.
    """

    batches: int = 8
    batch_size: int = 8
    seq_len: int = 256
    keep: str = "logits"

    def __post_init__(self):
        if self.keep not in ("logits", "tokens", "loss"):
            raise LorakitError("keep", got=repr(self.keep), expected="logits, tokens or loss", do="Use keep='loss'.")

    def held_gib(self, vocab_size: int) -> float:
        """What lies in memory when the last batch has been read, GiB: what was kept of every batch, in fp32 or int64.

        Example:
            >>> EvalSetup(8, 8, 256, "logits").held_gib(16_384)
            1.0
        """
        tokens = self.batches * self.batch_size * self.seq_len
        return {"logits": 4 * tokens * vocab_size, "tokens": 8 * tokens, "loss": 4 * self.batches}[self.keep] / GIB


@dataclass(frozen=True)
class Attempt:
    """What happened.

    Attributes:
        setup: what was tried.
        fits: whether it went through within the budget.
        budget_gib: the budget, GiB beyond what the process held with the model loaded.
        used_gib: the most that was mapped beyond that, GiB; None where it did not go through.
        message: the error's first line, ``""`` where it went through.
    """

    setup: TrainSetup | EvalSetup
    fits: bool
    budget_gib: float
    used_gib: float | None = None
    message: str = field(default="", repr=False)

    def __str__(self):
        if self.fits:
            return f"went through, {self.used_gib:.2f} of {self.budget_gib:.2f} GiB used"
        return f"OUT OF MEMORY within {self.budget_gib:.2f} GiB: {self.message}"

    def to_dict(self) -> dict:
        return asdict(self)


def cannot_limit() -> str:
    """Why this system cannot limit a process' memory, or ``""`` where it can."""
    if sys.platform.startswith("linux"):
        return ""
    return f"This system ({sys.platform}) does not enforce a limit on a process' memory; the case is skipped here."


def step_gib(shape: ModelShape, setup: TrainSetup) -> float:
    """What the memory model says a step needs beyond the loaded weights and adapters, GiB."""
    found: MemoryEstimate = estimate(shape, setup)
    return found.total_gib - found.weights_gib - found.adapters_gib


def attempt(setups, *, shape: ModelShape = SMALL, budget_gib: float = 0.25, timeout_s: float = 300) -> list[Attempt]:
    """Try each setup within a budget, all in one child process; each in a fork of its own, so that none sees another's memory.

    Args:
        setups: :class:`TrainSetup` (one training step) or :class:`EvalSetup`.
        shape: of the model, which has random weights.
        budget_gib: GiB beyond what the child holds when the model is loaded and warm.
        timeout_s: seconds for all of them.

    Raises:
        LorakitError: where the system cannot limit memory, for a budget that is not above 0, or when the child itself fails.
    """
    if reason := cannot_limit():
        raise LorakitError("memory limit", got=sys.platform, expected="Linux", do=reason)
    if not isinstance(budget_gib, int | float) or isinstance(budget_gib, bool) or not 0 < budget_gib < 1e6:
        raise LorakitError("budget_gib", got=repr(budget_gib), expected="a number above 0", do="Try budget_gib=0.25.")
    setups = list(setups)
    plan = [[type(s).__name__, s.to_dict() if isinstance(s, TrainSetup) else asdict(s)] for s in setups]
    text = json.dumps({"shape": asdict(shape), "budget_gib": budget_gib, "setups": plan})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "lorakit_helpers.oom"], input=text, capture_output=True, text=True, timeout=timeout_s,
            env=_environment(), cwd=_package_root(),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LorakitError("memory child", got=f"no answer in {timeout_s:g} s", expected="one", do="Try again.") from error
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if len(told) != len(setups):
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise LorakitError(
            "memory child", got=f"{len(told)} answers for {len(setups)} setups, last words: {last[:200]}",
            expected="one answer each", do="Run python -m lorakit_helpers.oom by hand.",
        )  # fmt: skip
    return [Attempt(s, t["fits"], budget_gib, t["used_gib"], t["message"]) for s, t in zip(setups, told, strict=True)]


def _environment() -> dict:
    import os

    # every larger block is mapped by itself, and given back when it is freed; no arenas per thread: the count is exact
    quiet = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    quiet["CUDA_VISIBLE_DEVICES"] = ""  # the budget is the computer's memory
    return os.environ | quiet | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}


def _package_root() -> str:
    from pathlib import Path

    return str(Path(__file__).resolve().parent.parent)


def _child() -> None:
    """In the child: load the libraries once, then fork for every setup."""
    import os

    import torch

    from .memory import _real
    from .memory._meta import quiet

    torch.set_num_threads(1)
    plan = json.loads(sys.stdin.read())
    with quiet():  # loads what the forks then share; no backward pass, whose thread would not live on in a fork
        small = ModelShape(32, 32, 1, 1, 1, 32, 32, True)
        net, _ = _real.build(small, TrainSetup(method="lora", r=1, weights_dtype="fp32"), "cpu")
    with torch.no_grad():
        net(input_ids=torch.zeros(1, 2, dtype=torch.long))
    shape, budget = ModelShape(**plan["shape"]), plan["budget_gib"]
    for kind, values in plan["setups"]:
        setup = EvalSetup(**values) if kind == "EvalSetup" else TrainSetup(**values)
        reading, writing = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reading)
            os.write(writing, json.dumps(_within(shape, setup, budget)).encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        killed = {"fits": False, "used_gib": None, "message": f"the process was ended (status {status})"}
        print(said or json.dumps(killed), flush=True)


def _within(shape, setup, budget_gib) -> dict:
    """In the fork: build, warm up, limit, run."""
    import resource

    import torch

    run = _prepared(shape, setup)
    before = _mapped("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (int(before + budget_gib * GIB), resource.RLIM_INFINITY))
    try:
        run()
    except (RuntimeError, MemoryError) as error:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "alloc" not in said:
            raise
        return {"fits": False, "used_gib": None, "message": _plainly(said)}
    return {"fits": True, "used_gib": max(0.0, (_mapped("VmPeak") - before) / GIB), "message": ""}


def _plainly(said: str) -> str:
    """An allocator's message without the place in its code, the size in MiB.

    Example:
        >>> _plainly("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: "
        ...          "you tried to allocate 3145728 bytes. Error code 12 (Cannot allocate memory)")
        "can't allocate memory: you tried to allocate 3.0 MiB"
    """
    import re

    said = said.split("DefaultCPUAllocator: ")[-1].split(". Error code")[0].strip()
    return re.sub(r"(\d+) bytes", lambda found: f"{int(found[1]) / 2**20:.1f} MiB", said)[:120]


def _prepared(shape, setup):
    """The costly part, outside the budget: the model, and a first step on a few tokens (threads, buffers, kernels)."""
    import torch

    from .memory import _real
    from .memory._meta import quiet

    torch.manual_seed(0)
    train = setup if isinstance(setup, TrainSetup) else TrainSetup(method="full", weights_dtype="fp32")
    with quiet():
        net, vocab = _real.build(shape, train, "cpu")
    optimizer = _real.optimizer(net, train)

    def tokens(rows, length):
        return torch.randint(vocab, (rows, length))

    if isinstance(setup, TrainSetup):
        _real.step(net, tokens(1, 8), optimizer, setup.but(gradient_accumulation=False), "cpu")
        return lambda: _real.step(net, tokens(setup.micro_batch, setup.seq_len), optimizer, setup, "cpu")
    net.eval()
    with torch.no_grad():
        net(input_ids=tokens(1, 8))
    return lambda: _evaluate(net, [tokens(setup.batch_size, setup.seq_len) for _ in range(setup.batches)], setup.keep)


def _evaluate(net, batches, keep) -> None:
    import torch

    kept = []
    with torch.no_grad():
        for ids in batches:
            logits = net(input_ids=ids).logits
            if keep == "logits":
                kept.append(logits)
            elif keep == "tokens":
                kept.append(logits.argmax(-1))
            else:
                kept.append(torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()))


def _mapped(name: str) -> int:
    """A figure of /proc/self/status, bytes."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name + ":"))


if __name__ == "__main__":
    _child()
