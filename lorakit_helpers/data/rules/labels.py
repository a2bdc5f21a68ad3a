"""Rules about answers that are labels: misspelt, one-sided, always the same, or sorted.

A label is a whole answer, a field of a JSON answer, or a column such as ``topic``, where few values make up most rows.
"""

import math
from array import array
from collections import Counter
from collections.abc import Iterator
from statistics import median

from .base import ERROR, WARNING, Example, Finding, Rule

__all__ = ["ClassImbalance", "ConstantAnswer", "LabelTypo", "NotShuffled", "Track", "Tracks", "one_edit", "runs_z"]

_COLUMNS = ("topic", "label", "category", "class", "intent", "source", "task")


def one_edit(a: str, b: str) -> bool:
    """Whether two words differ by one inserted, missing, wrong or swapped letter, or only by case and space at the ends.

    Example:
        >>> one_edit("refund", "refnud"), one_edit("refund", "refund!"), one_edit("refund", "exchange")
        (True, True, False)
    """
    if a == b:
        return False
    if a.strip().casefold() == b.strip().casefold():
        return True
    if len(a) > len(b):
        a, b = b, a
    if len(b) - len(a) > 1:
        return False
    i = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if len(a) < len(b):
        return a[i:] == b[i + 1 :]
    return a[i + 1 :] == b[i + 1 :] or (a[i : i + 2] == b[i : i + 2][::-1] and a[i + 2 :] == b[i + 2 :])


def runs_z(runs: int, counts) -> tuple[float, float]:
    """Expected number of runs of equal labels in a random order, and how many standard deviations away ``runs`` is.

    With n labels, n_i of kind i: mean = (n(n+1) - Σn_i²) / n and
    variance = (Σn_i²(Σn_i² + n(n+1)) - 2nΣn_i³ - n³) / (n²(n-1)). Barton and David (1957), "Multiple runs"; for two kinds
    it is the test of Wald and Wolfowitz (1940).

    Example:
        >>> expected, z = runs_z(2, [50, 50])  # all of one kind, then all of the other
        >>> round(expected), z < -9
        (51, True)
    """
    n = sum(counts)
    two, three = sum(c * c for c in counts), sum(c**3 for c in counts)
    mean = (n * (n + 1) - two) / n
    variance = (two * (two + n * (n + 1)) - 2 * n * three - n**3) / (n * n * (n - 1)) if n > 1 else 0
    return mean, (runs - mean) / math.sqrt(variance) if variance > 0 else 0.0


class Track:
    """Counts, runs and first lines of one label; given up when it turns out to take too many values."""

    __slots__ = ("alive", "counts", "first", "last", "runs")

    def __init__(self):
        self.counts, self.first, self.last, self.runs, self.alive = Counter(), {}, None, 0, True

    def add(self, value, line: int) -> None:
        if value.__class__ is not str:
            value = repr(value)
        counts = self.counts
        if value != self.last:
            self.runs += 1
            self.last = value
            if value not in counts:
                self.first[value] = line
                if len(counts) > 200 and len(counts) > 0.2 * sum(counts.values()):
                    self.alive, self.counts, self.first = False, Counter(), {}
                    return
        counts[value] += 1

    def common(self) -> dict[str, int]:
        """The values that make up a label, with their counts; empty when it is none (few rows, or most values are rare)."""
        n = self.counts.total()
        often = {value: count for value, count in self.counts.items() if count >= max(5, 0.005 * n)}
        return often if n >= 10 and sum(often.values()) >= 0.9 * n and len(often) <= 100 else {}


class Tracks:
    """The tracks of all labels in the rows seen; the rules of this module read them at the end."""

    def __init__(self):
        self.tracks: dict[str, Track] = {}
        self.objects = 0

    def see(self, example: Example) -> None:
        line, parsed = example.line, example.parsed
        if example.answer:
            self._track("answer", example.answer, line)
        if type(parsed) is dict:
            self.objects += 1
            for name, value in parsed.items():
                if value.__class__ is not list and value.__class__ is not dict:
                    self._track("answer." + name, value, line)
        if len(example.row) > 1:
            for name in _COLUMNS:
                if name in example.row:
                    self._track(name, example.row[name], line)

    def _track(self, name: str, value, line: int) -> None:
        track = self.tracks.get(name)
        if track is None:
            if len(self.tracks) > 100:
                return
            track = self.tracks[name] = Track()
        if track.alive:
            track.add(value, line)

    def alive(self, *, answers_only: bool = False) -> Iterator[tuple[str, Track]]:
        """The labels by name; a whole answer is none where its fields are."""
        for name, track in self.tracks.items():
            if track.alive and (not answers_only or name.startswith("answer")) and not (name == "answer" and self.objects):
                yield name, track


class _Labels(Rule):
    def __init__(self, tracks: Tracks):
        super().__init__()
        self.tracks = tracks


class LabelTypo(_Labels):
    id = "label-typo"
    severity = WARNING
    why = "A misspelt label is a class of its own: the model learns to write it, and a strict reader of its output fails."
    fix = "Write the usual label in these rows."

    def findings(self, total: int) -> list[Finding]:
        found = []
        for name, track in self.tracks.alive():
            common = track.common()
            for value, count in track.counts.items():
                for usual, often in common.items():
                    if count <= 0.05 * often and len(usual) >= 4 and one_edit(value, usual) and not usual.isdigit():
                        message = f"{name} is {value!r} in {count} row{'s' * (count > 1)}, {usual!r} in {often}"
                        found.append(self.finding(message, count, (track.first[value],)))
                        break
        return found


class ClassImbalance(_Labels):
    id = "class-imbalance"
    severity = WARNING
    why = "The model learns the usual label first and may give it whatever the question is; accuracy hides that."
    fix = "Add rows of the rare labels, or take fewer of the usual one, and measure each label by itself (macro F1)."

    def findings(self, total: int) -> list[Finding]:
        found = []
        for name, track in self.tracks.alive(answers_only=True):
            common, n = track.common(), track.counts.total()
            if n < 20 or not common or len(track.counts) < 2:
                continue
            top, most = max(common.items(), key=lambda item: item[1])
            low, least = min(common.items(), key=lambda item: item[1])
            if most > 0.9 * n or most > 20 * least:
                message = f"{name} is {top[:40]!r} in {most} of {n} rows"
                found.append(self.finding(message + (f", {low[:40]!r} in {least}" if low != top else ""), 0))
        return found


class ConstantAnswer(_Labels):
    id = "constant-answer"
    severity = ERROR
    why = "When every answer is the same the model learns to say it without reading; the loss falls to zero and means nothing."
    fix = "Check the column the answers come from; add rows with other right answers."

    def findings(self, total: int) -> list[Finding]:
        track = self.tracks.tracks.get("answer")
        if track is None or not track.alive or total < 5:
            return []
        top, most = track.counts.most_common(1)[0]
        if most < 0.98 * total:
            return []
        return [self.finding(f"{most} of {total} answers are the same, {top[:60]!r}", most, (track.first[top],))]


class NotShuffled(_Labels):
    """Fewer runs of equal labels than chance gives: rows are sorted by label. Answer length stands in where there is none."""

    id = "not-shuffled"
    severity = WARNING
    why = "Rows sorted by topic make each batch one-sided: the model forgets the first topics while it learns the last."
    fix = "Shuffle with a fixed seed before splitting: lorakit_helpers.data.shuffle_rows(rows, seed=0)."
    _z, _share = -4.0, 0.8

    def __init__(self, tracks: Tracks):
        super().__init__(tracks)
        self.lengths = array("q")

    def see(self, example: Example) -> None:
        self.lengths.append(len(example.text))

    def findings(self, total: int) -> list[Finding]:
        found, middle, long = [], median(self.lengths or [0]), Track()
        for length in self.lengths:
            long.add("long" if length > middle else "short", 0)
        for name, track in [*self.tracks.alive(), ("length (above or below the median)", long)]:
            counts = list(track.counts.values())
            if sum(counts) < 30 or len(counts) < 2 or len(counts) > 0.5 * sum(counts):
                continue
            if name == "answer" and not track.common():
                continue
            expected, z = runs_z(track.runs, counts)
            if z < self._z and track.runs < self._share * expected:
                message = f"{name} comes in {track.runs} runs where a random order gives about {expected:.0f} (z = {z:.0f})"
                found.append(self.finding(message))
        return found
