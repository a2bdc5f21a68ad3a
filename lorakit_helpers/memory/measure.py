"""A real training step on this machine, and the most memory that was allocated in it."""

from ..errors import LorakitError
from .result import GIB, MemoryEstimate
from .setup import TrainSetup

__all__ = ["measure"]


def measure(model=None, setup: TrainSetup | None = None, *, seed: int = 0) -> MemoryEstimate:
    """Train a short step, then a real one, and report the peak allocated in that, when gradients and optimizer states exist.

    On a GPU the number is ``torch.cuda.max_memory_allocated()``; on a CPU the profiler's record of every allocation
    (``torch.profiler`` with ``profile_memory``) on top of the tensors that were there before the step. Neither counts what
    lies outside PyTorch's allocator: Python, CUDA's context, the libraries' own scratch memory.

    Args:
        model: what to train: None for the course's base model, a folder or Hub name, or, with random weights, a
            ``ModelShape`` or a transformers configuration.
        setup: how to train it; None means ``TrainSetup()``.
        seed: of the random weights and tokens.

    Returns:
        The measured peak with its parts. Weights, adapters, gradients and optimizer states are read off the tensors; the rest
        of the peak is split by size into logits and activations. On a CPU with the timeline of the step.

    Raises:
        LorakitError: for a setup that cannot run here (a GPU-only optimizer or loss), an unknown target or rank.

    Note:
        The GPU branch has not been run by the authors, who had no GPU.
    """
    import torch

    from . import _real
    from ._meta import quiet

    setup = setup or TrainSetup()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    _can_run(setup, device)
    torch.manual_seed(seed)
    with quiet():
        net, vocab_size = _real.build(model, setup, device)
    tokens = torch.randint(vocab_size, (setup.micro_batch, setup.seq_len), device=device)
    optimizer = _real.optimizer(net, setup)
    _real.step(net, tokens[:1, :8], optimizer, setup, device)  # makes gradients and states, which do not depend on the batch
    record = (_real.peak_on_gpu if device == "cuda" else _real.peak_on_cpu)(net, tokens, optimizer, setup)
    return _result(record, device, setup)


def _can_run(setup, device):
    if setup.fused_loss:
        raise LorakitError("measure, fused_loss", got="True", expected="False", do="Unsloth or Liger would be needed.")
    if setup.keeps_last_step or setup.quantize_lm_head:
        raise LorakitError(
            "measure, keeps_last_step or quantize_lm_head", got="True", expected="False: the installed libraries do neither",
            do="Simulate it instead.",
        )  # fmt: skip
    if device == "cpu" and setup.optimizer not in ("adamw", "sgd"):
        raise LorakitError(
            "measure, optimizer", got=repr(setup.optimizer), expected="adamw or sgd on a CPU",
            do="The course measures these two on a CPU: estimate or simulate the others.",
        )  # fmt: skip


def _result(record, device, setup) -> MemoryEstimate:
    rest = record.peak - sum(record.resident.values())
    logits = min(record.logits, rest)
    notes = ["the CUDA allocator's peak" if device == "cuda" else "the profiler's record of every allocation, on a CPU"]
    if setup.attention == "flash":
        notes.append("attention was PyTorch's fused kernel, which keeps the same tensors as FlashAttention")
    return MemoryEstimate(
        **{f"{part}_gib": size / GIB for part, size in record.resident.items()},
        activations_gib=(rest - logits) / GIB, logits_gib=logits / GIB, peak_at=record.peak_at,
        phases={name: size / GIB for name, size in record.phases.items()}, how="measurement",
        timeline=tuple((phase, size / GIB) for phase, size in record.timeline), notes=tuple(notes),
    )  # fmt: skip
