"""A training step without weights: the real model's code on PyTorch's meta device, every tensor's bytes counted."""

from contextlib import nullcontext

from ..errors import LorakitError
from ._layer import LayerBytes
from .result import GIB, MemoryEstimate
from .setup import TrainSetup
from .shape import ModelShape

__all__ = ["simulate"]


def simulate(config_or_shape, setup: TrainSetup) -> MemoryEstimate:
    """Run forward, backward and optimizer step of the real transformers + peft model with tensors that have no data.

    Args:
        config_or_shape: a ``ModelShape`` or a transformers configuration.
        setup: how it is trained.

    Returns:
        The peak by part, with the timeline. Bytes are rounded as CUDA's allocator does (512).

    Raises:
        LorakitError: for an unknown family, target or rank.

    Note:
        What runs is transformers, peft and, for QLoRA, bitsandbytes code. Replaced are the attention kernel (by what
        FlashAttention keeps), autocast's casts of fp32 adapters and a fused loss; a 4-bit forward product is given the
        dequantized buffer that bitsandbytes makes for large batches. The optimizer is written out (its states).
    """
    import torch

    from . import _meta
    from ._counter import Counter

    shape = config_or_shape if isinstance(config_or_shape, ModelShape) else ModelShape.from_config(config_or_shape)
    with _meta.quiet():
        model = _model(config_or_shape, shape, setup)
        counter = Counter(shape.vocab_size, LayerBytes(shape, setup).unpacked_copies)
        trained = [p for p in model.parameters() if p.requires_grad]
        counter.states = _place(model, trained, setup, counter)
        tokens = torch.empty((setup.micro_batch, setup.seq_len), dtype=torch.long, device="meta")
        held = {}
        with _meta.falcon_kernel(setup), _meta.inputs_kept() if setup.keeps_last_step else nullcontext(), counter:
            counter.add(tokens)
            for _ in range(1 + setup.keeps_last_step):
                _step(model, tokens, setup, counter, held)
            _update(trained, setup, counter)
    return _result(counter)


def _model(config_or_shape, shape, setup):
    import copy

    import torch
    from transformers import AutoModelForCausalLM

    from . import _meta

    _meta.register_attention(setup)
    config = shape.to_config() if config_or_shape is shape else copy.deepcopy(config_or_shape)
    config.use_cache = False
    dtype = _meta.DTYPES[setup.weights_dtype]
    attention = {"flash": "lorakit_kernel_a", "sdpa": "lorakit_kernel_b"}.get(setup.attention, "eager")
    if shape.model_type == "falcon" and setup.attention != "eager":
        attention = "sdpa"  # its classes are chosen by name
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    if setup.method == "full":
        model.requires_grad_(True)
    else:
        targets = shape.adapted(setup.target_modules)
        shape.trainable_params(setup.r, targets)
        if setup.method == "qlora":
            _meta.quantize_on_meta(model, dtype, setup.double_quant, setup.quantize_lm_head)
        with torch.device("meta"):  # or peft draws random weights for the adapters
            model = _meta.adapt(model, setup, targets)
        if setup.autocast:
            model.autocast_casts = _meta.emulate_autocast(model, dtype)
    if setup.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        if setup.method != "full":
            model.enable_input_require_grads()
    return model.train()


def _place(model, trained, setup, counter):
    """What lies in memory before the step: weights, adapters, gradients so far, the optimizer's state."""
    import torch

    counter.phase = "before"
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        counter.add(tensor, "adapters" if "lora_" in name else "weights")
        state = getattr(tensor, "quant_state", None)
        if state is not None:
            second = state.state2 if state.nested else None
            for scale in (state.absmax, getattr(second, "absmax", None), getattr(state, "offset", None)):
                counter.add(scale, "weights")
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    states = []
    for parameter in trained:
        if setup.gradient_accumulation:
            parameter.grad = torch.empty_like(parameter)
            counter.add(parameter.grad, "gradients")
        states += _states(parameter, setup, id(parameter) in embeddings)
        parameter.register_post_accumulate_grad_hook(lambda p: counter.add(p.grad, "gradients"))
    for state in states:
        counter.add(state, "optimizer")
    return states


def _states(parameter, setup, embedding: bool):
    import torch

    if setup.optimizer == "sgd":
        return []
    # bitsandbytes keeps small tensors in 32 bits, and transformers' Trainer has it do so with embeddings
    if not setup.optimizer.endswith("8bit") or parameter.numel() < 4096 or embedding:
        dtype = parameter.dtype if setup.optimizer == "adamw" else torch.float32
        return [torch.empty_like(parameter, dtype=dtype) for _ in range(2)]
    count = parameter.numel()
    sizes = ((count, torch.uint8), (-(-count // 256), torch.float32))
    return [torch.empty(size, dtype=dtype, device="meta") for size, dtype in sizes * 2]


def _step(model, tokens, setup, counter, held):
    """Forward and backward. ``held`` are the names of a training loop: what they mean lives until they mean something else."""
    import torch

    from . import _meta

    counter.phase = "forward"
    whole = model.get_base_model() if hasattr(model, "get_base_model") else model
    _mark_backward(whole, counter)
    casts = getattr(model, "autocast_casts", None)
    if casts is not None:
        casts.open = True
    batch, length = tokens.shape
    given = {"input_ids": tokens, "position_ids": torch.arange(length, device="meta")[None], "use_cache": False}
    if setup.attention == "eager" or "falcon" in type(whole).__name__.lower():
        given["attention_mask"] = torch.empty(batch, 1, length, length, dtype=whole.dtype, device="meta")
    if setup.fused_loss:
        hidden = whole.get_decoder()(**given).last_hidden_state
        counter.phase = "loss"
        chunk = setup.loss_chunk(hidden.shape[-1], counter.vocab_size)
        held["loss"] = _meta.fused_loss(hidden, whole.get_output_embeddings(), chunk)
        del hidden
    elif setup.loss_dtype == "fp32" and setup.loss_chunks == 1:
        held["loss"] = model(**given, labels=tokens).loss
    else:
        held["logits"] = _meta.pieces_of_logits(whole.get_decoder()(**given).last_hidden_state, whole, setup)
        counter.phase = "loss"
        held["loss"] = _meta.loss_of_pieces(held["logits"], tokens)
    if casts is not None:
        casts.close()
    held["loss"].backward()
    if not setup.keeps_last_step:
        held.clear()


def _mark_backward(model, counter):
    """The phase is called backward from the moment the last layer's gradient arrives."""
    decoder = model.get_decoder()
    last = (decoder.layers if hasattr(decoder, "layers") else decoder.h)[-1]
    if not last._backward_pre_hooks:
        last.register_full_backward_pre_hook(lambda *_: setattr(counter, "phase", "backward"))
        model.get_output_embeddings().register_forward_pre_hook(lambda *_: setattr(counter, "phase", "loss"))


def _update(trained, setup, counter):
    counter.phase = "optimizer step"
    if setup.tensor_lists and setup.optimizer == "adamw":
        counter.buffer(sum(p.numel() * p.element_size() for p in trained), "optimizer")
    else:
        counter.buffer(0, "optimizer")


def _result(counter) -> MemoryEstimate:
    if not counter.peak:
        raise LorakitError("simulation", got="no tensors", expected="a training step", do="Report this configuration.")
    parts = {part: size / GIB for part, size in counter.at_peak.items()}
    phases = {name: size / GIB for name, size in counter.phases.items() if name != "before"}
    return MemoryEstimate(
        **{f"{part}_gib": parts.get(part, 0.0) for part in
           ("weights", "adapters", "gradients", "optimizer", "activations", "logits")},
        peak_at=counter.peak_phase, phases=phases, how="simulation",
        timeline=tuple((phase, size / GIB) for phase, size in counter.timeline),
    )  # fmt: skip
