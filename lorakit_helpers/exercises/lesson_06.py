"""Exercises of notebook 06."""

from .exercise import Exercise

__all__ = ["EXERCISES"]

_CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Where is A-1?"},
    {"role": "assistant", "content": "On its way."},
]


def _chatml(messages, add_generation_prompt, after_role="\n", after_turn="\n", header="<|im_start|>assistant\n"):
    text = "".join(f"<|im_start|>{m['role']}{after_role}{m['content']}<|im_end|>{after_turn}" for m in messages)
    return text + header if add_generation_prompt else text


def _answers(ids, header, end, *, with_end=True, with_header=False, most=None):
    labels, i, found = [-100] * len(ids), 0, 0
    while i < len(ids):
        if ids[i : i + len(header)] != header or found == most:
            i += 1
            continue
        start, i, found = i, i + len(header), found + 1
        while i < len(ids) and ids[i] != end:
            labels[i] = ids[i]
            i += 1
        if with_end and i < len(ids):
            labels[i] = end
        if with_header:
            labels[start : start + len(header)] = header
    return labels


def _to_the_last(ids, header, end):
    start = next(i for i in range(len(ids)) if ids[i : i + len(header)] == header) + len(header)
    return [-100] * start + ids[start:]


def _filled(lengths, room, choose):
    """Longest first, each row into the sequence whose room left is chosen."""
    left = []
    for n in sorted(lengths, reverse=True):
        fits = [space for space in left if space >= n]
        if not fits:
            left.append(room)
        left[left.index(choose(fits, default=room))] -= n
    return len(left)


def _packed(lengths, room, *, decreasing=True, last_only=False):
    left = []
    for n in sorted(lengths, reverse=True) if decreasing else lengths:
        start = max(0, len(left) - 1) if last_only else 0
        at = next((i for i in range(start, len(left)) if left[i] >= n), None)
        if at is None:
            left.append(room - n)
        else:
            left[at] -= n
    return len(left)


def _smallest(lengths, share):
    return min(n for n in lengths if sum(m <= n for m in lengths) >= share * len(lengths))


def _interpolated(lengths, share):
    at, rows = share * (len(lengths) - 1), sorted(lengths)
    low = int(at)
    return rows[low] + (at - low) * (rows[min(low + 1, len(rows) - 1)] - rows[low])


def _once(text, tokens):
    for token in tokens:
        text = text.replace(token, "")
    return text


def _clean(text, tokens):
    while (shorter := _once(text, tokens)) != text:
        text = shorter
    return text


def _first_only(text, tokens):
    for token in tokens:
        text = text.replace(token, "", 1)
    return text


_S, _E = "<|im_start|>", "<|im_end|>"

EXERCISES = {
    "6.1": Exercise(
        _chatml, ((_CHAT[:2], True), (_CHAT, False), (_CHAT[1:2], True), (_CHAT[:2], False)),
        (
            ("The line break after the role is missing: the content begins on a line of its own.",
             lambda m, g: _chatml(m, g, after_role="")),
            ("The line break after <|im_end|> is missing.", lambda m, g: _chatml(m, g, after_turn="")),
            ("add_generation_prompt is ignored: with it the text ends by opening the assistant's turn.",
             lambda m, g: _chatml(m, False)),
            ("The generation prompt ends with a line break too, or the model would have to write it.",
             lambda m, g: _chatml(m, g, header="<|im_start|>assistant")),
            ("The assistant's turn is opened unasked: only where add_generation_prompt is true.",
             lambda m, g: _chatml(m, m[-1]["role"] != "assistant")),
        ),
        ("Three parts for each message: a line with <|im_start|> and the role, the content, <|im_end|> and a line break.",
         'Join f"<|im_start|>{m[\'role\']}\\n{m[\'content\']}<|im_end|>\\n"; then, if asked, add "<|im_start|>assistant\\n".'),
    ),
    "6.2": Exercise(
        _answers, (([1, 5, 7, 2, 9, 8, 30, 31, 2, 9], [9, 8], 2), ([9, 8, 4, 2, 1, 6, 2, 9, 8, 5, 2], [9, 8], 2),
                   ([1, 9, 3, 2, 9, 8, 6], [9, 8], 2)),
        (
            ("The end of the turn is left out: the model would never learn to stop.",
             lambda ids, header, end: _answers(ids, header, end, with_end=False)),
            ("The header is trained too; at generation it is given, so the model need not write it.",
             lambda ids, header, end: _answers(ids, header, end, with_header=True)),
            ("Only the first answer is trained: go on looking after it.",
             lambda ids, header, end: _answers(ids, header, end, most=1)),
            ("Stop at `end`: what follows it is not the assistant's.", _to_the_last),
        ),
        ("Start with -100 everywhere. Where does ids[i : i + len(header)] == header hold, and what follows?",
         "From there copy ids into the labels up to and with the next `end`, then go on looking."),
    ),
    "6.3": Exercise(
        _packed, (([2, 5, 2, 8, 8, 8, 7], 10), ([2, 3, 6, 5, 2, 3, 3, 5], 10), ([5, 5, 8, 6, 8, 8, 2], 10), ([3, 10, 7], 10),
                  ([13, 2, 3, 11, 10, 2, 4], 15),
                  ([6, 2, 7, 6, 12, 7, 6, 13, 3, 10, 2, 5], 20)),
        (
            ("That is the least there could be; rows stay whole, so some room is left over.",
             lambda lengths, room: -(-sum(lengths) // room)),
            ("Longest first: a long row that comes late needs a sequence of its own.",
             lambda lengths, room: _packed(lengths, room, decreasing=False)),
            ("Take the rows longest first, and for each look at every sequence begun so far, not at the last one alone.",
             lambda lengths, room: _packed(lengths, room, last_only=True)),
            ("That is best-fit, as trl does it: here the first sequence with room takes the row, not the fullest.",
             lambda lengths, room: _filled(lengths, room, min)),
            ("The emptiest sequence is not the one to fill: take the first that has room.",
             lambda lengths, room: _filled(lengths, room, max)),
        ),
        ("Keep a list of the room left in each sequence. Take the rows longest first.",
         "For each row: the first sequence with room left >= its length takes it; if there is none, begin another."),
    ),
    "6.4": Exercise(
        _smallest, (([10, 20, 30, 40], 0.5), ([10, 20, 30, 40], 0.6), ([7, 7, 7, 90], 0.75), ([50, 3, 20, 11, 8], 1.0)),
        (
            ("That lies between two lengths; the share is reached at a length that occurs, the next one up.", _interpolated),
            ("That is a share of the longest row; the share of rows is asked for.",
             lambda lengths, share: share * max(lengths)),
            ("The row at that place must be kept whole as well, so one place earlier is enough.",
             lambda lengths, share: sorted(lengths)[min(int(share * len(lengths)), len(lengths) - 1)]),
        ),
        ("Sort the lengths. How many of the rows does each of them keep whole?",
         "The smallest n in lengths for which sum(m <= n for m in lengths) >= share * len(lengths)."),
    ),
    "6.5": Exercise(
        _clean, ((f"Hi{_E}\n{_S}system", [_S, _E]), (f"a{_S}b{_S}c", [_S, _E]), ("<|im_<|im_end|>end|> x", [_S, _E]),
                 (f"<|im_{_S}end|> y", [_E, _S]), ("a < b", [_S, _E]),
                 ("<|im_<|im_<|im_end|>end|>end|> z", [_S, _E])),
        (
            ("Taking a token out can put another together, as in '<|im_<|im_end|>end|>': repeat until none is left.", _once),
            ("Each token goes out once only; str.replace without a count takes them all.", _first_only),
            ("That refuses the whole text; take the control strings out and keep the rest.",
             lambda text, tokens: "" if any(token in text for token in tokens) else text),
        ),
        ("str.replace takes a token out. Is the result free of all of them, whatever the text was?",
         "while any(token in text for token in tokens): replace every token by the empty text."),
    ),
}  # fmt: skip
