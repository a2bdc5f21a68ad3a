"""How far the style metric can be trusted: ``python -m lorakit_helpers.plain_style_report`` prints it on the course's pairs.

The references should look plain and faithful, the stiff replies not, and planted faults should be found. Faults are
planted without help from the metric's own patterns: digits are changed one by one, names come from a list made by hand.
"""

import json
import re
from itertools import pairwise

import numpy as np

from .evaluation import Metric, mean_metric
from .facts import check_facts
from .files import project_root
from .plain_style import Pair, load_split, reading_grade, score_rewritings, stiff_phrases

__all__ = ["hand_listed_names", "planted_names", "planted_numbers", "planted_swaps", "planted_words", "separation"]

SPLITS = ("train", "validation", "test")


def separation(pairs: list[Pair]) -> list[Metric]:
    """Shares of pairs whose plain text scores better than their stiff one: lower grade, fewer stiff phrases per word."""

    def rate(text):
        return len(stiff_phrases(text)) / len(text.split())

    grade = np.array([reading_grade(p.plain) < reading_grade(p.stiff) for p in pairs], dtype=float)
    phrases = np.array([rate(p.plain) < rate(p.stiff) for p in pairs], dtype=float)
    return [
        mean_metric("plain reads easier than stiff", grade),
        mean_metric("plain has fewer stiff phrases than stiff", phrases),
        mean_metric("either, the other not worse", np.array([_no_worse(p, rate) for p in pairs], dtype=float)),
    ]


def _no_worse(pair: Pair, rate) -> bool:
    before, after = ((reading_grade(text), rate(text)) for text in (pair.stiff, pair.plain))
    return before != after and after[0] <= before[0] and after[1] <= before[1]


def hand_listed_names() -> dict[str, list[str]]:
    """Names of firms, people, places and products in the validation and test pairs, by pair id."""
    return json.loads((project_root() / "data" / "plain_style" / "names.json").read_text(encoding="utf-8"))


def _found(pair: Pair, damaged: str) -> bool:
    """The damage shows: something is lost or added that was not before."""
    good, bad = check_facts(pair.stiff, pair.plain), check_facts(pair.stiff, damaged)
    return bool(set(bad.lost) - set(good.lost) or set(bad.added) - set(good.added))


def planted_numbers(pairs: list[Pair], seed: int = 0) -> np.ndarray:
    """Change one digit of the plain text at a time; 1 where the metric notices, 0 where not, one figure per digit."""
    rng = np.random.default_rng(seed)
    found = []
    for pair in pairs:
        for digit in re.finditer(r"\d", pair.plain):
            other = (int(digit[0]) + int(rng.integers(1, 10))) % 10
            found.append(_found(pair, f"{pair.plain[: digit.start()]}{other}{pair.plain[digit.end() :]}"))
    return np.array(found, dtype=float)


def planted_names(pairs: list[Pair]) -> np.ndarray:
    """Leave out one hand-listed name at a time, wherever it stands in the plain text; 1 where the metric notices."""
    names = hand_listed_names()
    found = [_found(p, p.plain.replace(name, "it")) for p in pairs for name in names.get(p.id, ())]
    return np.array(found, dtype=float)


def planted_words(pairs: list[Pair]) -> np.ndarray:
    """Change one number in words at a time (two to three, three to four and so on); 1 where the metric notices."""
    words = ["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
    found = []
    for pair in pairs:
        for word, other in pairwise(words):
            if re.search(rf"\b{word}\b", pair.stiff) and re.search(rf"\b{word}\b", pair.plain):
                found.append(_found(pair, re.sub(rf"\b{word}\b", other, pair.plain)))
    return np.array(found, dtype=float)


def planted_swaps(pairs: list[Pair]) -> np.ndarray:
    """Let the first two amounts, or else times, of a plain text change places; 1 where the metric notices."""
    found = []
    for pair in pairs:
        for pattern in (r"(?:EUR|GBP|USD|CHF) \d[\d.,]*\d", r"\d\d:\d\d"):
            places = list(re.finditer(pattern, pair.plain))[:2]
            if len(places) == 2 and places[0][0] != places[1][0]:
                (a, b), text = places, pair.plain
                swapped = text[: a.start()] + b[0] + text[a.end() : b.start()] + a[0] + text[b.end() :]
                found.append(_found(pair, swapped))
                break
    return np.array(found, dtype=float)


def main() -> None:
    splits = {name: load_split(name) for name in SPLITS}
    for name, pairs in (splits | {"all": [pair for split in splits.values() for pair in split]}).items():
        print(f"\n{name}: {len(pairs)} pairs")
        for title, texts in (("stiff", [p.stiff for p in pairs]), ("plain", [p.plain for p in pairs])):
            scores = score_rewritings(texts, pairs)
            print(*(f"  {title}: {metric}" for metric in scores.metrics.values()), sep="\n")
        print(*(f"  {metric}" for metric in separation(pairs)), sep="\n")
    print("\nplanted faults, all splits (names: validation and test)")
    faults = {
        "one digit changed": planted_numbers, "one number in words changed": planted_words,
        "one name left out": planted_names, "two amounts or times swapped": planted_swaps,
    }  # fmt: skip
    for title, plant in faults.items():
        found = plant(pairs)
        print(f"  noticed: {mean_metric(title, found)} of {len(found)}")


if __name__ == "__main__":
    main()
