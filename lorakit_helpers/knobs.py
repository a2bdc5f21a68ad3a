"""Which knobs mattered: the prepared sweep's values against its centre, with intervals over seeds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from .errors import LorakitError
from .evaluation import CONFIDENCE
from .sweep import ATTENTION, CENTRE, KNOBS, SweepResult, sweep_points

__all__ = ["Effect", "effects", "effects_table", "knob_verdict", "over_seeds", "value_name"]


def over_seeds(differences) -> tuple[float, float, float, float]:
    """Mean of one difference per seed, its 95 % interval by Student's t, and the p of "no difference".

    A few seeds are a small sample: with three of them the interval is 4.3 standard errors to each side, not 2.

    Returns:
        ``(mean, low, high, p)``; without an interval (nan) for a single seed.

    Raises:
        LorakitError: when there are none.

    Example:
        >>> [round(x, 3) for x in over_seeds([0.1, 0.2, 0.3])]
        [0.2, -0.048, 0.448, 0.074]
    """
    from scipy.stats import ttest_1samp

    values = np.asarray(list(differences), dtype=float)
    if not len(values):
        raise LorakitError("seeds", got="none", expected="at least one", do="Run python -m lorakit_helpers.sweep first.")
    mean = float(values.mean())
    if len(values) == 1:
        return mean, np.nan, np.nan, np.nan
    if np.ptp(values) == 0:
        return mean, mean, mean, float(mean == 0)
    test = ttest_1samp(values, 0.0)
    interval = test.confidence_interval(CONFIDENCE)
    return mean, float(interval.low), float(interval.high), float(test.pvalue)


def value_name(knob: str, value) -> str:
    """A knob's value as a reader would write it.

    Example:
        >>> value_name("learning_rate", 0.002), value_name("lora_alpha", 32)
        ('2e-03', 'alpha = 2 r')
    """
    if knob == "learning_rate":
        return f"{value:.0e}"
    if knob == "target_modules":
        return "attention only" if tuple(value) == ATTENTION else "all seven"
    if knob == "lora_alpha":
        return "alpha = r" if value == CENTRE.r else f"alpha = {value / CENTRE.r:g} r"
    return f"{value}"


@dataclass(frozen=True)
class Effect:
    """One value of one knob against the centre of the sweep.

    Attributes:
        knob, value: what was changed, and to what.
        losses: validation loss of each seed, nats per answer token.
        difference, low, high, p_value: loss minus the centre's, seed by seed, from :func:`over_seeds`; above 0 is worse.
        parameters: trainable ones.
        centre: whether this is the centre itself.
    """

    knob: str
    value: object
    losses: tuple[float, ...]
    difference: float
    low: float
    high: float
    p_value: float
    parameters: int
    centre: bool

    @property
    def loss(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.losses))

    @property
    def name(self) -> str:
        return value_name(self.knob, self.value)


def effects(results: Mapping[str, SweepResult], knob: str, seeds: Iterable[int] = range(100)) -> list[Effect]:
    """Every value of a knob for which a seed is stored that the centre has, too, in the knob's order.

    Args:
        results: from :func:`lorakit_helpers.sweep.read_results`.
        knob: a name of :data:`lorakit_helpers.sweep.KNOBS`.
        seeds: those to look at.

    Raises:
        LorakitError: for an unknown knob, or when the centre is not stored.
    """
    points = sweep_points(seeds, [knob])
    centre = getattr(CENTRE, knob)
    base = {p.recipe.seed: results[p.key].loss for p in points if p.value == centre and p.key in results}
    if not base:
        raise LorakitError(
            "sweep results", got="none for the centre", expected="at least one seed", do="Run python -m lorakit_helpers.sweep."
        )
    found = []
    for value in KNOBS[knob]:
        there = [p for p in points if p.value == value and p.key in results and p.recipe.seed in base]
        if not there:
            continue
        losses = tuple(results[p.key].loss for p in there)
        differences = [loss - base[p.recipe.seed] for loss, p in zip(losses, there, strict=True)]
        figures = (0.0, 0.0, 0.0, 1.0) if value == centre else over_seeds(differences)
        found.append(Effect(knob, value, losses, *figures, results[there[0].key].parameters, value == centre))
    return found


def effects_table(found: list[Effect]) -> str:
    """The values of a knob as a Markdown table."""
    lines = ["| value | trainable | seeds | loss (mean) | against the centre, 95 % interval | p |", "|---|---|---|---|---|---|"]
    for e in found:
        change, p = "the centre", ""
        if not e.centre:
            change, p = (
                f"{e.difference:+.3f}" + ("" if np.isnan(e.low) else f" [{e.low:+.3f}, {e.high:+.3f}]"),
                f"{e.p_value:.2g}",
            )
        lines.append(f"| {e.name} | {e.parameters:,} | {len(e.losses)} | {e.loss:.3f} | {change} | {p} |")
    return "\n".join(lines)


def knob_verdict(found: list[Effect]) -> str:
    """Whether any value differs from the centre, and which are worse or better.

    Each p is multiplied by the number of values compared (Bonferroni): of six looks at nothing, one would else be
    "significant" in a quarter of all sweeps.
    """
    others = [e for e in found if not e.centre]
    if not others:
        return "Nothing to compare: only the centre is stored."
    looks, knob = len(others), found[0].knob
    surely = [e for e in others if e.p_value * looks < 1 - CONFIDENCE]
    worse, better = ([e.name for e in surely if sign * e.difference > 0] for sign in (1, -1))
    said = [f"{word} than the centre: {', '.join(names)}" for word, names in (("worse", worse), ("better", better)) if names]
    spread = max(e.loss for e in found) - min(e.loss for e in found)
    text = f"{knob}: mean losses span {spread:.3f} nats per token; "
    return text + ("; ".join(said) if said else "no value is shown to differ from the centre") + "."
