"""Rules about rows that repeat each other: copies, contradictions, leaks between splits, near-copies, low diversity."""

import random
from array import array
from collections.abc import Iterable
from importlib import import_module

from ..similarity import Sketches, diversity
from .base import ERROR, WARNING, Example, Finding, Rule, normalize

__all__ = ["Contradiction", "Leak", "LowDiversity", "NearDuplicate", "NearLeak"]


class Contradiction(Rule):
    """Same prompt, other answer (an error); same prompt, same answer (a warning, under the id ``duplicate``)."""

    id = "contradiction"
    severity = ERROR
    why = "Told two answers to one question, the model can satisfy neither; the loss stops falling well above zero."
    fix = "Decide on one answer for each prompt and remove the other rows."

    def __init__(self):
        super().__init__()
        self.seen, self.lines_of, self.answers, self.told = {}, array("q"), array("q"), {}
        self.copies = _Duplicate()

    def see(self, example: Example) -> None:
        if not example.prompt:
            return
        told = example.contents[0] if example.roles[0] == "system" else ""
        if told not in self.told:  # another task makes it another prompt
            self.told[told] = hash(normalize(told))
        key = hash((example.key, self.told[told]))
        before = self.seen.get(key)
        if before is None:
            self.seen[key] = len(self.answers)
            self.answers.append(example.answer_key)
            self.lines_of.append(example.line)
        elif self.answers[before] == example.answer_key:
            self.copies.hit(example.line, f"the same as line {self.lines_of[before]}")
        else:
            self.hit(example.line, f"the prompt of line {self.lines_of[before]} with another answer: {example.answer[:60]!r}")

    def message(self) -> str:
        return f"{self.count} row{'s give' if self.count != 1 else ' gives'} another answer to a prompt that came before"

    def findings(self, total: int) -> list[Finding]:
        return super().findings(total) + self.copies.findings(total)


class _Duplicate(Rule):
    id = "duplicate"
    severity = WARNING
    why = "Copies count several times in every epoch: the model learns them by heart, and splits leak into each other."
    fix = "Keep one of each."

    def message(self) -> str:
        return f"{self.count} row{'s are copies' if self.count != 1 else ' is a copy'} of an earlier one"


class Leak(Rule):
    id = "leak"
    severity = ERROR
    why = "A test on rows that were trained on measures memory, not skill; every number from it is too good."
    fix = "Remove them from one side, then split by groups: lorakit_helpers.data.split_rows(rows, seed=0)."

    def __init__(self, others: Iterable[Example]):
        super().__init__()
        self.others = {example.key: example.line for example in others if example.prompt}

    def see(self, example: Example) -> None:
        if example.prompt and (line := self.others.get(example.key)) is not None:
            self.hit(example.line, f"the prompt of line {line} there")

    def message(self) -> str:
        return f"{self.count} prompt{'s stand' if self.count != 1 else ' stands'} in the other split as well"


class NearDuplicate(Rule):
    """Prompts that are nearly copies of each other, or of one in another split; equal ones are left to the exact rules."""

    id = "near-duplicate"
    severity = WARNING
    why = "Rows made from one pattern teach the pattern, not the task; the model fails on prompts that are put otherwise."
    fix = "Keep one of each group and write the others anew: another situation, another length, another tone."
    threshold = 0.7

    def __init__(self):
        super().__init__()
        self.sketches, self.lines_of, self.keys, self.others = Sketches(), array("q"), array("q"), 0

    def see(self, example: Example) -> None:
        self.sketches.add(example.prompt or example.answer)
        self.lines_of.append(example.line)
        self.keys.append(example.key)

    def see_other(self, example: Example) -> None:
        """Look at a row of another split; all of them come before the first row of this one."""
        self.see(example)
        self.others += 1

    def findings(self, total: int) -> list[Finding]:
        inside, across = {}, {}
        for a, b in self.sketches.pairs(self.threshold):
            if b >= self.others and self.keys[a] != self.keys[b]:
                (inside if a >= self.others else across).setdefault(b, a)
        found = []
        if inside:
            message = f"{len(inside)} of {total} prompts are nearly a copy of an earlier one"
            found.append(self.finding(message, *self._rows(inside, "")))
        if across:
            message = f"{len(across)} prompts are nearly a copy of one in the other split"
            found.append(NearLeak().finding(message, *self._rows(across, " there")))
        return found

    def _rows(self, twins: dict[int, int], there: str) -> tuple[int, tuple, tuple]:
        lines, rows = self.lines_of, sorted(twins)
        shown = tuple(f"line {lines[b]} is like line {lines[twins[b]]}{there}" for b in rows[:3])
        return len(rows), tuple(lines[b] for b in rows[:10]), shown


class NearLeak(Leak):
    id = "near-leak"

    def __init__(self):
        super().__init__(())


class LowDiversity(Rule):
    """Diversity of a fixed random sample of prompts, judged by the similarity to the nearest other and by compression."""

    id = "low-diversity"
    severity = WARNING
    why = "Prompts that all sound alike cover little of what users write, however many rows there are."
    fix = "Collect prompts from several sources and writers; vary length, tone, order and words, not only names in a template."
    _size, _least = 500, 20
    nearest, compression = 0.75, 5.0

    def __init__(self):
        super().__init__()
        import_module("sklearn.feature_extraction.text")  # needed at the end; loaded now, so that the rate is that of the work
        self.sample, self.random, self.seen = [], random.Random(0), 0

    def see(self, example: Example) -> None:
        self.seen += 1
        if len(self.sample) < self._size:
            self.sample.append(example.prompt)
        elif (at := int(self.random.random() * self.seen)) < self._size:
            self.sample[at] = example.prompt

    def findings(self, total: int) -> list[Finding]:
        if len(self.sample) < self._least:
            return []
        measured = diversity(self.sample)
        if measured.self_similarity < self.nearest and measured.compression_ratio < self.compression:
            return []
        return [self.finding(f"the prompts are alike ({measured})")]
