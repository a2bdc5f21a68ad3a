"""Exercises of notebook 05."""

import itertools

from .exercise import Exercise

__all__ = ["EXERCISES"]

_ROLES = {"system": "system", "human": "user", "gpt": "assistant"}
_CHATS = (
    ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello!"}]},),
    ({"conversations": [
        {"from": "system", "value": "Be brief."}, {"from": "human", "value": "One?"}, {"from": "gpt", "value": "1"},
        {"from": "human", "value": "Two?"}, {"from": "gpt", "value": "2"},
    ]},),
)  # fmt: skip


def _plain(text):
    return " ".join(text.lower().split())


def _to_messages(row):
    return [{"role": _ROLES[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]


def _no_system(row):
    return [{"role": {"human": "user", "gpt": "assistant"}[t["from"]], "content": t["value"]} for t in row["conversations"]]


def _contradictions(rows, plain=_plain):
    answers = {}
    for prompt, answer in rows:
        answers.setdefault(plain(prompt), set()).add(answer)
    return sorted(prompt for prompt, given in answers.items() if len(given) > 1)


def _more_than_once(rows):
    prompts = [_plain(prompt) for prompt, _ in rows]
    return sorted({prompt for prompt in prompts if prompts.count(prompt) > 1})


def _neighbours(rows):
    plain = [(_plain(prompt), answer) for prompt, answer in rows]
    return sorted({a[0] for a, b in itertools.pairwise(plain) if a[0] == b[0] and a[1] != b[1]})


def _leaks(train, test):
    known = {_plain(prompt) for prompt in train}
    return [i for i, prompt in enumerate(test) if _plain(prompt) in known]


def _batches(lengths, size):
    return [lengths[i : i + size] for i in range(0, len(lengths), size)]


def _padding(lengths, batch_size):
    computed = sum(max(batch) * len(batch) for batch in _batches(lengths, batch_size))
    return 1 - sum(lengths) / computed


def _mean_of_batches(batches):
    return sum(1 - sum(batch) / (max(batch) * len(batch)) for batch in batches) / len(batches)


def _over_kept(lengths, batch_size):
    computed = sum(max(batch) * len(batch) for batch in _batches(lengths, batch_size))
    return computed / sum(lengths) - 1


def _grams(words, n):
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def _distinct(texts, n, *, plain=str.lower, end=None):
    grams = [gram for text in texts for gram in _grams(plain(text).split(), n)[:end]]
    return len(set(grams)) / len(grams)


def _mean_of_texts(texts, n):
    each = [_grams(text.lower().split(), n) for text in texts]
    return sum(len(set(grams)) / len(grams) for grams in each) / len(each)


def _across(texts, n):
    grams = _grams(" ".join(texts).lower().split(), n)
    return len(set(grams)) / len(grams)


EXERCISES = {
    "5.1": Exercise(
        _to_messages, _CHATS,
        (
            ("The speakers keep their ShareGPT names: human is user, gpt is assistant.",
             lambda row: [{"role": turn["from"], "content": turn["value"]} for turn in row["conversations"]]),
            ("The system turn is lost: ShareGPT can say it, so keep it.",
             lambda row: [turn for turn in _to_messages(row) if turn["role"] != "system"]),
            ("Only the first exchange is left; keep every turn.", lambda row: _to_messages(row)[:2]),
            ("The table of names needs the system turn too: system stays system.",
             _no_system),
        ),
        ("One dict for each turn; a small table says what human and gpt are called.",
         'NAMES = {"system": "system", "human": "user", "gpt": "assistant"}; '
         '[{"role": NAMES[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]'),
    ),
    "5.2": Exercise(
        _padding, (([10, 20, 30, 40], 2), ([5, 5, 5], 2), ([100, 10, 10, 10, 60], 4)),
        (
            ("That is padding over the tokens kept; the share is of all tokens computed.", _over_kept),
            ("Each batch is padded to its own longest row, not to the longest of all.",
             lambda lengths, batch_size: 1 - sum(lengths) / (max(lengths) * len(lengths))),
            ("The last batch may be smaller: multiply its longest row by the rows it has.",
             lambda lengths, batch_size: 1 - sum(lengths) / sum(max(b) * batch_size for b in _batches(lengths, batch_size))),
            ("That is in percent; a share lies between 0 and 1.",
             lambda lengths, batch_size: 100 * _padding(lengths, batch_size)),
            ("That is the share of real tokens; padding is the rest.",
             lambda lengths, batch_size: 1 - _padding(lengths, batch_size)),
            ("That averages the batches' shares; batches differ in size, so divide the totals.",
             lambda lengths, batch_size: _mean_of_batches(_batches(lengths, batch_size))),
        ),
        ("Computed tokens: for each batch, its longest row times its number of rows.",
         "computed = sum(max(b) * len(b) for b in batches); return 1 - sum(lengths) / computed"),
    ),
    "5.3": Exercise(
        _leaks,
        (
            (["My lamp broke.", "Where is it?"], ["where is  it?", "New one", "my lamp broke."]),
            (["a", "b", "c"], ["C", "d"]), (["a"], ["b"]), (["my lamp broke today"], ["my lamp broke"]),
        ),
        (
            ("Compare without case and extra spaces: 'My lamp' and 'my  lamp' are the same prompt.",
             lambda train, test: [i for i, prompt in enumerate(test) if prompt in train]),
            ("Those are the prompts; return their indices in test.",
             lambda train, test: [test[i] for i in _leaks(train, test)]),
            ("Those are indices in train; the rows to remove are counted in test.",
             lambda train, test: _leaks(test, train)),
            ("A prompt inside a longer one is not the same prompt: compare whole prompts.",
             lambda train, test: [i for i, p in enumerate(test) if any(_plain(p) in _plain(q) for q in train)]),
        ),
        ("Make every prompt plain (lower case, single spaces), then look each test prompt up in the set of training prompts.",
         "known = {plain(p) for p in train}; return [i for i, p in enumerate(test) if plain(p) in known]"),
    ),
    "5.4": Exercise(
        _contradictions,
        (
            ([("My lamp broke", "refund"), ("Where?", "shipping"), ("my lamp  broke", "exchange")],),
            ([("a", "1"), ("A", "1"), ("b", "1")],),
            ([("b", "2"), ("c", "1"), ("b", "3"), ("a", "1"), ("a", "2")],),
        ),
        (
            ("A prompt twice with the same answer is a copy, not a contradiction: look at the different answers.",
             _more_than_once),
            ("Prompts that differ in case or spaces are the same prompt.",
             lambda rows: _contradictions(rows, plain=lambda text: text)),
            ("Only neighbours are compared; the second answer may come much later.", _neighbours),
        ),
        ("Collect, for each plain prompt, the set of its answers.",
         "answers.setdefault(plain(prompt), set()).add(answer); then the prompts with more than one, sorted"),
    ),
    "5.5": Exercise(
        _distinct, ((["red lamp broke", "red lamp lost"], 1), (["red lamp broke", "Red lamp lost"], 2), (["a b a b"], 2)),
        (
            ("The texts are measured one by one; repeats across texts are what matters, so pool them first.", _mean_of_texts),
            ("A pair of words across the border of two texts is in neither of them.", _across),
            ("That is the number of different ones; divide by how many there are.",
             lambda texts, n: len({gram for text in texts for gram in _grams(text.lower().split(), n)})),
            ("Red and red are the same word: make the texts lower case first.",
             lambda texts, n: _distinct(texts, n, plain=str)),
            ("The last run of every text is missing: there are len(words) - n + 1 runs.",
             lambda texts, n: _distinct(texts, n, end=-1)),
        ),
        ("List the runs of n words of every text, then compare how many there are with how many differ.",
         "grams = [tuple(words[i : i + n]) for words in ... for i in range(len(words) - n + 1)]; len(set(grams)) / len(grams)"),
    ),
}  # fmt: skip
