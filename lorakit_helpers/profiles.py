"""The four profiles of the course. Only sizes change between them, never the code that runs."""

from dataclasses import dataclass

from .errors import LorakitError, did_you_mean
from .evaluation import MAX_NEW_TOKENS
from .recipes import PROJECTIONS, Recipe

__all__ = ["PROFILES", "Profile", "get_profile"]

SMALL_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMALL_LICENCE = "apache-2.0"  # its publisher's


@dataclass(frozen=True)
class Profile:
    """Sizes for one kind of machine.

    ``gpu-16gb`` has the 3B model although an 8B one would train there: the notebooks also answer with the model in 16 bit,
    before and after, and 8 billion parameters are then 15 GiB (:mod:`lorakit_helpers.fit`).

    Attributes:
        name: ``smoke``, ``cpu``, ``gpu-16gb`` or ``gpu-24gb``.
        device: ``"cpu"`` or ``"cuda"``.
        model_id: the model's name on the Hub; for the GPU profiles an open mirror, which asks for no licence and no token.
        recipe: the tickets' training recipe.
        train_rows, test_rows: how many tickets are used, the first ones of the (shuffled) file; None means all.
        eval_batch_size: prompts generated at once.
        max_new_tokens: an answer's longest; ``smoke`` cuts off what is written after eight steps of training anyway.
        measured_on: where this profile was really run, or a sentence that says it was not.
    """

    name: str
    device: str
    model_id: str
    recipe: Recipe
    train_rows: int | None
    test_rows: int | None
    eval_batch_size: int
    measured_on: str
    max_new_tokens: int = MAX_NEW_TOKENS


_CPU_RECIPE = Recipe(
    learning_rate=2e-3, lr_scheduler_type="cosine", per_device_train_batch_size=4, gradient_accumulation_steps=1,
    attn_implementation="eager", torch_compile=True, max_length=256,
)  # fmt: skip
# The walkthrough's settings, all of them written out.
_GPU_RECIPE = Recipe(
    r=32, lora_alpha=32, lora_dropout=0.05, target_modules=PROJECTIONS, max_length=2048,
    per_device_train_batch_size=2, gradient_accumulation_steps=4, warmup_steps=10, num_train_epochs=3, learning_rate=2e-4,
    logging_steps=10, seed=42, optim="adamw_8bit", gradient_checkpointing="unsloth",
)  # fmt: skip

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            "smoke", "cpu", SMALL_MODEL,
            _CPU_RECIPE.but(max_steps=8, warmup_steps=2, logging_steps=2, save_steps=4, torch_compile=False),
            train_rows=64, test_rows=8, eval_batch_size=8, max_new_tokens=16, measured_on="2 CPU cores, every change (CI)",
        ),
        Profile(
            "cpu", "cpu", SMALL_MODEL, _CPU_RECIPE,
            train_rows=1650, test_rows=None, eval_batch_size=50,
            measured_on="2 CPU cores with AVX512-BF16",
        ),
        Profile(
            "gpu-16gb", "cuda", "unsloth/Llama-3.2-3B-Instruct", _GPU_RECIPE.but(max_length=1024),
            train_rows=None, test_rows=None, eval_batch_size=16, measured_on="not run on a GPU yet",
        ),
        Profile(
            "gpu-24gb", "cuda", "unsloth/Meta-Llama-3.1-8B-Instruct", _GPU_RECIPE,
            train_rows=None, test_rows=None, eval_batch_size=16, measured_on="not run on a GPU yet",
        ),
    )
}  # fmt: skip


def get_profile(name: str) -> Profile:
    """The profile called ``name``.

    Raises:
        LorakitError: for an unknown name, with the nearest known one.
    """
    if name in PROFILES:
        return PROFILES[name]
    raise LorakitError(
        "profile", got=repr(name), expected="one of auto, " + ", ".join(PROFILES),
        do=did_you_mean(name, PROFILES, "Use auto to let the course choose."),
    )  # fmt: skip
