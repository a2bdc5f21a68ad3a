"""What is wrong with a training run, read from its log: :func:`diagnose` names faults, shows the figures, says what to do.

Each rule's threshold stands in its docstring with the reason; ``python -m lorakit_helpers.diagnosis_report`` measures how
often the rules are right, on runs trained for that purpose.
"""

import math
from collections import Counter
from dataclasses import asdict, dataclass, fields

import numpy as np

from .errors import LorakitError
from .recipes import Recipe

__all__ = ["FAULTS", "Finding", "LabelFacts", "RunRecord", "diagnose", "label_facts"]


@dataclass(frozen=True)
class LabelFacts:
    """What the loss sees of the training rows.

    Attributes:
        rows: how many there are.
        cut: rows that do not end with the end token, because ``max_length`` or a template cut it off.
        empty: rows without a single trained token.
        tokens, trained_tokens: over all rows, padding not counted.
        entropy: of the trained tokens' frequencies, in nats: the loss of a model that knows which tokens are frequent and
            nothing else. None where unknown.
        max_length: longest sequence allowed, None where there is no limit.
    """

    rows: int
    cut: int
    empty: int
    tokens: int
    trained_tokens: int
    entropy: float | None = None
    max_length: int | None = None


@dataclass(frozen=True)
class RunRecord:
    """A run as its log tells it.

    Attributes:
        steps, losses: logged points; a loss is the mean over the updates since the point before, in nats per token.
        grad_norms: gradient norm before clipping at the same points; empty where it was not logged.
        learning_rates: at the same points; may be empty.
        validation_steps, validation_losses: measured on rows that were not trained on; may be empty.
        max_steps: updates planned.
        epochs: passes over the data so far, None where unknown.
        labels: what the loss sees of the rows, None where unknown.
        recipe: the recipe, None where unknown.
    """

    steps: tuple[int, ...]
    losses: tuple[float, ...]
    grad_norms: tuple[float, ...] = ()
    learning_rates: tuple[float, ...] = ()
    validation_steps: tuple[int, ...] = ()
    validation_losses: tuple[float, ...] = ()
    max_steps: int = 0
    epochs: float | None = None
    labels: LabelFacts | None = None
    recipe: Recipe | None = None

    def __post_init__(self):
        for field in fields(self):
            if isinstance(getattr(self, field.name), list):
                object.__setattr__(self, field.name, tuple(getattr(self, field.name)))
        points = len(self.steps)
        for name in ("losses", "grad_norms", "learning_rates"):
            if len(getattr(self, name)) not in ((points,) if name == "losses" else (0, points)):
                raise LorakitError(
                    f"run record, {name}", got=f"{len(getattr(self, name))} values for {points} steps",
                    expected="one for each logged step", do="Take both from the same log.",
                )  # fmt: skip
        if len(self.validation_steps) != len(self.validation_losses):
            raise LorakitError(
                "run record, validation losses", expected="one for each validation step", do="Take both from the same log.",
                got=f"{len(self.validation_losses)} values for {len(self.validation_steps)} steps",
            )  # fmt: skip

    @classmethod
    def from_log(cls, log, *, recipe: Recipe | None = None, validation=(), labels: LabelFacts | None = None) -> "RunRecord":
        """From a :class:`~lorakit_helpers.training.TrainingLog`, or the ``"log"`` of a saved ``lorakit_run.json``.

        Args:
            log: the log, or a dict with its ``steps``, ``losses`` and ``max_steps``.
            recipe: the recipe it was trained with.
            validation: pairs (step, loss) measured on held-out rows; without one, overfitting cannot be seen.
            labels: from :func:`label_facts`.
        """
        known = log if isinstance(log, dict) else log.to_dict()
        pairs = list(validation)
        return cls(
            tuple(known["steps"]), tuple(map(float, known["losses"])), max_steps=known.get("max_steps", 0), recipe=recipe,
            validation_steps=tuple(step for step, _ in pairs), validation_losses=tuple(float(loss) for _, loss in pairs),
            labels=labels,
        )  # fmt: skip

    @classmethod
    def from_trainer(cls, trainer, *, recipe: Recipe | None = None, eos_token_id: int | None = None) -> "RunRecord":
        """From a transformers or trl trainer after ``train()``, gradient norms and labels included.

        Args:
            trainer: its ``state.log_history`` and training rows are read.
            recipe: the recipe, if there is one.
            eos_token_id: the token every answer must end with; None takes the trainer's tokenizer's.
        """
        history = [dict(entry) for entry in trainer.state.log_history]
        points = [entry for entry in history if "loss" in entry]
        validation = [entry for entry in history if "eval_loss" in entry]

        def column(name):
            return tuple(float(p[name]) for p in points) if points and all(name in p for p in points) else ()

        return cls(
            tuple(p["step"] for p in points), column("loss"), column("grad_norm"), column("learning_rate"),
            tuple(e["step"] for e in validation), tuple(float(e["eval_loss"]) for e in validation),
            trainer.state.max_steps, trainer.state.epoch, label_facts(trainer, eos_token_id), recipe,
        )  # fmt: skip

    def to_dict(self) -> dict:
        return asdict(self)


def label_facts(trainer, eos_token_id: int | None = None) -> LabelFacts:
    """Collate every training row as the trainer would, and count what carries loss.

    trl puts a line break after some templates' end token; so a row counts as cut when the end token is nowhere among its
    trained tokens.
    """
    from .training import collated

    if eos_token_id is None:
        eos_token_id = trainer.processing_class.eos_token_id
    rows, cut, empty, tokens, seen = len(trainer.train_dataset), 0, 0, 0, Counter()
    for labels, count in collated(trainer):
        tokens += count
        kept = labels[labels != -100]
        seen.update(kept.tolist())
        empty += len(kept) == 0
        cut += len(kept) > 0 and eos_token_id not in kept
    counts = np.array(list(seen.values()), dtype=float)
    shares = counts / max(counts.sum(), 1.0)
    entropy = float(-(shares * np.log(shares)).sum()) if seen else None
    return LabelFacts(rows, cut, empty, tokens, seen.total(), entropy, getattr(trainer.args, "max_length", None))


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        id: one of :data:`FAULTS`.
        seen: the figures it was read from.
        why: why it matters.
        do: what to try first.
    """

    id: str
    seen: str
    why: str
    do: str

    def __str__(self):
        return f"{self.id}: {self.seen} {self.why} {self.do}"

    def to_dict(self) -> dict:
        return asdict(self)


def diagnose(run: RunRecord) -> list[Finding]:
    """All faults of a run, causes first; an empty list for a healthy one.

    A fault that explains others hides them: with an empty mask or a diverged loss there is no curve left to read, and a
    run that learned nothing is not also too short.
    """
    if seen := _empty_mask(run):
        return [_finding("empty_mask", seen)]
    found = [("truncated", _truncated(run))]
    if seen := _diverged(run):
        found.append(("diverged", seen))
    elif seen := _plateau(run):
        found.append(("plateau", seen))
    else:
        found += [("overfit", _overfit(run)), ("undertrained", _undertrained(run)), ("spikes", _spikes(run))]
    return [_finding(name, seen) for name, seen in found if seen]


#: What can be found: why it matters, and what to do.
FAULTS = {
    "empty_mask": (
        "Without a trained token there is no loss: its figure is 0 or NaN, and the weights stay as they are.",
        "Look at one batch's labels; give SFTTrainer rows with prompt and completion, or correct the marker that finds the "
        "answer's start.",
    ),
    "truncated": (
        "The model learns answers without an end, and never to stop.",
        "Raise max_length above the longest row, or leave long rows out.",
    ),
    "diverged": (
        "The updates are larger than the step the gradient speaks for, and have destroyed what the model could do.",
        "Start again from the base model with a tenth of the learning rate, and with warm-up.",
    ),
    "plateau": (
        "The updates are too small to get anywhere in so many steps, or the adapter is not being trained.",
        "Raise the learning rate tenfold; check that trainable parameters are not zero.",
    ),
    "overfit": (
        "The model learns these rows by heart instead of the task.",
        "Train fewer epochs, get more or more varied rows, or take the checkpoint where validation was lowest.",
    ),
    "undertrained": (
        "The run ended while it was still learning.",
        "Train more steps or epochs with the same recipe.",
    ),
    "spikes": (
        "A few rows pull the weights elsewhere than all the others; clipping limits the damage, it does not undo it.",
        "Look at the rows of these steps (wrong answers, another language, garbage); keep gradient clipping on.",
    ),
}


def _finding(name: str, seen: str) -> Finding:
    why, do = FAULTS[name]
    return Finding(name, seen, why, do)


def _end(values, share=0.2) -> float:
    """Median of the last fifth: a level that one odd batch does not move."""
    return float(np.median(values[-max(1, round(share * len(values))) :]))


def _empty_mask(run: RunRecord) -> str:
    """Any row without a trained token; or, where the labels are unknown, a loss of exactly 0 (or NaN) at every point.

    No threshold on the share: a row that trains nothing is a mistake of the mask, however few there are. A real loss is
    never exactly 0; transformers logs 0 in place of the NaN that a mean over no tokens is.
    """
    if run.labels is not None:
        facts = run.labels
        return f"{facts.empty} of {facts.rows} rows have no trained token." if facts.empty else ""
    lost = [loss == 0 or math.isnan(loss) for loss in run.losses]
    return f"The loss is 0 or NaN at all {len(lost)} logged points." if lost and all(lost) else ""


def _truncated(run: RunRecord) -> str:
    """More than 1 row in 100 without the end token among its labels.

    Below that, a hundred whole answers teach the end for every one that lacks it; a set where that many are cut was made
    with a max_length nobody compared with the rows.
    """
    facts = run.labels
    if facts is None or facts.cut <= 0.01 * facts.rows:
        return ""
    limit = f" at max_length {facts.max_length}" if facts.max_length else ""
    return f"{facts.cut} of {facts.rows} rows ({facts.cut / facts.rows:.0%}) lose the end of their answer{limit}."


def _diverged(run: RunRecord) -> str:
    """A figure that is no number; or a loss that ends above its start, well above its own lowest level, or at chance.

    Above its start: by a tenth and 0.05 nats, more than two batches of the same data differ once they are averaged.
    Above its lowest level: by half of it and 0.2 nats; a healthy loss wanders, its median over a tenth of the run hardly
    climbs. At chance: within 15 % of the entropy of the answers' tokens, no longer falling, though the weights have moved:
    all the model still knows is which tokens are frequent.
    """
    losses = np.array(run.losses)
    if not len(losses):
        return ""
    bad = ~np.isfinite(losses)
    if run.grad_norms:  # transformers logs 0 in place of a NaN loss; the gradient norm gives it away
        bad |= ~np.isfinite(run.grad_norms) & (losses == 0)
    if bad.any():
        return f"The loss is NaN or infinite at step {run.steps[int(np.argmax(bad))]}."
    if not np.isfinite(run.validation_losses).all():
        return "The validation loss is NaN or infinite."
    start, end, lowest = losses[0], _end(losses), _lowest(losses)
    if end > 1.1 * start + 0.05:
        return f"The loss began at {start:.2f} and ends at {end:.2f}."
    if end > 1.5 * lowest + 0.2:
        return f"The loss had come down to {lowest:.2f} and ends at {end:.2f}."
    chance = run.labels.entropy if run.labels else None
    if chance and end > 0.85 * chance and end < 0.9 * start and len(losses) >= 10 and not _undertrained(run):
        return f"The loss ends at {end:.2f}; knowing only how frequent each token is gives {chance:.2f}."
    return ""


def _lowest(losses) -> float:
    """Lowest median over a tenth of the run, at least three points."""
    width = max(3, len(losses) // 10)
    if len(losses) < width:
        return float(np.median(losses))
    return float(np.median(np.lib.stride_tricks.sliding_window_view(losses, width), axis=1).min())


def _plateau(run: RunRecord) -> str:
    """The loss fell by less than a tenth from the first logged point to the end, from a start above 0.3 nats.

    Healthy runs of the course lose half of it and more within the first pass. A model that is at home with the data from
    the start may lose less: then there was little to learn, which is worth knowing as well. Below 0.3 nats there is.
    """
    if len(run.losses) < 3:
        return ""
    start, end = run.losses[0], _end(run.losses)
    if start <= 0.3 or end < 0.9 * start:
        return ""
    return f"The loss went from {start:.2f} to {end:.2f} in {run.steps[-1]} steps, {1 - end / start:.0%} less."


def _overfit(run: RunRecord) -> str:
    """Validation at the end is half again of training and 0.1 nats above it, or has risen while training fell.

    Both figures are means over different rows and so differ a little in any run; at losses near 0 the ratio means nothing,
    hence the 0.1 nats. Risen: by a twentieth and 0.02 nats from its lowest point. Without validation losses nothing is
    said: a training loss near 0 alone may be a task that is learned.
    """
    if not run.validation_losses or not run.losses:
        return ""
    last, lowest = run.validation_losses[-1], min(run.validation_losses)
    train = _end([loss for step, loss in zip(run.steps, run.losses, strict=True) if step <= run.validation_steps[-1]])
    if last > 1.5 * train and last > train + 0.1:
        return f"The loss is {train:.2f} on the training rows and {last:.2f} on validation rows."
    if last > 1.05 * lowest + 0.02:
        step = run.validation_steps[run.validation_losses.index(lowest)]
        return f"The validation loss was {lowest:.2f} at step {step} and is {last:.2f} at the end, {train:.2f} in training."
    return ""


def _undertrained(run: RunRecord) -> str:
    """Fewer than 10 updates; or the second half of the run still brought a fifth of the whole fall, in a clear line.

    With 10 updates a usual warm-up is just over. A healthy loss falls fast and flattens: in the course's runs the second
    half brings a few hundredths of the fall. "Clear" is a slope of more than four standard errors, so that noise around
    a level is no trend.
    """
    updates = run.steps[-1] if run.steps else run.max_steps
    if 0 < updates < 10:
        return f"The run has {updates} updates."
    n = len(run.losses)
    if n < 8:
        return ""
    half = np.array(run.losses[n // 2 :])
    x = np.linspace(0.0, 1.0, len(half))
    slope, level = np.polyfit(x, half, 1)
    error = np.sqrt(((half - slope * x - level) ** 2).sum() / (len(half) - 2) / ((x - x.mean()) ** 2).sum())
    fall = run.losses[0] - _end(half)
    if -slope < 4 * error or -slope < 0.2 * fall or fall <= 0:
        return ""
    return (
        f"The second half of the run still took {-slope:.2f} off the loss, of {fall:.2f} in all; it ends at {_end(half):.2f}."
    )


def _spikes(run: RunRecord) -> str:
    """After the first fifth, points where gradient norm and loss both stand out from the ten points on either side.

    The norm by a factor of 2.5 over their median, the loss by a factor of 1.4 and 0.2 nats. Either alone is usual: the norm
    of a nearly learned task jumps with every row that is still hard, and the loss of a small batch wanders. Where no norms
    were logged nothing is said. A point that is the mean over many updates hides spikes: log every step to see them.
    """
    if not run.grad_norms or len(run.losses) < 20:
        return ""
    losses, norms = np.array(run.losses), np.array(run.grad_norms)
    found = []
    for i in range(len(losses) // 5, len(losses)):
        around = [j for j in range(max(0, i - 10), min(len(losses), i + 11)) if j != i]
        level, usual = np.median(losses[around]), np.median(norms[around])
        if norms[i] > 2.5 * usual and losses[i] > max(1.4 * level, level + 0.2):
            found.append((i, norms[i] / usual, level))
    if not found:
        return ""
    i, times, level = max(found, key=lambda spike: spike[1])
    plural = "s" * (len(found) > 1)
    return (
        f"{len(found)} point{plural} stand{'' if plural else 's'} out; at step {run.steps[i]} the gradient norm is {times:.1f} "
        f"times that around it and the loss {losses[i]:.2f} instead of {level:.2f}."
    )
