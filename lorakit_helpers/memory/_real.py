"""The real model, optimizer and step behind ``measure``. Imported only there, because it needs torch."""

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch

from ..errors import LorakitError
from ._meta import DTYPES, adapt, four_bit_input_as_on_gpu, linear_layers
from .setup import TrainSetup
from .shape import ModelShape

__all__ = ["Record", "build", "optimizer", "peak_on_cpu", "peak_on_gpu", "step"]


@dataclass
class Record:
    """Bytes: the peak, what lay there all the time by part, logits-sized tensors at the peak, phases and timeline."""

    resident: dict
    peak: int = 0
    logits: int = 0
    peak_at: str = ""
    phases: dict = field(default_factory=dict)
    timeline: list = field(default_factory=list)


def build(model, setup: TrainSetup, device: str):
    """The model of ``setup`` with real weights, in training mode, and its vocabulary's size."""
    net, shape = _base(model, setup)
    if setup.method == "full":
        net.requires_grad_(True)
    else:
        targets = shape.adapted(setup.target_modules)
        shape.trainable_params(setup.r, targets)
        net.requires_grad_(False)
        if setup.method == "qlora":
            _quantize(net, setup, device)
        net = adapt(net, setup, targets)
        if setup.autocast:
            four_bit_input_as_on_gpu(net)
    if setup.gradient_checkpointing:
        net.gradient_checkpointing_enable({"use_reentrant": False})
        if setup.method != "full":
            net.enable_input_require_grads()
    return net.to(device).train(), shape.vocab_size


def _base(model, setup):
    from transformers import AutoModelForCausalLM

    # PyTorch's fused kernel keeps what FlashAttention keeps, and is there on every machine
    attention = "eager" if setup.attention == "eager" else "sdpa"
    options = {"dtype": DTYPES[setup.weights_dtype], "attn_implementation": attention}
    if model is None or isinstance(model, str) or hasattr(model, "path"):
        if model is None:
            from ..models import base_model

            model = base_model(log=lambda *_: None)
        net = AutoModelForCausalLM.from_pretrained(getattr(model, "path", model), **options)
    else:
        config = model.to_config() if isinstance(model, ModelShape) else model
        if not hasattr(config, "model_type"):
            raise LorakitError(
                "model", got=type(model).__name__, expected="None, a folder or Hub name, a ModelShape or a configuration",
                do="For example measure(find_model('SmolLM2-135M').shape, setup).",
            )  # fmt: skip
        net = AutoModelForCausalLM.from_config(config, **options)
    net.config.use_cache = False
    return net, ModelShape.from_config(net.config)


def _quantize(net, setup, device):
    """bitsandbytes' ``Linear4bit`` in place of every linear layer but the head, as transformers' loader does it."""
    import bitsandbytes as bnb

    for parent, name, layer in linear_layers(net, lm_head=False):
        new = bnb.nn.Linear4bit(layer.in_features, layer.out_features, layer.bias is not None, DTYPES[setup.weights_dtype],
                                compress_statistics=setup.double_quant, quant_type="nf4")  # fmt: skip
        new.weight = bnb.nn.Params4bit(layer.weight.data, requires_grad=False, compress_statistics=setup.double_quant,
                                       quant_type="nf4")  # fmt: skip
        new.bias = layer.bias
        new.support_avx512bf16_for_cpu = False  # its repacked weight is never unpacked again (bitsandbytes 0.50)
        setattr(parent, name, new.to(device))
    net.is_loaded_in_4bit = True


def optimizer(net, setup: TrainSetup):
    """The optimizer of ``setup``; AdamW as transformers' Trainer makes it on a GPU (fused), or tensor by tensor."""
    trained = [p for p in net.parameters() if p.requires_grad]
    if setup.optimizer == "sgd":
        return torch.optim.SGD(trained, lr=1e-4, foreach=setup.tensor_lists)
    if setup.optimizer == "adamw":
        return torch.optim.AdamW(trained, lr=1e-4, **({"foreach": True} if setup.tensor_lists else {"fused": True}))
    import bitsandbytes as bnb

    kinds = {
        "adamw_8bit": bnb.optim.AdamW8bit, "paged_adamw_8bit": bnb.optim.PagedAdamW8bit,
        "paged_adamw_32bit": bnb.optim.PagedAdamW32bit,
    }  # fmt: skip
    made = kinds[setup.optimizer](trained, lr=1e-4)
    if setup.optimizer.endswith("8bit"):  # as transformers' Trainer does
        for module in net.modules():
            if isinstance(module, torch.nn.Embedding):
                bnb.optim.GlobalOptimManager.get_instance().register_module_override(module, "weight", {"optim_bits": 32})
    return made


def step(net, tokens, optimizer, setup: TrainSetup, device: str, mark=lambda name: nullcontext()):
    """Forward, backward, optimizer step; gradients are kept for the next micro-batch, or set to None."""
    cast = torch.autocast(device, DTYPES[setup.weights_dtype]) if setup.autocast else nullcontext()
    with mark("forward"), cast:
        if setup.loss_dtype == "bf16":
            loss = torch.nn.functional.cross_entropy(net(input_ids=tokens).logits.flatten(0, 1), tokens.flatten())
        else:
            loss = net(input_ids=tokens, labels=tokens).loss
    with mark("backward"):
        loss.backward()
    del loss
    with mark("optimizer step"):
        optimizer.step()
    if not setup.gradient_accumulation:
        optimizer.zero_grad(set_to_none=True)


def _resident(net, optimizer) -> dict:
    """Bytes that lie there before the step, by part; each storage once."""
    seen = set()

    def size(tensors):
        total = 0
        for tensor in tensors:
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in seen:
                seen.add(tensor.untyped_storage().data_ptr())
                total += tensor.untyped_storage().nbytes()
        return total

    own, base = [], []
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        (own if "lora_" in name else base).append(tensor)
        state = getattr(tensor, "quant_state", None)
        if state is not None:
            second = state.state2 if state.nested else None
            base += [state.absmax, state.offset, getattr(second, "absmax", None)]
            base += [state.code, getattr(second, "code", None)]
    states = [value for state in optimizer.state.values() for value in state.values()]
    return {
        "weights": size(base), "adapters": size(own), "gradients": size(p.grad for p in net.parameters()),
        "optimizer": size(states),
    }  # fmt: skip


def peak_on_gpu(net, tokens, optimizer, setup) -> Record:
    """One step between ``reset_peak_memory_stats`` and ``max_memory_allocated``, phase by phase."""
    record = Record(_resident(net, optimizer))

    @contextmanager
    def mark(name):
        torch.cuda.reset_peak_memory_stats()
        yield
        record.phases[name] = torch.cuda.max_memory_allocated()

    step(net, tokens, optimizer, setup, "cuda", mark)
    record.peak_at = max(record.phases, key=record.phases.get)
    record.peak = record.phases[record.peak_at]
    return record


def peak_on_cpu(net, tokens, optimizer, setup) -> Record:
    """One step under the profiler; its allocations and frees are summed on top of what was there."""
    from torch.profiler import ProfilerActivity, profile, record_function

    record = Record(_resident(net, optimizer))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step(net, tokens, optimizer, setup, "cpu", lambda name: record_function("lorakit " + name))
    changes, marks = [], []
    for event in _walk(profiler.profiler.kineto_results.experimental_event_tree()):
        if event.tag == torch._C._profiler._EventType.Allocation:
            changes.append((event.start_time_ns, event.extra_fields.alloc_size, event.extra_fields.ptr))
        elif event.name.startswith("lorakit "):
            marks.append((event.start_time_ns, event.name.removeprefix("lorakit ")))
    _replay(record, sorted(changes), sorted(marks), tokens.numel(), net.config.vocab_size)
    return record


def _walk(events):
    stack = list(events)
    while stack:
        event = stack.pop()
        yield event
        stack.extend(event.children)


def _replay(record, changes, marks, tokens, vocab_size):
    total = sum(record.resident.values()) + 8 * tokens
    wide = {tokens * vocab_size * size for size in (2, 4)}
    live, at = {}, 0
    for moment, size, pointer in changes:
        while at + 1 < len(marks) and marks[at + 1][0] <= moment:
            at += 1
        total += size
        if size > 0:
            live[pointer] = size
        else:
            live.pop(pointer, None)
        phase = marks[at][1]
        record.timeline.append((phase, total))
        record.phases[phase] = max(record.phases.get(phase, 0), total)
        if total > record.peak:
            record.peak, record.peak_at = total, phase
            record.logits = sum(size for size in live.values() if size in wide)
            if record.logits:  # the first operations of the backward pass belong to the loss
                record.peak_at = "loss"
