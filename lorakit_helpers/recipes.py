"""A training recipe: every LoRA and training hyperparameter in one place, checked when it is made."""

import math
from dataclasses import asdict, dataclass, fields, replace

from .errors import LorakitError

__all__ = ["PROJECTIONS", "Recipe"]

#: The seven projections of a Llama-style block: attention (q, k, v, o) and MLP (gate, up, down).
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

_SCHEDULES = ("linear", "cosine", "constant", "constant_with_warmup")


@dataclass(frozen=True)
class Recipe:
    """LoRA and training hyperparameters, with the names peft and trl use.

    Attributes:
        r: rank of the update ``B @ A`` (LoRA paper, arXiv:2106.09685, section 4.1).
        lora_alpha: the update is scaled by ``lora_alpha / r``.
        lora_dropout: dropout on the adapter's input, 0 to below 1.
        target_modules: names of the linear layers that get an adapter.
        learning_rate, lr_scheduler_type, warmup_steps, weight_decay: of AdamW.
        num_train_epochs: passes over the data; ``max_steps`` > 0 overrides it.
        per_device_train_batch_size, gradient_accumulation_steps: their product is the examples per update.
        max_length: longest sequence in tokens; longer ones are cut.
        gradient_checkpointing: False, True, or "unsloth" (recompute activations to save memory).
        optim: as in transformers' TrainingArguments.
        attn_implementation: None lets the library choose.
        torch_compile: on a CPU, Unsloth compiles each decoder layer (half a minute or so, then faster steps; needs a C++
            compiler, without one it goes on uncompiled). Ignored on a GPU.
        group_by_length: batches of similar length, so that little padding is computed.
        save_steps: steps between checkpoints.
        seed: for the adapters' start, the data order and dropout.

    Raises:
        LorakitError: for a value that cannot train, naming the field.

    Example:
        >>> Recipe(r=16, lora_alpha=32).scaling
        2.0
    """

    r: int = 32
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    target_modules: tuple[str, ...] = PROJECTIONS
    learning_rate: float = 2e-4
    lr_scheduler_type: str = "linear"
    warmup_steps: int = 10
    weight_decay: float = 0.0
    num_train_epochs: float = 1.0
    max_steps: int = -1
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    max_length: int = 512
    gradient_checkpointing: bool | str = False
    optim: str = "adamw_torch_fused"
    attn_implementation: str | None = None
    torch_compile: bool = False
    group_by_length: bool = True
    logging_steps: int = 10
    save_steps: int = 50
    seed: int = 42

    def __post_init__(self):
        targets = (self.target_modules,) if isinstance(self.target_modules, str) else tuple(self.target_modules)
        object.__setattr__(self, "target_modules", targets)
        for name in ("r", "lora_alpha", "per_device_train_batch_size", "gradient_accumulation_steps", "max_length"):
            self._check(name, _whole(getattr(self, name)) and getattr(self, name) >= 1, "a whole number of at least 1")
        for name in ("logging_steps", "save_steps"):
            self._check(name, _whole(getattr(self, name)) and getattr(self, name) >= 1, "a whole number of at least 1")
        for name in ("warmup_steps", "seed"):
            self._check(name, _whole(getattr(self, name)) and getattr(self, name) >= 0, "a whole number of at least 0")
        self._check("learning_rate", _number(self.learning_rate) and 0 < self.learning_rate < 1, "above 0 and below 1")
        self._check("lora_dropout", _number(self.lora_dropout) and 0 <= self.lora_dropout < 1, "from 0 to below 1")
        self._check("weight_decay", _number(self.weight_decay) and self.weight_decay >= 0, "0 or more")
        self._check("num_train_epochs", _number(self.num_train_epochs) and self.num_train_epochs > 0, "above 0")
        self._check("max_steps", _whole(self.max_steps) and (self.max_steps == -1 or self.max_steps > 0), "-1 or above 0")
        self._check("target_modules", self.target_modules, "at least one module name such as q_proj")
        self._check("torch_compile", isinstance(self.torch_compile, bool), "True or False")
        self._check("lr_scheduler_type", self.lr_scheduler_type in _SCHEDULES, "one of " + ", ".join(_SCHEDULES))
        self._check(
            "gradient_checkpointing", self.gradient_checkpointing in (True, False, "unsloth"), 'True, False or "unsloth"'
        )

    def _check(self, name, right, expected):
        if not right:
            raise LorakitError(
                f"recipe field {name}",
                got=repr(getattr(self, name)),
                expected=expected,
                do=f"For example {name}={_default(name)!r}.",
            )

    @property
    def scaling(self) -> float:
        """The factor on the adapter's output, ``lora_alpha / r``."""
        return self.lora_alpha / self.r

    @property
    def examples_per_step(self) -> int:
        """Examples behind one optimizer update on one device."""
        return self.per_device_train_batch_size * self.gradient_accumulation_steps

    def but(self, **changes) -> "Recipe":
        """A copy with some fields changed; an unknown field is an error."""
        known = {field.name for field in fields(self)}
        for name in changes:
            if name not in known:
                raise LorakitError(
                    f"recipe field {name}",
                    got="an unknown name",
                    expected="one of " + ", ".join(sorted(known)),
                    do="Check the spelling.",
                )
        return replace(self, **changes)

    def to_dict(self) -> dict:
        return asdict(self)


def _whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _default(name):
    return next(field.default for field in fields(Recipe) if field.name == name)
