"""Measurements other people published, each with the setup it was made with, or the reason why it has none."""

import json
from dataclasses import dataclass, replace

from ..files import project_root
from .catalogue import find_model
from .result import GIB
from .setup import PROJECTIONS, TrainSetup
from .shape import ModelShape

__all__ = ["Published", "published"]


@dataclass(frozen=True)
class Published:
    """One published peak.

    Attributes:
        id: of the row in ``data/published``.
        model: as the row names it.
        reported_gib: the published peak in GiB (2^30 bytes); None for "out of memory".
        shape, setup: what to compute it with; None where the row does not say enough.
        reason: why it is set so, or why it cannot be compared.
        source: where it was published.
    """

    id: str
    model: str
    reported_gib: float | None
    shape: ModelShape | None
    setup: TrainSetup | None
    reason: str
    source: str

    @property
    def matched(self) -> bool:
        """Whether the row says enough to be compared."""
        return self.setup is not None

    def __str__(self):
        return f"{self.id}: {self.reported_gib or float('nan'):.2f} GiB ({self.reason})"


def published() -> tuple[Published, ...]:
    """Every row of ``data/published``, matched or not.

    Raises:
        LorakitError: when the course folder is not there.

    Example:
        >>> rows = published()
        >>> len(rows), sum(row.matched for row in rows)
        (48, 31)
    """
    folder = project_root() / "data" / "published"
    rows = json.loads((folder / "memory_measurements.json").read_text(encoding="utf-8"))
    paper = json.loads((folder / "qlora_paper.json").read_text(encoding="utf-8"))
    makers = {"LGH": _litgpt, "TTQ": _torchtune, "PEFT": _peft, "UN": _unsloth}
    return (*(makers[row["id"].split("-")[0]](row) for row in rows), *map(_qlora_paper, paper["rows"]))


def _row(row, gib, shape, setup, reason):
    return Published(row["id"], row["model"], gib, shape, setup, reason, row["source"])


_LITGPT = (
    "max_memory_allocated() / 1e9. LitGPT in bf16-true: adapters in bf16 with dropout 0.05, q, k and v one product, keys and "
    "values repeated for each query head, output layer never tied, logits in pieces of 128 tokens and in fp32 (Lightning turns "
    "a model's output to fp32), gelu as one kernel, names `logits` and `loss` held over to the next step"
)
_LITGPT_NF4 = (
    "; NF4 without double quantization, output layer too; bitsandbytes 0.42; PagedAdamW's states lie outside PyTorch's "
    "allocator, so none are counted"
)


def _litgpt(row):
    if isinstance(row["reported_gb"], str):
        return _row(row, None, None, None, "it ran out of memory on 24 GB: no peak to compare")
    shape, quantized, full = find_model(row["model"]).shape, row["method"] == "qlora", row["method"] == "full"
    one_kernel = "gelu_pytorch_tanh" if shape.activation == "gelu_new" else shape.activation
    shape = replace(shape, tied_embeddings=False, activation=one_kernel)
    targets = {"q,v": ("q_proj", "v_proj"), "all+lm_head": (*PROJECTIONS, "lm_head"), None: PROJECTIONS}[row["targets"]]
    setup = TrainSetup(
        method=row["method"], r=row["r"] or 8, target_modules=targets, micro_batch=row["micro_batch"], seq_len=row["seq_len"],
        gradient_checkpointing=row["grad_ckpt"], optimizer="sgd" if quantized else "adamw", adapter_dtype="bf16",
        double_quant=False, quantize_lm_head=quantized, lora_dropout=0.0 if full else 0.05, attention="sdpa", fused_qkv=True,
        repeated_kv=True, loss_chunks=-(-row["seq_len"] // 128), keeps_last_step=True, tensor_lists=not quantized,
    )  # fmt: skip
    reason = _LITGPT + (_LITGPT_NF4 if quantized else "; AdamW on lists of tensors")
    return _row(row, row["reported_gb"] * 1e9 / GIB, shape, setup, reason)


def _torchtune(row):
    reason = "the sequence length is that of unpacked Alpaca (unknown maximum in a batch), and GB is 1e9 or 2^30"
    return _row(row, row["reported_gb"] * 1e9 / GIB, None, None, reason)


def _peft(row):
    reason = "max_memory_reserved, not allocated; and the longest of each batch of four, not 768 tokens"
    return _row(row, row["reported_gb"] * 1e9 / GIB, None, None, reason)


def _unsloth(row):
    reason = "max_memory_reserved, not allocated; Alpaca's own lengths, not 2048; Unsloth's own kernels and off-loading"
    return _row(row, row["peak_gib"], None, None, reason)


_PAPER = (
    "Figure 6's total, a sum of parts and in part estimated by its authors: batch 1, 512 tokens, checkpointing, r=64 on all "
    "linear layers, bf16 adapters, NF4 with double quantization, paged AdamW with fp32 states; printed weights are 1 to 2.6 GB "
    "above 4.127 bits a weight and bf16 embeddings, which the figure does not explain"
)


def _qlora_paper(row):
    setup = TrainSetup(
        method="qlora", r=64, target_modules="all-linear", micro_batch=1, seq_len=512, gradient_checkpointing=True,
        adapter_dtype="bf16", optimizer="paged_adamw_32bit",
    )  # fmt: skip
    row = row | {"id": f"QLORA-{row['model']}", "source": "arXiv:2305.14314, Figure 6"}
    return _row(row, row["total_gb"] * 1e9 / GIB, find_model(row["model"]).shape, setup, _PAPER)
