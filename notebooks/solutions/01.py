# %% [ex:1.1]
from lorakit_helpers.exercises import check, hint


def recall_at(found: list[list[str]], wanted: list[str], k: int) -> float:
    """Share of questions whose wanted id is among the first k found."""
    return sum(want in ids[:k] for ids, want in zip(found, wanted, strict=True)) / len(wanted)


recall_at = check("1.1", recall_at)


# %% [ex:1.2]
def gives(said: list[str], answer: list[str]) -> bool:
    """Whether the words of the answer stand in a row among the words said."""
    return any(said[i : i + len(answer)] == answer for i in range(len(said)))


gives = check("1.2", gives)


# %% [ex:1.3]
def blame(found: bool, right: bool) -> str:
    """'right', 'lucky' (right without the article), 'not read' or 'not found'."""
    if right:
        return "right" if found else "lucky"
    return "not read" if found else "not found"


blame = check("1.3", blame)


# %% [ex:1.4]
def passages_that_fit(lengths: list[int], budget: int, fixed: int) -> int:
    """How many passages, best first, fit beside `fixed` other tokens."""
    kept, left = 0, budget - fixed
    for n in lengths:
        if n > left:
            break
        kept, left = kept + 1, left - n
    return kept


passages_that_fit = check("1.4", passages_that_fit)


# %% [ex:1.5]
import math


def break_even(training: float, slow: float, fast: float) -> float:
    """Questions after which training pays; math.inf where it never does."""
    return math.ceil(training / (slow - fast)) if fast < slow else math.inf


break_even = check("1.5", break_even)
