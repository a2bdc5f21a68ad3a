"""Prompt, retrieval or fine-tuning: advice by named rules, each leaning on a figure that was measured and is passed in."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from .choices import TRAINED, WAYS, WayResult
from .errors import LorakitError
from .evaluation import Metric, mean_metric, paired_difference, verdict

__all__ = ["CHANGE", "FORM_NEEDED", "LACKS", "RULES", "Advice", "Evidence", "Finding", "Needs", "advise"]

#: What the model lacks, and which measured task speaks for it.
LACKS = ("facts", "behaviour", "both")
#: How often the facts change.
CHANGE = ("hardly ever", "every few months", "every week")
#: An exact form counts as kept when at least this share of outputs may have it (upper end of the interval).
FORM_NEEDED = 0.95

RULES = {
    "R1": "Look at the task that resembles your lack",
    "R2": "A prompt must fit the token budget",
    "R3": "Training needs as many examples as were trained on here; examples in turns need at least as many as were shown",
    "R4": "Facts that change need a way that follows the change",
    "R5": "An exact form needs a way whose outputs have it",
    "R6": "What must stay removable does not belong in weights",
    "R7": "Of the ways left, the best; among equals that may be good enough, the cheapest for your number of questions",
    "R8": "The best measured may still not be good enough",
    "R9": "On a larger model, measure again before you train",
}


@dataclass(frozen=True)
class Needs:
    """What you need; the panel's controls.

    Attributes:
        lack: one of :data:`LACKS`.
        change: one of :data:`CHANGE`; counts where facts are lacking.
        examples: labelled examples you have.
        exact_form: whether a program reads the answers.
        budget: tokens a prompt and its answer may have together.
        questions: how many will be asked before anything is set up anew.
        wanted: share of right answers you need, 0 to 1.
        private: whether texts must stay removable and under access control.
        small_model: whether it must be a model of this size.
    """

    lack: str = "facts"
    change: str = "hardly ever"
    examples: int = 1000
    exact_form: bool = False
    budget: int = 2048
    questions: int = 10_000
    wanted: float = 0.5
    private: bool = False
    small_model: bool = True

    def __post_init__(self):
        for name, allowed in (("lack", LACKS), ("change", CHANGE)):
            self._check(name, getattr(self, name) in allowed, "one of " + ", ".join(allowed))
        for name in ("examples", "budget", "questions"):
            value = getattr(self, name)
            self._check(name, isinstance(value, int) and not isinstance(value, bool) and value >= 0, "a whole number from 0")
        self._check("wanted", not isinstance(self.wanted, str) and 0 <= self.wanted <= 1, "a share from 0 to 1")

    def _check(self, name, right, expected):
        if not right:
            raise LorakitError(f"need {name}", got=repr(getattr(self, name)), expected=expected, do="See Needs.")


@dataclass(frozen=True)
class Evidence:
    """What was measured, per task and way.

    Attributes:
        facts: results on handbook questions, with the figure ``answered``.
        behaviour: results on tickets, with ``fields right``, ``valid JSON`` and ``exact match``.
        followed: per way, 1 where the answer after a change was the new fact, one figure per changed question.
        recited: per way, 1 where it was the old fact.
        shown: solved examples in a few-shot prompt.
    """

    facts: dict[str, WayResult]
    behaviour: dict[str, WayResult]
    followed: dict[str, object]
    recited: dict[str, object]
    shown: int

    def __post_init__(self):
        for name in ("facts", "behaviour", "followed", "recited"):
            missing = [way for way in WAYS if way not in getattr(self, name)]
            if missing:
                raise LorakitError(
                    f"evidence {name}", got=f"no figures of {missing[0]!r}", expected="all of " + ", ".join(WAYS),
                    do="Measure every way first.",
                )  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One rule that fired.

    Attributes:
        rule: its number, a key of :data:`RULES`.
        figure: the measurement it leans on, as a sentence.
        out: ways it rules out.
    """

    rule: str
    figure: str
    out: tuple[str, ...] = ()

    def __str__(self):
        ruled = f" Out: {', '.join(self.out)}." if self.out else ""
        return f"{self.rule} {RULES[self.rule]}: {self.figure}{ruled}"


@dataclass(frozen=True)
class Advice:
    """What to do and why.

    Attributes:
        way: one of :data:`~lorakit_helpers.choices.WAYS`, or None where the rules leave none.
        findings: the rules that fired, in order.
        scores: the figure each way was judged by.
        left: ways that no rule struck out.
    """

    way: str | None
    findings: tuple[Finding, ...]
    scores: dict[str, Metric] = field(repr=False)
    left: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[str, ...]:
        """Numbers of the rules that fired."""
        return tuple(finding.rule for finding in self.findings)

    def __str__(self):
        if self.way is None:
            return f"No way is left: {', '.join(f.rule for f in self.findings if f.out)} rule all five out. Relax one need."
        score, good = self.scores[self.way], "R8" not in self.rules
        return (
            f"Choose {self.way}: {score} by these measurements{'' if good else ', less than you want'}. "
            f"Rules: {', '.join(self.rules)}."
        )


def advise(needs: Needs, evidence: Evidence) -> Advice:
    """Strike out what the needs exclude, then take the best way left, or the cheapest of those no worse than it.

    Args:
        needs: what is wanted.
        evidence: what was measured; every threshold comes from it or from ``needs``, except :data:`FORM_NEEDED`.
    """
    judged = _judged(needs, evidence)
    scores = {way: _metric(name, values) for way, (name, values) in judged.items()}
    findings = [Finding("R1", f"you lack {needs.lack}; the ways are judged by {_names(judged)}.")]
    for rule in (_budget, _examples, _change, _form, _private):
        findings += [finding] if (finding := rule(needs, evidence)) else []
    out = {way for finding in findings for way in finding.out}
    left = tuple(way for way in WAYS if way not in out)
    way = None
    if left:
        way, choice = _choose(left, judged, needs, evidence)
        findings.append(choice)
        if scores[way].high < needs.wanted:
            findings.append(Finding("R8", f"{scores[way]}, and you want {needs.wanted:.0%}."))
    if not needs.small_model:
        findings.append(Finding("R9", "all figures here are of one small model; prompts and retrieval gain most from size."))
    return Advice(way, tuple(findings), scores, left)


def _tasks(needs: Needs, evidence: Evidence) -> list[dict[str, WayResult]]:
    return {"facts": [evidence.facts], "behaviour": [evidence.behaviour]}.get(needs.lack, [evidence.facts, evidence.behaviour])


def _judged(needs: Needs, evidence: Evidence) -> dict[str, tuple]:
    """Per way the name and the per-question figures it is judged by; where both are lacking, those of its weaker task."""
    form = "exact match" if needs.exact_form else "fields right"
    sides = {"facts": ("answered", evidence.facts), "behaviour": (form, evidence.behaviour)}
    chosen = [sides[lack] for lack in sides if needs.lack in (lack, "both")]
    options = {way: [(name, results[way].correct[name]) for name, results in chosen] for way in WAYS}
    return {way: min(some, key=lambda pair: pair[1].mean()) for way, some in options.items()}


def _names(judged) -> str:
    return " or ".join(dict.fromkeys(name for name, _ in judged.values()))


def _most(needs, evidence, way, what) -> float:
    return max(getattr(results[way], what) for results in _tasks(needs, evidence))


def _budget(needs: Needs, evidence: Evidence) -> Finding | None:
    used = {way: _most(needs, evidence, way, "tokens") for way in WAYS}
    out = tuple(way for way in WAYS if used[way] > needs.budget)
    told = ", ".join(f"{way} {used[way]:.0f}" for way in out)
    return Finding("R2", f"measured tokens a question: {told}; the budget is {needs.budget}.", out) if out else None


def _examples(needs: Needs, evidence: Evidence) -> Finding | None:
    least = {way: _most(needs, evidence, way, "examples") for way in TRAINED}
    least["few-shot prompt"] = evidence.shown
    if needs.lack != "facts":  # solved tickets are what is retrieved
        least["RAG"] = evidence.shown
    out = tuple(way for way in WAYS if needs.examples < least.get(way, 0))
    told = ", ".join(f"{way} {least[way]}" for way in out)
    return Finding("R3", f"used here: {told}; you have {needs.examples}.", out) if out else None


def _change(needs: Needs, evidence: Evidence) -> Finding | None:
    if needs.lack == "behaviour" or needs.change == CHANGE[0]:
        return None
    shares = {way: _metric("followed", evidence.followed[way]) for way in WAYS}
    best = max(WAYS, key=lambda way: shares[way].value)
    none = {way for way in WAYS if shares[way].value == 0 and shares[best].low > 0}
    out = tuple(way for way in WAYS if way in none or shares[way].high < shares[best].low)
    told = f"{best} told the new fact in {shares[best].value:.0%} of {shares[best].n} changed questions"
    if out:
        told += ", " + ", ".join(f"{way} in {shares[way].value:.0%}" for way in out)
    return Finding("R4", told + ("." if out else "; no way is clearly behind it."), out)


def _form(needs: Needs, evidence: Evidence) -> Finding | None:
    if not needs.exact_form or needs.lack == "facts":
        return None
    valid = {way: _metric("valid JSON", evidence.behaviour[way].correct["valid JSON"]) for way in WAYS}
    out = tuple(way for way in WAYS if valid[way].high < FORM_NEEDED)
    told = ", ".join(f"{way} {valid[way].value:.0%}" for way in WAYS)
    return Finding("R5", f"valid JSON: {told}; {FORM_NEEDED:.0%} must lie within the interval.", out)


def _private(needs: Needs, evidence: Evidence) -> Finding | None:
    if not needs.private:
        return None
    recited = {way: _metric("recited", evidence.recited[way]) for way in TRAINED}
    told = ", ".join(f"{way} still told the old fact in {m.value:.0%} of {m.n} changed questions" for way, m in recited.items())
    if needs.lack == "behaviour":
        return Finding("R6", f"{told}; take names and numbers out of the examples before you train.")
    out = tuple(way for way in TRAINED if recited[way].low > 0)
    return Finding("R6", f"{told}; an index forgets at once.", out)


def _choose(left, judged, needs: Needs, evidence: Evidence) -> tuple[str, Finding]:
    best = max(left, key=lambda way: judged[way][1].mean())
    cost = {way: sum(results[way].cost(needs.questions) for results in _tasks(needs, evidence)) for way in left}
    equals = [way for way in left if way == best or not _better(judged[way], judged[best])]
    able = [way for way in equals if _metric(*judged[way]).high >= needs.wanted] or [best]
    chosen = min(able, key=lambda way: (cost[way], WAYS.index(way)))
    told = f"best is {best}, {_metric(*judged[best])}"
    others = [way for way in equals if way != best]
    if others:
        told += f"; not shown to be worse: {', '.join(others)}"
    price = f"{cost[chosen] / 1e6:.1f} million tokens for training (three times each) and {needs.questions:,} questions"
    return chosen, Finding("R7", f"{told}; {chosen} costs {price}.")


def _metric(name: str, values) -> Metric:
    return _interval(name, tuple(values))


@lru_cache(maxsize=256)  # a panel asks for the same intervals at every change
def _interval(name: str, values: tuple) -> Metric:
    return mean_metric(name, np.array(values, dtype=float))


def _better(lower, upper) -> bool:
    """Whether the second is shown to be better; figures of two tasks have no pairs, so there the intervals decide."""
    (name, a), (other, b) = lower, upper
    if name == other:
        return _paired_better(name, tuple(a), tuple(b))
    return _metric(name, a).high < _metric(other, b).low


@lru_cache(maxsize=256)
def _paired_better(name: str, a: tuple, b: tuple) -> bool:
    return verdict(paired_difference(name, a, b)).startswith("Better")
