"""A counter of the bytes that tensors take, or would take on the meta device. Imported only by ``simulate``: it needs torch."""

import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

__all__ = ["ROUND", "Counter"]

#: CUDA's caching allocator rounds every tensor up to a multiple of this many bytes.
ROUND = 512


class Counter(TorchDispatchMode):
    """Counts the live bytes of every storage that the operations under it make, by part.

    Attributes:
        live: bytes by part, now.
        peak: the highest sum so far; ``at_peak`` the parts then, ``peak_phase`` the phase.
        phases: the highest sum in each phase.
        timeline: (phase, bytes) after every operation that changed the sum.
    """

    def __init__(self, vocab_size: int, unpacked_copies: int = 1):
        super().__init__()
        self.vocab_size, self.unpacked_copies = vocab_size, unpacked_copies
        self.live, self.total, self.peak = {}, 0, 0
        self.at_peak, self.peak_phase, self.phases, self.timeline = {}, "", {}, []
        self.phase = "forward"
        self._seen = {}  # by address; a storage leaves when its last tensor does

    def add(self, tensor, part=None):
        """Count a tensor's storage once; a second call with a part moves it there."""
        if not isinstance(tensor, torch.Tensor):
            return
        storage = tensor.untyped_storage()
        key = storage._cdata
        record = self._seen.get(key)
        if record is None:
            size = -(-storage.nbytes() // ROUND) * ROUND
            record = self._seen[key] = [part or self._part(tensor), size, weakref.ref(storage, lambda _: self._free(key))]
            self._change(record[0], size)
        elif part and part != record[0]:
            self._change(record[0], -record[1], quiet=True)
            record[0] = part
            self._change(part, record[1], quiet=True)

    def buffer(self, size: int, part="activations"):
        """A buffer that lives only inside the operation that is running."""
        self._change(part, size)
        self._change(part, -size)

    def _part(self, tensor):
        wide = tensor.dim() >= 2 and tensor.shape[-1] == self.vocab_size and tensor.numel() > self.vocab_size
        return "logits" if wide else "activations"

    def _change(self, part, size, quiet=False):
        self.live[part] = self.live.get(part, 0) + size
        self.total += size
        if quiet:
            return
        self.timeline.append((self.phase, self.total))
        self.phases[self.phase] = max(self.phases.get(self.phase, 0), self.total)
        if self.total > self.peak:
            self.peak, self.at_peak, self.peak_phase = self.total, dict(self.live), self.phase

    def _free(self, key):
        part, size, _ = self._seen.pop(key)
        self._change(part, -size)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "bitsandbytes" and "gemm_4bit" in function.__name__:
            rows, columns = args[2]
            # large batches dequantize, then multiply
            self.buffer(rows * columns * args[0].element_size() * self.unpacked_copies)
        out = function(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            self.add(tensor)
        if function.namespace == "bitsandbytes" and "dequantize_4bit" in function.__name__:
            self.buffer(out.numel() * out.element_size() * (self.unpacked_copies - 1))
        return out
