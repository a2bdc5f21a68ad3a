"""Which facts of a text are still in its rewriting: figures, amounts, dates, codes and proper names, found by pattern."""

import re
from dataclasses import dataclass

__all__ = ["FactCheck", "check_facts", "facts"]

MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_DAYS = re.compile(rf"(?<![\w.:,/-])((?:\d{{1,2}}(?:, | and | or | to | until |–|-)(?:from )?)*\d{{1,2}}) ({MONTHS})\b")
#: A figure or code: digits with what is joined to them, as in 40,816 · 07:45 · HX20PD · 4407-B · RP/2026/0448 · 36th.
_FIGURE = r"(?:\b[A-Z]{1,4}[-/])*\b\w*\d\w*(?:[.,:/-]\w*\d\w*|[-/][A-Z]{1,3}\b)*"
_AMOUNT = re.compile(rf"(?:\b(EUR|GBP|USD|CHF)|([€£$])) ?({_FIGURE})")
_NAME = re.compile(r"(?<!\w)(?<!\w[’'])[^\W\d_a-zß-öø-ÿ][^\W\d_]*(?:[’'-][^\W\d_]+)*")
_SENTENCE_START = re.compile(r"(?:^|[.!?:]['’\"”)]*\s+|\n)['‘\"“(]*$")
_SELF = re.compile(r"\b[Tt]he (?:Bank|Board|Company|House|Management|Secretary)\b(?! [A-Z])")  # "we" in plain words
_PLURAL = re.compile(r"(?:(?<=day)|(?<=\d\d))s$")  # Fridays, under 16s
_TITLE = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|Prof|St|No)\.$")

_WORDS = {"two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10"}
_WORDS |= {"eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15", "twenty": "20", "thirty": "30"}
_WORDS |= {"fortnight": "fortnight"}
_SPELT = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b", re.I)

#: Capitalized, but not a fact: addresses and abbreviations anyone may use for the plain thing.
_NO_NAME = {"i", "the", "dear", "sir", "madam", "messrs", "mr", "mrs", "ms", "dr", "prof"} | {"id", "gp", "vat", "pin", "x-ray"}


def facts(text: str) -> dict[str, str]:
    """The facts of a text that a pattern can find.

    Dates come one by one ("3 to 17 August" holds two), a year on its own, amounts with their currency, other figures
    and codes as written, small numbers in words as figures, proper names word by word.

    Returns:
        kind by fact; the kind is ``"date"``, ``"amount"``, ``"figure"``, ``"number word"`` or ``"name"``.

    Example:
        >>> facts("From 3 to 5 May, Mr Renn pays EUR 4.50 for two nights.")
        {'3 May': 'date', '5 May': 'date', 'EUR 4.50': 'amount', '2': 'number word', 'Renn': 'name'}
    """
    found = {}
    for match in _DAYS.finditer(text):
        found |= {f"{int(day)} {match[2]}": "date" for day in re.findall(r"\d+", match[1])}
    rest = _DAYS.sub("§", text)
    found |= {f"{m[1] or m[2]} {m[3]}": "amount" for m in _AMOUNT.finditer(rest)}
    rest = _AMOUNT.sub("§", rest)
    found |= {_PLURAL.sub("", m[0]): "figure" for m in re.finditer(_FIGURE, rest)}
    for match in _SPELT.finditer(rest):
        found.setdefault(_WORDS[match[0].lower()], "number word")
    return found | {name: "name" for name in _names(rest)}


def _names(text: str) -> list[str]:
    """Capitalized words inside a sentence, and a sentence's first word when another capitalized word follows it."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    text = re.sub(_FIGURE, "§", _SELF.sub("we", text))  # a code's letters are no name
    matches, names = list(_NAME.finditer(text)), []
    for i, match in enumerate(matches):
        word = re.sub(r"[’'](?:s|ve|re|ll|d|m)?$", "", match[0])
        before = text[: match.start()]
        first = _SENTENCE_START.search(before) and not _TITLE.search(before.rstrip())
        after = matches[i + 1] if i + 1 < len(matches) else None
        followed = after and not after[0].isupper() and re.fullmatch(r"[’']? (?:& )?", text[match.end() : after.start()])
        if word.lower() in _NO_NAME or (first and (not followed or word.lower() in ENGLISH_STOP_WORDS)):
            continue
        names.append(_PLURAL.sub("", word))
    return names


@dataclass(frozen=True)
class FactCheck:
    """How the facts of a source fared in a rewriting.

    Attributes:
        kept: facts of the source that the rewriting has.
        lost: facts of the source that it has not.
        added: facts of the rewriting that the source has not.
    """

    kept: tuple[str, ...]
    lost: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def retention(self) -> float:
        """Share of the source's facts that were kept, 0 to 1; 1 where it has none."""
        total = len(self.kept) + len(self.lost)
        return len(self.kept) / total if total else 1.0

    @property
    def faithful(self) -> bool:
        """Nothing lost, nothing added."""
        return not self.lost and not self.added

    def __str__(self):
        parts = [f"{len(self.kept)} facts kept"]
        parts += [f"{name} " + ", ".join(those) for name, those in (("lost", self.lost), ("added", self.added)) if those]
        return "; ".join(parts)


def check_facts(source: str, rewriting: str) -> FactCheck:
    """Compare the facts of two texts.

    A name counts as present in any spelling of its capitals, a small number in words also as a figure. A number in
    words or a capitalized word that only the rewriting has is no added fact when it is in words, as in "two things
    are missing". What no pattern finds (a promise, a refusal, who does what) is not compared.

    Example:
        >>> print(check_facts("Refund of EUR 38.50 to Ms Holt by 4 May.", "We'll pay Ms Holt EUR 35.80 by 4 May."))
        2 facts kept; lost EUR 38.50; added EUR 35.80
    """
    before, after = facts(source), facts(rewriting)
    kept = [fact for fact, kind in before.items() if fact in after or (kind == "name" and _has_word(rewriting, fact))]
    lost = [fact for fact in before if fact not in kept]
    added = [
        fact
        for fact, kind in after.items()
        if fact not in before and kind != "number word" and not (kind == "name" and _has_word(source, fact))
    ]
    return FactCheck(tuple(kept), tuple(lost), tuple(added))


def _has_word(text: str, word: str) -> bool:
    plural = "s?" if word.endswith("day") else ""
    return re.search(rf"(?<!\w){re.escape(word)}{plural}(?!\w)", text, re.I) is not None
