"""What the real transformers + peft model needs to run without weights, and as it would run on a GPU.

Imported only by ``simulate`` and ``measure``, because it needs torch.
"""

import weakref
from contextlib import contextmanager

import torch

__all__ = [
    "DTYPES", "Casts", "adapt", "emulate_autocast", "falcon_kernel", "four_bit_input_as_on_gpu", "fused_loss",
    "inputs_kept", "linear_layers", "loss_of_pieces", "pieces_of_logits", "quantize_on_meta", "quiet", "register_attention",
]  # fmt: skip

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class _Flash(torch.autograd.Function):
    """What FlashAttention keeps (arXiv:2205.14135): q, k, v, the output and one fp32 log-sum-exp per row and head."""

    @staticmethod
    def forward(ctx, q, k, v, accumulate, whole):
        batch, heads, length, width = q.shape
        ctx.whole = q.new_empty(q.numel() + k.numel()) if whole else None  # v is a view of the product that made all three
        out = q.new_empty(batch, length, heads, width)
        logsumexp = torch.empty(batch, heads, length, dtype=torch.float32, device=q.device)
        ctx.save_for_backward(q, k, v, out, logsumexp)
        ctx.accumulate = accumulate
        return out

    @staticmethod
    def backward(ctx, grad):
        q, k, v, _, _ = ctx.saved_tensors
        sums = torch.empty(q.shape, dtype=torch.float32, device=q.device) if ctx.accumulate else None
        found = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v), None, None
        del sums
        ctx.whole = None
        return found


def register_attention(setup):
    """Register the two fused kernels with transformers (which makes no mask for names it has no mask for)."""
    from transformers import AttentionInterface

    def fused(accumulate):
        return lambda module, q, k, v, mask, **rest: (_attend(q, k, v, setup, accumulate), None)

    for name, accumulate in (("lorakit_kernel_a", True), ("lorakit_kernel_b", False)):
        AttentionInterface.register(name, fused(accumulate))


def _attend(q, k, v, setup, accumulate):
    grouped = k.shape[1] < q.shape[1]
    if grouped and setup.repeated_kv:
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    alone = v.untyped_storage().nbytes() == v.numel() * v.element_size()  # in families that fuse it is a view already
    return _Flash.apply(q, k, v, accumulate, setup.fused_qkv and alone and not (grouped and setup.repeated_kv))


def falcon_kernel(setup, module_file="transformers.models.falcon.modeling_falcon"):
    """Falcon calls PyTorch's kernel itself: put ours in its place while the simulation runs."""
    import importlib
    from unittest import mock

    def kernel(q, k, v, *args, **rest):
        return _attend(q, k, v, setup, False).transpose(1, 2)

    return mock.patch.object(importlib.import_module(module_file).F, "scaled_dot_product_attention", kernel)


def linear_layers(model, lm_head: bool) -> list:
    """(parent, name, layer) of every linear layer, the output layer only if asked for."""
    return [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, torch.nn.Linear) and (lm_head or name not in ("lm_head", "embed_out"))
    ]


def quantize_on_meta(model, compute_dtype, double_quant: bool, lm_head: bool):
    """Put bitsandbytes' own ``Linear4bit`` with packed meta weights in place of the linear layers."""
    import bitsandbytes as bnb
    from bitsandbytes.functional import QuantState

    def absmax(blocks):
        return torch.empty(blocks, device="meta")

    for parent, name, layer in linear_layers(model, lm_head):
        new = bnb.nn.Linear4bit(layer.in_features, layer.out_features, layer.bias is not None, compute_dtype,
                                compress_statistics=double_quant, quant_type="nf4", device="meta")  # fmt: skip
        count = layer.in_features * layer.out_features
        blocks, code = -(-count // 64), torch.empty(16, device="meta")
        state = QuantState(absmax(blocks), layer.weight.shape, code, 64, "nf4", compute_dtype)
        if double_quant:
            second = QuantState(absmax(-(-blocks // 256)), code=torch.empty(256, device="meta"), blocksize=256,
                                dtype=torch.float32)  # fmt: skip
            state.absmax = torch.empty(blocks, dtype=torch.uint8, device="meta")
            state.state2, state.offset, state.nested = second, torch.empty((), device="meta"), True
        packed = torch.empty(((count + 1) // 2, 1), dtype=torch.uint8, device="meta")
        new.weight = bnb.nn.Params4bit(packed, requires_grad=False, quant_state=state, bnb_quantized=True,
                                       compress_statistics=double_quant, quant_type="nf4")  # fmt: skip
        new.bias = layer.bias
        new.quant_state = state
        setattr(parent, name, new)
    model.is_loaded_in_4bit = True
    return model


def adapt(model, setup, targets):
    """peft's LoRA on the model, with the adapters' dtype and, for fp32 adapters, autocast's casts."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=setup.r, lora_alpha=setup.r, lora_dropout=setup.lora_dropout, target_modules=list(targets),
                        task_type="CAUSAL_LM")  # fmt: skip
    model = get_peft_model(model, config, autocast_adapter_dtype=False)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(DTYPES[setup.adapter_dtype])
    if setup.lora_dropout:
        _dropout_as_on_gpu(model, setup)
    return model


def _dropout_as_on_gpu(model, setup):
    """Dropout whose mask takes a byte a value; with ``fused_qkv`` one for the adapters of q, k and v, which read the same."""
    for module in model.modules():
        for name, child in module.named_children():
            if hasattr(child, "lora_dropout"):
                shared = setup.fused_qkv and name in ("k_proj", "v_proj") and getattr(module, "q_proj", None)
                shared = getattr(shared, "lora_dropout", None) or {"default": _SharedDropout(setup.lora_dropout)}
                child.lora_dropout["default"] = shared["default"]


class _SharedDropout(torch.nn.Dropout):
    """CUDA's kernel, with a boolean mask; the same result for the same input, as long as somebody holds it."""

    def forward(self, x):
        source, result = (ref() for ref in getattr(self, "last", (lambda: None,) * 2))
        if source is not x or result is None:
            result = torch.native_dropout(x, self.p, self.training)[0]
            self.last = weakref.ref(x), weakref.ref(result)
        return result


class Casts(dict):
    """Autocast's cache: every adapter cast once in a forward pass, and kept until its end."""

    open = True

    def cast(self, parameter, dtype):
        if not self.open:
            return parameter.to(dtype)
        if parameter not in self:
            self[parameter] = parameter.to(dtype)
        return self[parameter]

    def close(self):
        """The forward pass has ended; what checkpointing computes again is cast again."""
        self.open = False
        self.clear()


def emulate_autocast(model, dtype) -> Casts:
    """Give the adapters' linear layers the casts of ``torch.autocast``, which does nothing on the meta device."""
    casts = Casts()
    for name, module in model.named_modules():
        if ".lora_A." in name or ".lora_B." in name:
            module.forward = _cast_forward(module, dtype, casts)
    four_bit_input_as_on_gpu(model)
    return casts


def four_bit_input_as_on_gpu(model):
    """Under CUDA's autocast peft leaves the input of an adapter on a 4-bit layer as it is; elsewhere it casts it to fp32."""
    from peft.tuners.lora.bnb import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.cast_input_dtype_enabled = False


@contextmanager
def quiet():
    """No progress bars, no advice, and no word from bitsandbytes on an optional kernel it can do without."""
    import logging as python_logging

    from transformers.utils import logging

    python_logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(python_logging.ERROR)
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def inputs_kept():
    """bitsandbytes before 0.43.2: the 4-bit product keeps its input on the graph, where backward does not free it
    (github.com/bitsandbytes-foundation/bitsandbytes/pull/1270)."""
    from unittest import mock

    from bitsandbytes.autograd._functions import MatMul4Bit

    forward = MatMul4Bit.forward

    def keeping(ctx, inputs, *rest):
        ctx.kept = inputs
        return forward(ctx, inputs, *rest)

    with mock.patch.object(MatMul4Bit, "forward", staticmethod(keeping)):
        yield


def _cast_forward(module, dtype, casts):
    return lambda x: torch.nn.functional.linear(x.to(dtype), casts.cast(module.weight, dtype))


class _FusedLoss(torch.autograd.Function):
    """Loss and gradient of one chunk of tokens at a time: the logits of one chunk exist, never all of them."""

    @staticmethod
    def forward(ctx, hidden, head, chunk):
        flat = hidden.reshape(-1, hidden.shape[-1])
        grads = torch.empty_like(flat)
        for start in range(0, flat.shape[0], chunk):
            head(flat[start : start + chunk])  # the gradient takes the logits' place
        ctx.save_for_backward(grads)
        ctx.shape = hidden.shape
        return hidden.new_empty(())

    @staticmethod
    def backward(ctx, grad):
        (grads,) = ctx.saved_tensors
        return (grads * grad).view(ctx.shape), None, None


def pieces_of_logits(hidden, model, setup):
    """The logits, in pieces along the sequence, in the loss's type."""
    head, cap = model.get_output_embeddings(), getattr(model.config, "final_logit_softcapping", None)
    length = -(-hidden.shape[1] // setup.loss_chunks)
    pieces = [head(piece) for piece in hidden.split(length, dim=1)]
    if cap:
        pieces = [torch.tanh(piece / cap) * cap for piece in pieces]
    return [piece.float() for piece in pieces] if setup.loss_dtype == "fp32" else pieces


def loss_of_pieces(pieces, tokens):
    """Cross-entropy of each piece by itself, then the mean."""
    length = pieces[0].shape[1]
    pairs = zip(pieces, tokens.split(length, dim=1), strict=True)
    each = [torch.nn.functional.cross_entropy(p.flatten(0, 1), t.flatten(), reduction="none") for p, t in pairs]
    return torch.cat(each).mean()


def fused_loss(hidden, head, chunk: int):
    """The loss of Liger and Unsloth, as far as memory is concerned (a frozen output layer)."""
    return _FusedLoss.apply(hidden, head, chunk)
