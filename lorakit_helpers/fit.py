"""Whether a GPU profile fits the card that is there, asked before anything is loaded."""

from dataclasses import dataclass, field

from .errors import LorakitError
from .memory import GIB, MemoryEstimate, Plan, TrainSetup, find_model, plan
from .memory.estimate import CONTEXT_GIB, weight_bytes
from .profiles import Profile
from .recipes import Recipe

__all__ = ["MARGIN_GIB", "ProfileFit", "answering_gib", "profile_fit", "recipe_setup", "require_fit"]

#: What a card should have left before a profile is chosen by itself: other programs' windows, and what the model leaves out.
MARGIN_GIB = 1.5
#: Tokens of prompt and answer that the key-value cache is counted for; the course's longest prompts stay below.
ANSWER_TOKENS = 1024


@dataclass(frozen=True)
class ProfileFit:
    """What a profile needs of a card, closed form; nothing was loaded.

    The two are not added: between them the notebooks put the 16-bit model aside (:func:`lorakit_helpers.models.set_aside`).

    Attributes:
        profile: the profile's name.
        gpu_gib: the card's memory as PyTorch reports it, GiB.
        training: the training step at full length, with the ladder down from it.
        answering_gib: the 16-bit model that answers before and after, with its key-value cache, GiB.
    """

    profile: str
    gpu_gib: float
    training: Plan = field(repr=False)
    answering_gib: float

    @property
    def needed_gib(self) -> float:
        """The larger of the two needs, GiB."""
        return max(self.training.estimate.needed_gib, self.answering_gib)

    @property
    def room_gib(self) -> float:
        """What the card has left; negative is what it lacks."""
        return self.gpu_gib - self.needed_gib

    @property
    def fits(self) -> bool:
        return self.room_gib >= 0

    def to_dict(self) -> dict:
        training: MemoryEstimate = self.training.estimate
        return {
            "profile": self.profile, "gpu_gib": self.gpu_gib, "training_gib": training.needed_gib,
            "answering_gib": self.answering_gib, "room_gib": self.room_gib, "fits": self.fits,
        }  # fmt: skip

    def __str__(self):
        needs = f"training {self.training.estimate.needed_gib:.1f} GiB, answering {self.answering_gib:.1f} GiB"
        return f"{self.profile}: {needs}, {self.room_gib:.1f} of {self.gpu_gib:.1f} GiB left"


def recipe_setup(recipe: Recipe) -> TrainSetup:
    """A GPU recipe's training step with every row as long as ``max_length`` allows."""
    from .lab import setup_of

    return setup_of(recipe, recipe.max_length)


def answering_gib(model_id: str, batch: int, tokens: int = ANSWER_TOKENS) -> float:
    """16-bit weights, a key-value cache of ``batch`` rows of ``tokens`` tokens, and CUDA's context, GiB.

    A token's keys and values are ``2 * layers * kv_heads * head_dim`` numbers of two bytes.

    Example:
        >>> round(answering_gib("Llama-3.1-8B", batch=16), 2)
        17.56
    """
    shape = find_model(model_id).shape
    cache = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim * 2 * batch * tokens
    return (weight_bytes(shape, TrainSetup(method="lora")) + cache) / GIB + CONTEXT_GIB


def profile_fit(profile: Profile, gpu_gib: float) -> ProfileFit:
    """What ``profile`` needs of a card of ``gpu_gib`` GiB.

    Raises:
        LorakitError: for a card of no memory, or a model that is not in the catalogue.

    Example:
        >>> from lorakit_helpers.profiles import PROFILES
        >>> profile_fit(PROFILES["gpu-24gb"], 23.5).fits, profile_fit(PROFILES["gpu-24gb"], 14.7).fits
        (True, False)
    """
    shape = find_model(profile.model_id).shape
    answering = answering_gib(profile.model_id, profile.eval_batch_size)
    return ProfileFit(profile.name, float(gpu_gib), plan(shape, gpu_gib, recipe_setup(profile.recipe)), answering)


def require_fit(profile: Profile, name: str, total_gib: float, free_gib: float) -> None:
    """Raise when the profile does not fit the card, or not what is free of it.

    Args:
        profile: a GPU profile.
        name: the card's name, for the message.
        total_gib: of the card, as PyTorch reports it.
        free_gib: of it, after CUDA's own context.

    Raises:
        LorakitError: with what is needed and the ladder of changes, cheapest first.
    """
    fit = profile_fit(profile, total_gib)
    if fit.fits:
        if fit.needed_gib > free_gib + CONTEXT_GIB:
            raise _refusal(profile, name, f"{free_gib:.1f} of {total_gib:.1f} GiB free", fit, _FREE)
        return
    raise _refusal(profile, name, f"{total_gib:.1f} GiB", fit, _advice(profile, fit))


_FREE = "Free the card: shut down other notebooks' kernels (Kernel menu) and programs that use it; `nvidia-smi` names them."


def _refusal(profile, name, got, fit, do):
    needs = f"{fit.training.estimate.needed_gib:.1f} GiB to train and {fit.answering_gib:.1f} GiB to answer in 16 bit"
    return LorakitError(f"profile {profile.name} on {name}", got=got, expected=needs, do=do)


def _advice(profile, fit) -> str:
    smaller = "Use a profile with a smaller model (auto chooses one that fits)."
    if fit.training.fits:
        return f"{smaller} Training alone would fit; the 16-bit model that answers before and after it does not."
    one = f"per_device_train_batch_size=1, gradient_accumulation_steps={profile.recipe.examples_per_step}"
    actions = [one if rung.action.startswith("batch 1") else rung.action for rung in fit.training.changes]
    gib = [f"(then {rung.estimate.needed_gib:.1f} GiB)" for rung in fit.training.changes]
    rungs = "; ".join(f"{action} {needs}" for action, needs in zip(actions, gib, strict=True))
    end = "with these training fits" if fit.training.answer else "even with all of these training does not fit"
    return f"{smaller} Or change the recipe, in this order: {rungs}; {end}."
