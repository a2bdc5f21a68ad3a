"""Exercises of notebook 01."""

import math

from .exercise import Exercise

__all__ = ["EXERCISES"]


def _recall(found, wanted, k):
    return sum(want in ids[:k] for ids, want in zip(found, wanted, strict=True)) / len(wanted)


def _gives(said, answer):
    return any(said[i : i + len(answer)] == answer for i in range(len(said) - len(answer) + 1))


def _in_order(said, answer):
    rest = iter(said)
    return all(word in rest for word in answer)


def _blame(found, right):
    if right:
        return "right" if found else "lucky"
    return "not read" if found else "not found"


def _that_fit(lengths, budget, fixed):
    kept, left = 0, budget - fixed
    for n in lengths:
        if n > left:
            break
        kept, left = kept + 1, left - n
    return kept


def _skipping(lengths, budget, fixed):
    kept, left = 0, budget - fixed
    for n in lengths:
        if n <= left:
            kept, left = kept + 1, left - n
    return kept


def _break_even(training, slow, fast):
    return math.ceil(training / (slow - fast)) if fast < slow else math.inf


EXERCISES = {
    "1.1": Exercise(
        _recall,
        (([["a", "b"], ["c", "a"], ["b", "c"]], ["a", "a", "a"], 1), ([["a", "b"], ["c", "a"], ["b", "c"]], ["a", "a", "a"], 2),
         ([["x", "y", "z"], ["z"]], ["z", "x"], 3), ([[], ["q"]], ["p", "q"], 1)),
        (
            ("Only the first k found ids count: cut the list with ids[:k].",
             lambda found, wanted, k: sum(want in ids for ids, want in zip(found, wanted, strict=True)) / len(wanted)),
            ("That is how many were found; recall is their share of all questions: divide.",
             lambda found, wanted, k: sum(want in ids[:k] for ids, want in zip(found, wanted, strict=True))),
            ("That looks at place k alone; anywhere among the first k counts.",
             lambda found, wanted, k: sum(ids[k - 1 : k] == [want] for ids, want in zip(found, wanted, strict=True))
             / len(wanted)),
        ),
        ("For each question: is its wanted id in ids[:k]?",
         "return sum(want in ids[:k] for ids, want in zip(found, wanted)) / len(wanted)"),
    ),
    "1.2": Exercise(
        _gives,
        ((["it", "holds", "1.3", "litres"], ["1.3", "litres"]), (["17"], ["7"]), (["litres", "1.3"], ["1.3", "litres"]),
         (["7"], ["7"]), (["the", "torx", "t", "8"], ["t", "8"]), ([], ["7"]),
         (["1.3", "of", "litres"], ["1.3", "litres"]), (["t", "x", "t", "8", "bit"], ["t", "8"]),
         (["it", "holds", "7", "litres"], ["7"])),
        (
            ("In a joined text 7 is found inside 17: compare lists of words, not letters.",
             lambda said, answer: "".join(answer) in "".join(said)),
            ("The answer's words must stand next to each other and in order.",
             lambda said, answer: all(word in said for word in answer)),
            ("That asks for the answer and nothing else; it may stand inside a sentence.", lambda said, answer: said == answer),
            ("The answer's words must follow one another: here others come between them.", _in_order),
            ("The answer may stand anywhere, not only at the end.",
             lambda said, answer: said[-len(answer) :] == answer),
        ),
        ("Slide a window as long as the answer over the words that were said.",
         "any(said[i : i + len(answer)] == answer for i in range(len(said)))"),
    ),
    "1.3": Exercise(
        _blame, ((True, True), (True, False), (False, False), (False, True)),
        (
            ("A right answer without its article is luck, or knowledge, and no success of retrieval: call it lucky.",
             lambda found, right: "right" if right else _blame(found, right)),
            ("It is the other way round: with the article in the prompt, a wrong answer was not read.",
             lambda found, right: _blame(found, right) if right else "not found" if found else "not read"),
            ("Where the article was missing, retrieval is to blame, whatever the model wrote: not found, not read apart.",
             lambda found, right: _blame(found, right) if right else "not read"),
        ),
        ("Four cases: two yes-or-no answers.", "Ask `right` first, then `found`; see the four names in the docstring."),
    ),
    "1.4": Exercise(
        _that_fit,
        (([100, 100, 100], 350, 50), ([100, 300, 50], 260, 60), ([120, 80], 200, 0), ([100, 150, 90], 250, 50),
         ([90], 100, 20), ([], 100, 20),
         ([10, 10], 5, 10)),
        (
            ("System line, question and answer take room as well: subtract `fixed` from the budget first.",
             lambda lengths, budget, fixed: _that_fit(lengths, budget, 0)),
            ("A passage that is too long ends the list; taking later ones changes which are the best.", _skipping),
            ("That only looks at one passage at a time; those before it have used room up.",
             lambda lengths, budget, fixed: sum(n <= budget - fixed for n in lengths)),
        ),
        ("Go through the passages in order and keep count of the tokens left.",
         "left = budget - fixed; for n in lengths: stop when n > left, else left -= n and count one."),
    ),
    "1.5": Exercise(
        _break_even, ((60.0, 0.5, 0.25), (100.0, 0.3, 0.3), (100.0, 0.2, 0.3), (90.0, 2.0, 0.5), (1.0, 1.0, 0.1)),
        (
            ("Where the trained way is not faster, it never pays: return math.inf first.",
             lambda training, slow, fast: math.ceil(training / (slow - fast))),
            ("A part of a question cannot be asked: round up, with math.ceil.",
             lambda training, slow, fast: training / (slow - fast) if fast < slow else math.inf),
            ("What counts is what is saved per question, slow - fast, not what a question takes.",
             lambda training, slow, fast: math.ceil(training / slow) if fast < slow else math.inf),
        ),
        ("How many savings of (slow - fast) make up for the training?",
         "return math.ceil(training / (slow - fast)) if fast < slow else math.inf"),
    ),
}  # fmt: skip
