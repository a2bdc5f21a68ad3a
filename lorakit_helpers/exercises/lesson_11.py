"""Exercises of notebook 11."""

from .exercise import Exercise

__all__ = ["EXERCISES"]


def _cut_and_dropped(lengths, prompts, limit):
    dropped = sum(prompt >= limit for prompt in prompts)
    return sum(length > limit for length in lengths) - dropped, dropped


def _mask_after(ids, marker, *, found=-1, keep_marker=False, missing=None):
    n = len(marker)
    places = [i for i in range(len(ids) - n + 1) if ids[i : i + n] == marker]
    if not places:
        return list(ids) if missing == "all" else [-100] * len(ids)
    start = places[found] + (0 if keep_marker else n)
    return [-100] * start + ids[start:]


def _eval_rows(free, length, vocabulary):
    return free // (4 * length * vocabulary)


def _even(text):
    return " ".join(text.casefold().split())


def _leaked(train, test, *, plain=_even, over="test"):
    known = {plain(text) for text in train}
    return sum(plain(text) in known for text in test) / len(test if over == "test" else train)


def _above_trivial(right, labels, *, chance=None):
    share = chance(labels) if chance else max(labels.count(label) for label in labels) / len(labels)
    return sum(right) / len(right) - share


EXERCISES = {
    "11.1": Exercise(
        _cut_and_dropped,
        (([50, 120, 300, 128], [30, 90, 200, 100], 128), ([10, 20], [5, 6], 64), ([200, 140, 129], [128, 100, 127], 128)),
        (
            ("A row of exactly `limit` tokens fits whole: cut rows are longer than the limit.",
             lambda le, p, m: (sum(n >= m for n in le) - sum(n >= m for n in p), sum(n >= m for n in p))),
            ("A dropped row is not counted as cut as well: subtract it.",
             lambda le, p, m: (sum(n > m for n in le), sum(n >= m for n in p))),
            ("A prompt of exactly `limit` tokens leaves no room for the answer: that row is dropped, too.",
             lambda le, p, m: (sum(n > m for n in le) - sum(n > m for n in p), sum(n > m for n in p))),
            ("The two are swapped: cut rows first, then dropped ones.",
             lambda le, p, m: _cut_and_dropped(le, p, m)[::-1]),
            ("A prompt of exactly `limit` tokens leaves no room: such a row is dropped, and falls between the two here.",
             lambda le, p, m: (sum(n > m > q for n, q in zip(le, p, strict=True)), sum(q > m for q in p))),
        ),
        ("Two counts: rows longer than the limit, and prompts that fill it by themselves.",
         "dropped = sum(p >= limit for p in prompts); cut = sum(n > limit for n in lengths) - dropped."),
    ),
    "11.2": Exercise(
        _mask_after,
        (([5, 1, 2, 7, 8], [1, 2]), ([1, 2, 4, 1, 2, 9], [1, 2]), ([3, 4, 5], [1, 2]), ([9, 6], [6]), ([4, 4, 4, 7], [4, 4]),
         ([1, 2, 5, 2, 7], [1, 2])),
        (
            ("A marker that is not there means an empty mask: every label is -100, not the whole row trained.",
             lambda ids, marker: _mask_after(ids, marker, missing="all")),
            ("The marker itself is not trained: begin after its last token.",
             lambda ids, marker: _mask_after(ids, marker, keep_marker=True)),
            ("The prompt may hold the marker as well (an earlier turn): take its last place.",
             lambda ids, marker: _mask_after(ids, marker, found=0)),
            ("Compare the whole marker, not one of its tokens.", lambda ids, marker: _mask_after(ids, marker[-1:])),
            ("Compare the whole marker, not one of its tokens.", lambda ids, marker: _mask_after(ids, marker[:1])),
        ),
        ("Compare a slice of the ids with the marker at every place, and keep the last place where they are equal.",
         "start = place + len(marker); [-100] * start + ids[start:]; without a place, [-100] * len(ids)."),
    ),
    "11.3": Exercise(
        _eval_rows, ((8 * 2**30, 512, 49_152), (2**30, 256, 16_384), (10**9, 2048, 128_256), (10**6, 1000, 1000)),
        (
            ("Logits are held in fp32 here: four bytes a value.", lambda free, n, v: free // (n * v)),
            ("They would fit in 16 bits, but the Trainer holds them in fp32: four bytes, not two.",
             lambda free, n, v: free // (2 * n * v)),
            ("Only whole rows: round down.", lambda free, n, v: free / (4 * n * v)),
            ("Only whole rows: round down.", lambda free, n, v: round(free / (4 * n * v))),
            ("Every token of a row has logits: multiply by `length`.", lambda free, n, v: free // (4 * v)),
        ),
        ("How many bytes are the logits of one row?", "free // (4 * length * vocabulary)"),
    ),
    "11.4": Exercise(
        _leaked,
        ((["My lamp  broke", "Hello"], ["my lamp broke", "Where is it?"]), (["a", "b", "c"], ["a"]), (["x"], ["y", "z"]),
         (["One", "Two"], ["two", "One", "two ", "Three"]), (["my lamp broke again"], ["my lamp broke"])),
        (
            ("Copies may differ in case and spaces: compare \" \".join(text.casefold().split()).",
             lambda train, test: _leaked(train, test, plain=str)),
            ("Case is evened out; spaces are left: split and join again.",
             lambda train, test: _leaked(train, test, plain=str.casefold)),
            ("The share is of the test rows: divide by len(test).", lambda train, test: _leaked(train, test, over="train")),
            ("That is in percent; a share lies between 0 and 1.", lambda train, test: 100 * _leaked(train, test)),
            ("A text inside a longer one is no copy: compare whole texts.",
             lambda train, test: sum(any(_even(a) in _even(b) for b in train) for a in test) / len(test)),
        ),
        ("Make both sides plain in the same way; put the training texts in a set.",
         "known = {plain(t) for t in train}; sum(plain(t) in known for t in test) / len(test)"),
    ),
    "11.5": Exercise(
        _above_trivial,
        (([True, True, False, True], ["normal", "normal", "high", "low"]), ([False, True], ["a", "a"]),
         ([True] * 3 + [False] * 2, ["x", "y", "x", "z", "y"]),
         ([True, False, True, True], ["low", "normal", "normal", "high"])),
        (
            ("That is the accuracy; subtract what always giving the most frequent label gets.",
             lambda right, labels: sum(right) / len(right)),
            ("Chance among the labels is not the best trivial answer: the most frequent one is.",
             lambda right, labels: _above_trivial(right, labels, chance=lambda found: 1 / len(set(found)))),
            ("Take the most frequent label's share, not that of the first row's.",
             lambda right, labels: _above_trivial(right, labels, chance=lambda found: found.count(found[0]) / len(found))),
            ("Take the most frequent label's share, not that of the last row's.",
             lambda right, labels: _above_trivial(right, labels, chance=lambda found: found.count(found[-1]) / len(found))),
            ("That is in percent points; a share lies between 0 and 1.",
             lambda right, labels: 100 * _above_trivial(right, labels)),
        ),
        ("What would a program get that always gives the same label, the best one for it?",
         "sum(right) / len(right) - max(labels.count(label) for label in labels) / len(labels)"),
    ),
}  # fmt: skip
