"""The linter: every row through every rule once, in one pass, never the whole file in memory."""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from numbers import Integral
from pathlib import Path

from ..errors import LorakitError, did_you_mean
from .formats import Detection, detect_format, reader_for
from .reading import iter_rows
from .report import LintReport
from .rules import LABELS, ROWS, RULE_IDS, Contradiction, Example, Leak, LowDiversity, NearDuplicate, TooLong, Tracks
from .rules.base import ERROR, Finding, Rule

__all__ = ["lint", "token_counter"]


class _Unreadable(Rule):
    """Rows that could not be read; takes the place of a list of problems, and keeps only the first."""

    id = "unreadable"
    severity = ERROR
    why = "A row that cannot be read is either left out of the training without a word, or stops it."
    fix = "Each message says what to do."

    def append(self, error: LorakitError) -> None:
        self.count += 1
        if self.count <= 10:
            self.examples.append(str(error))

    def __len__(self) -> int:
        return self.count

    def findings(self, total: int) -> list[Finding]:
        message = f"{self.count} row{'s' if self.count != 1 else ''} could not be read"
        found = Finding(self.id, self.severity, message, self.why, self.fix, self.count, (), tuple(self.examples))
        return [found] if self.count else []


def lint(
    source,
    *,
    format: str | None = None,
    max_length: int | None = None,
    count_tokens: Callable[[list[dict]], int] | None = None,
    against=None,
    near_duplicates: bool = True,
    ignore: Iterable[str] = (),
) -> LintReport:
    """Check training data for the mistakes that make fine-tuning fail silently.

    Args:
        source: a .json or .jsonl file, or rows (a list, a generator, a ``datasets.Dataset``).
        format: the format of the rows; None detects it from the first 100.
        max_length: report rows of more tokens than this; None does not look.
        count_tokens: gives the tokens of a list of messages (see :func:`token_counter`); without it 4 characters count as
            one token, and the finding says so.
        against: another split, a file or rows: prompts in both are reported as leaks.
        near_duplicates: search for near-copies, which takes several times longer than all else together.
        ignore: ids of rules not to report.

    Returns:
        A report; ``report.ok`` is False when there is an error. Rows read plus rows unreadable are all rows of the source.

    Raises:
        LorakitError: when there is nothing to lint: no such file, no rows, no known format; or an unknown rule's id.

    Example:
        >>> report = lint([{"instruction": "Say hello.", "output": ""}] * 2, near_duplicates=False)
        >>> report.ok, [finding.rule for finding in report.findings]
        (False, ['empty-turn', 'no-system-prompt', 'duplicate'])
    """
    ignore = _checked_ids(ignore)
    if max_length is not None and (not isinstance(max_length, Integral) or isinstance(max_length, bool) or max_length < 1):
        raise LorakitError("max_length", got=repr(max_length), expected="a whole number of at least 1", do="Try 1024.")
    unreadable = _Unreadable()
    rules = [rule() for rule in ROWS]
    tracks = Tracks()
    rules += [rule(tracks) for rule in LABELS]
    rules += [Contradiction(), LowDiversity()]
    if max_length is not None:
        rules.append(TooLong(max_length, count_tokens))
    near = NearDuplicate() if near_duplicates else None
    start, started = time.perf_counter(), time.process_time()  # the libraries the rules need are loaded by now
    if against is not None:
        rules.append(Leak(_others(against, near)))
    if near:
        rules.append(near)
    looks = [tracks.see, *(rule.see for rule in rules if type(rule).see is not Rule.see)]
    rows, detection = _opened(source, format, unreadable)
    total = 0
    for example in _examples(rows, detection.format, _name(source), unreadable):
        total += 1
        for look in looks:
            look(example)
    found = unreadable.findings(total) + [finding for rule in rules if total for finding in rule.findings(total)]
    found = sorted((f for f in found if f.rule not in ignore), key=lambda f: f.severity != ERROR)
    return LintReport(
        _name(source), detection, total, len(unreadable), tuple(found), time.perf_counter() - start,
        time.process_time() - started, near_duplicates,
    )  # fmt: skip


def _checked_ids(ids: Iterable[str]) -> frozenset[str]:
    ids = frozenset([ids] if isinstance(ids, str) else ids)
    for name in sorted(ids - set(RULE_IDS)):
        fix = did_you_mean(name, RULE_IDS, "Choose from them.")
        raise LorakitError("rule", got=repr(name), expected="one of " + ", ".join(RULE_IDS), do=fix)
    return ids


def _is_path(source) -> bool:
    return isinstance(source, (str, Path))


def _name(source) -> str:
    return str(source) if _is_path(source) else "row"


def _opened(source, format: str | None, problems) -> tuple[Iterator[tuple[int, dict]], Detection]:
    if _is_path(source):
        rows = iter_rows(source, problems=problems)
    else:
        if isinstance(source, dict):
            got = "splits" if hasattr(source, "num_rows") else "a dict"
            raise LorakitError("rows", got=got, expected="a list of rows, or one split", do='Pass one split: data["train"].')
        rows = _dicts(source, problems)
    first = list(islice(rows, 100))
    if not first and not len(problems):
        raise LorakitError("rows", got="none", expected="at least one", do="Is it the right file or list?")
    if format:
        reader_for(format)
        detection = Detection(format, "as asked", 0, 0)
    elif first:
        detection = detect_format(row for _, row in first)
    else:
        detection = Detection("unknown", "no row could be read", 0, 0)
    return chain(first, rows), detection


def _dicts(source, problems) -> Iterator[tuple[int, dict]]:
    try:
        rows = iter(source)
    except TypeError:
        raise LorakitError("rows", got=type(source).__name__, expected="a file or rows", do="Pass a path or a list.") from None
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            yield number, row
        else:
            got = type(row).__name__
            problems.append(LorakitError(f"row {number}", got=got, expected="a dict", do="Pass one dict for each row."))


def _examples(rows, format: str, name: str, problems) -> Iterator[Example]:
    read = reader_for(format) if format != "unknown" else None
    place = name + ", line" if name != "row" else name
    for line, row in rows:
        try:
            made = read(row, f"{place} {line}")
        except LorakitError as error:
            problems.append(error)
            continue
        yield Example(line, made)


def _others(against, near: NearDuplicate | None) -> Iterator[Example]:
    many = [against] if _is_path(against) else against
    many = many if isinstance(many, (list, tuple)) and all(map(_is_path, many)) else [many]
    for one in many:
        problems = _Unreadable()
        rows, detection = _opened(one, None, problems)
        for example in _examples(rows, detection.format, _name(one), problems):
            if near:
                near.see_other(example)
            yield example
        if len(problems):
            raise LorakitError(
                f"{_name(one)}, to compare with", got=f"{len(problems)} unreadable rows, first: {problems.examples[0]}",
                expected="a file without faults", do="Lint and mend that file first.",
            )  # fmt: skip


def token_counter(tokenizer) -> Callable[[list[dict]], int]:
    """How many tokens a row has for a model: by the tokenizer's chat template, else the sum over its texts.

    Args:
        tokenizer: a transformers tokenizer, or any callable from a text to something whose ``len`` is its tokens.
    """
    if getattr(tokenizer, "chat_template", None):

        def count(messages: list[dict]) -> int:
            try:
                return len(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))
            except Exception:  # a template may refuse a wrong role order, which has a rule of its own
                return sum(len(tokenizer.encode(turn.get("content") or "")) for turn in messages)

        return count
    encode = getattr(tokenizer, "encode", tokenizer)
    return lambda messages: sum(len(encode(turn.get("content") or "")) for turn in messages)
