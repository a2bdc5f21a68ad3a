"""What did training for one task cost elsewhere, and does mixing in general data help? Before, after, and the cure.

The questions and how they are scored are in :mod:`lorakit_helpers.probes`. As a command::

    python -m lorakit_helpers.forgetting [--adapter FOLDER]
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

from .errors import LorakitError
from .evaluation import Difference, paired_difference, verdict
from .files import project_root
from .probes import OVERALL, Probe, ProbeScores, load_probes, score_probes
from .rows import load_rows

__all__ = [
    "Forgetting", "Probe", "ProbeScores", "compare_probes", "general_rows", "load_probes", "mix", "probes_table",
    "score_probes",
]  # fmt: skip


@dataclass(frozen=True)
class Forgetting:
    """Two models on the same probes.

    Attributes:
        before, after: their scores.
        differences: ``after - before`` by skill, by kind, and overall, paired over the probes. A model that now writes in
            the form of its task loses the answers, whatever it still knows; the choices tell the two apart.
    """

    before: ProbeScores = field(repr=False)
    after: ProbeScores = field(repr=False)
    differences: dict[str, Difference]

    def verdict(self, name: str = OVERALL) -> str:
        """``"worse"``, ``"better"`` or ``"no evidence of a change"``.

        The rule is :func:`lorakit_helpers.evaluation.verdict`'s: the interval lies on one side of zero, and p < 0.05.
        A skill or kind is one of several looks at the same two models, so its p is first multiplied by their number
        (Bonferroni): six skills that did not change would else give a false alarm far more often than once in twenty.
        """
        d = self._difference(name)
        looks = 1 if name == OVERALL else max(1, len(self.differences) - 1)
        word = verdict(replace(d, p_value=min(1.0, looks * d.p_value))).split(":")[0].lower()
        return word if word in ("worse", "better") else "no evidence of a change"

    def _difference(self, name: str) -> Difference:
        if name not in self.differences:
            raise LorakitError(
                "group of probes", got=repr(name), expected="one of " + ", ".join(self.differences), do="Choose one of these."
            )
        return self.differences[name]

    @property
    def table(self) -> str:
        """Markdown: every group before and after, the paired difference in points with its interval, and the verdict."""
        lines = [
            "| of | probes | chance | before | after | difference (points) | verdict |",
            "|---|---|---|---|---|---|---|",
        ]
        old, new = self.before.metrics, self.after.metrics
        for name, d in self.differences.items():
            cells = [name, str(d.n), f"{self.before.chance[name]:.0%}", _share(old[name]), _share(new[name])]
            points = f"{100 * d.difference:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
            lines.append(f"| {' | '.join(cells)} | {points} | {self.verdict(name)} |")
        return "\n".join(lines)

    def __str__(self):
        d = self.differences[OVERALL]
        return f"{d} on {d.n} probes, p = {d.p_value:.2g}: {self.verdict()}."

    def to_dict(self) -> dict:
        return {
            "differences": {name: asdict(d) for name, d in self.differences.items()},
            "verdicts": {name: self.verdict(name) for name in self.differences},
            "before": self.before.to_dict(), "after": self.after.to_dict(),
        }  # fmt: skip


def compare_probes(before: ProbeScores, after: ProbeScores) -> Forgetting:
    """Compare two models that answered the same probes.

    Raises:
        LorakitError: when they did not answer the same probes in the same order.
    """
    if before.probes != after.probes:
        raise LorakitError(
            "probes before and after", got=f"{len(before.probes)} and {len(after.probes)}, not the same in the same order",
            expected="the same list for both", do="Score both models on one list from load_probes().",
        )  # fmt: skip
    differences = {}
    for name in before.names:
        rows = before.rows(name)
        differences[name] = paired_difference(name, before.correct[rows], after.correct[rows])
    return Forgetting(before, after, differences)


def probes_table(scores: ProbeScores) -> str:
    """One model's scores as a Markdown table: skill or kind, probes, chance, share of right replies with its interval."""
    lines = ["| of | probes | chance | right |", "|---|---|---|---|"]
    lines += [f"| {name} | {m.n} | {scores.chance[name]:.0%} | {_share(m)} |" for name, m in scores.metrics.items()]
    return "\n".join(lines)


def _share(metric) -> str:
    return f"{metric.value:.1%} [{metric.low:.1%}, {metric.high:.1%}]"


def general_rows(n: int | None = None, seed: int = 0, *, path=None) -> list[dict]:
    """General instructions with answers, as training rows in trl's conversational prompt-completion form.

    Args:
        n: how many, drawn without replacement; None means all, in the file's order.
        seed: of the draw.
        path: another JSON-lines file of the schema in ``data/general_mix``.

    Raises:
        LorakitError: when ``n`` is not from 1 to the number of rows, or a row of the file is not right.
    """
    path = project_root() / "data" / "general_mix" / "train.jsonl" if path is None else path
    rows = load_rows(path, "general_mix", noun="general row")
    if n is not None and (n != int(n) or not 1 <= n <= len(rows)):
        raise LorakitError(
            "n", got=n, expected=f"a whole number from 1 to {len(rows)}", do="Leave it out for all rows; mix() repeats them."
        )
    chosen = rows if n is None else random.Random(seed).sample(rows, int(n))
    return [
        {
            "prompt": [{"role": "user", "content": row["instruction"]}],
            "completion": [{"role": "assistant", "content": row["answer"]}],
        }
        for row in chosen
    ]


def mix(rows: Sequence[dict], general: Sequence[dict], share: float, seed: int = 0) -> list[dict]:
    """Task rows with general rows shuffled in: the old cure for forgetting, rehearsal (Robins 1995).

    All task rows stay, so the mixed set is longer than the task's own and trains for more steps: compare at equal numbers
    of task rows, or say so. With ``g`` general and ``t`` task rows, ``share = g / (g + t)``.

    Args:
        rows: of the task, each kept once.
        general: general rows; when fewer than are needed they are used again, every row equally often give or take one.
        share: of general rows in the result, 0 to below 1.
        seed: of the draw and the shuffle.

    Returns:
        A new list of the same row objects; nothing given is changed.

    Raises:
        LorakitError: for a share outside [0, 1), or no general rows where some are wanted.

    Example:
        >>> len(mix([{"id": i} for i in range(90)], [{"id": "a"}, {"id": "b"}], share=0.1))
        100
    """
    if not 0 <= share < 1:
        raise LorakitError("share", got=share, expected="a number from 0 to below 1", do="For example share=0.1.")
    needed = round(len(rows) * share / (1 - share))
    if needed and not general:
        raise LorakitError("general rows", got="none", expected="at least one", do="Use general_rows().")
    rng, drawn = random.Random(seed), []
    while len(drawn) < needed:
        drawn += rng.sample(list(general), min(len(general), needed - len(drawn)))
    mixed = [*rows, *drawn]
    rng.shuffle(mixed)
    return mixed


def main(arguments: list[str] | None = None) -> None:
    """Print the base model's scores, or with ``--adapter`` both models' and the verdicts."""
    import argparse

    parser = argparse.ArgumentParser(prog="python -m lorakit_helpers.forgetting", description="The forgetting check.")
    parser.add_argument("--adapter", metavar="FOLDER", help="an adapter written by save_pretrained")
    parser.add_argument("--half", choices=("select", "report"), help="only one half of the probes")
    chosen = parser.parse_args(arguments)
    from .start import start

    start("auto")
    from .models import base_model, load_model

    base, probes = base_model(), load_probes(chosen.half)
    before = score_probes(*load_model(base), probes)
    if chosen.adapter is None:
        print(f"{probes_table(before)}\n\n{before.seconds:.0f} s for {len(probes)} probes.")
        return
    found = compare_probes(before, score_probes(*load_model(base, chosen.adapter), probes))
    print(f"{found.table}\n\n{found}\n{before.seconds:.0f} s before, {found.after.seconds:.0f} s after.")


if __name__ == "__main__":
    try:
        main()
    except LorakitError as error:
        raise SystemExit(f"error: {error}") from error
