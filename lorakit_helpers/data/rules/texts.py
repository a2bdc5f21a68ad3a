"""Rules about the text itself: broken characters, unbalanced quotes, JSON that does not parse, too short, personal data."""

import re
from array import array
from collections import Counter

from .base import ERROR, WARNING, Example, Rule

__all__ = ["BrokenJson", "Mojibake", "PersonalData", "TooShort", "UnbalancedQuotes"]


#: A character of UTF-8 read as an 8-bit encoding becomes two or more characters from these ranges (never East Asian ones);
#: only where two stand together is ftfy's slower judgement asked. "Ã " is an "à" whose second half became a plain space.
_HIGH = re.compile("\ufffd|Ã |[\x80-\u2fff\uf000-\ufdff]{2}")


class Mojibake(Rule):
    id = "mojibake"
    severity = WARNING
    why = "Text decoded with the wrong encoding (Ã© for é) teaches the model to write it so, and costs three tokens for one."
    fix = "Read the source again as UTF-8, or repair the texts with ftfy.fix_text."

    def __init__(self):
        super().__init__()
        from ftfy import fix_encoding
        from ftfy.badness import is_bad

        self.is_bad, self.mend = is_bad, fix_encoding

    def see(self, example: Example) -> None:
        text = example.text
        if text.isascii() or not _HIGH.search(text):
            return
        if "\ufffd" in text:
            at = text.index("\ufffd")
            self.hit(example.line, f"a lost character in {text[max(0, at - 15) : at + 15]!r}")
        elif self.is_bad(text):
            for word in text.split():
                if not word.isascii() and (mended := self.mend(word)) != word:
                    self.hit(example.line, f"{word!r} for {mended!r}")
                    return
            if (mended := self.mend(text)) != text:
                self.hit(example.line, ascii(text[:40]))

    def message(self) -> str:
        return f"{self.count} row{'s hold' if self.count != 1 else ' holds'} wrongly decoded characters"


def _unbalanced(text: str) -> str:
    if text.count("```") % 2:
        return "a code block is opened and not closed"
    if text.count('"') % 2 and (text.count('"') - len(re.findall(r'\d"', text))) % 2:  # 6" is a length
        return 'an odd number of "'
    for left, right in ("“”", "[]", "{}"):
        if text.count(left) != text.count(right):
            return f"{text.count(left)} × {left} and {text.count(right)} × {right}"
    return ""


class UnbalancedQuotes(Rule):
    id = "unbalanced-quotes"
    severity = WARNING
    why = "An answer with a quote or bracket left open was probably cut off, and the model learns to leave them open."
    fix = "Complete or remove the answers; look for a step that cuts texts or splits lines inside quotes."
    _marks = re.compile(r'["“”\[\]{}`]')

    def see(self, example: Example) -> None:
        if example.looks_like_json or not self._marks.search(example.answer):
            return
        if problem := _unbalanced(example.answer):
            self.hit(example.line, problem)

    def message(self) -> str:
        return f"{self.count} answer{'s have' if self.count != 1 else ' has'} quotes or brackets that do not pair up"


class BrokenJson(Rule):
    """Answers that are not JSON, or not of the usual keys, where at least half of the answers are."""

    id = "broken-json"
    severity = ERROR
    why = "Where the answers are JSON, each broken one teaches the model that invalid output, or another set of keys, is fine."
    fix = "Mend the answers: parse each with json.loads and compare its keys before training."

    def __init__(self):
        super().__init__()
        self.shapes, self.first = Counter(), {}

    def see(self, example: Example) -> None:
        if example.parsed is None:
            self.hit(example.line, example.answer)
            return
        shape = tuple(example.parsed) if type(example.parsed) is dict else type(example.parsed).__name__
        if shape not in self.shapes and len(self.shapes) >= 1000:
            shape = "others"
        self.shapes[shape] += 1
        if self.shapes[shape] <= 10:
            self.first.setdefault(shape, array("q")).append(example.line)

    def findings(self, total: int) -> list:
        good, found = self.shapes.total(), []
        if self.count and 2 * good >= total:
            message = f"{self.count} answers are not JSON, {good} others are"
            found.append(self.finding(message, self.count, tuple(self.lines), tuple(self.examples)))
        usual, often = self.shapes.most_common(1)[0] if good else ((), 0)
        odd = [shape for shape in self.shapes if shape != usual]
        if odd and 2 * good >= total and often >= 0.9 * good:
            count = good - often
            lines = sorted(line for shape in odd for line in self.first[shape])
            shown = tuple(f"the keys {', '.join(shape)}" if type(shape) is tuple else shape for shape in odd)
            named = ", ".join(usual) if type(usual) is tuple else f"JSON {usual}"
            message = f"{count} answers have other keys, or another order, than the usual {named}"
            found.append(self.finding(message, count, tuple(lines), shown, WARNING))
        return found


class TooShort(Rule):
    """Answers of one or two words that are neither JSON nor one of a few labels that come back again and again."""

    id = "too-short"
    severity = WARNING
    why = "A model tuned on answers such as 'ok' learns to be curt everywhere, and there is little to learn from in each row."
    fix = "Write full answers, or remove these rows; if they are labels, use the same few words throughout."
    _most = 2000

    def __init__(self):
        super().__init__()
        self.short, self.first, self.words = Counter(), {}, Counter()

    def see(self, example: Example) -> None:
        answer = example.answer
        if len(answer) > 40:
            self.words[8] += 1
            return
        words = len(answer.split())
        self.words[min(words, 8)] += 1
        if 0 < words < 3 and not example.looks_like_json:
            value = answer.strip() if len(self.short) < self._most else "others"
            self.short[value] += 1
            self.first.setdefault(value, example.line)

    def findings(self, total: int) -> list:
        labels = {value for value, count in self.short.items() if count >= max(3, 0.02 * total)}
        if sum(self.short[value] for value in labels) >= 0.9 * total:  # a classification task
            return []
        count = self.short.total()
        if count < max(1, 0.01 * total):
            return []
        shown = sorted(self.first, key=self.first.get)
        message = f"{count} of {total} answers have one or two words"
        return [self.finding(message, count, tuple(self.first[v] for v in shown), tuple(map(repr, shown)))]


_EMAIL = re.compile(r"[\w.+-]{1,64}@(?:[\w-]{1,63}\.)+[A-Za-z]{2,24}")
_RESERVED = re.compile(r"(?:^|[@.])(?:example\.(?:com|net|org)|\w+\.(?:example|test|invalid))$", re.I)  # RFC 2606
_DIGITS = re.compile(r"[+\d][\d ().\-/]{6,}\d")  # a set of characters first, which re skips to quickly
_NOT_DIGIT = re.compile(r"\D")
_CARD = re.compile(r"(?<![\d-])[2-6]\d{3}(?:[ -]?\d){9,15}(?![\d-])")
_NETWORKS = re.compile(r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3[0689]\d{12,14}|6\d{15,18}")
_IBAN = re.compile(r"[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
_CALL = re.compile(
    r"(?:\b(?:(?:tele)?phone|tel|mobile|whatsapp|sms|(?:call|ring|text|reach)(?: (?:me|us|back|him|her|at|on))+)\b|☎)"
    r"[^\d+]{0,15}$",
    re.I,
)


class PersonalData(Rule):
    """E-mail addresses, phone numbers, card numbers (Luhn) and IBANs (check digits). Reserved domains are let pass."""

    id = "personal-data"
    severity = WARNING
    why = "A tuned model can recite what it was trained on, to anyone; personal data also needs a legal ground."
    fix = "Replace them by invented ones (domains such as example.com) or by placeholders, unless they are invented already."

    def __init__(self):
        super().__init__()
        self.kinds = Counter()

    def see(self, example: Example) -> None:
        text = example.text
        if "@" in text:
            for found in _EMAIL.finditer(text):
                if not _RESERVED.search(found.group()):
                    self._note(example.line, "e-mail address", found.group())
                    return
        numbers = list(_DIGITS.finditer(text))
        if numbers and (found := _IBAN.search(text)) and _is_iban(found.group()):
            self._note(example.line, "IBAN", found.group())
            return
        for found in numbers:
            if kind := _number_kind(found, text):
                self._note(example.line, kind, found.group())
                return

    def _note(self, line: int, kind: str, value: str) -> None:
        self.kinds[kind] += 1
        self.hit(line, f"{kind} {value[:3]}…{value[-2:]}")  # masked: a report is passed around, too

    def message(self) -> str:
        kinds = ", ".join(f"{kind} ({count})" for kind, count in self.kinds.most_common())
        return f"{self.count} row{'s hold' if self.count != 1 else ' holds'} what looks like personal data: {kinds}"


def _number_kind(found: re.Match, text: str) -> str:
    value = found.group()
    digits = _NOT_DIGIT.sub("", value)
    if not 7 <= len(digits) <= 25:
        return ""
    if len(digits) >= 13 and (card := _CARD.search(text, found.start(), found.end())) and _is_card(card.group()):
        return "card number"
    if value[0] == "+":
        return "phone number" if len(digits) <= 15 and _is_phone(value) else ""
    before = text[max(0, found.start() - 30) : found.start()]
    return "phone number" if len(digits) <= 15 and _CALL.search(before) else ""


def _is_card(value: str) -> bool:
    from stdnum import luhn

    digits = _NOT_DIGIT.sub("", value)
    return bool(_NETWORKS.fullmatch(digits)) and luhn.is_valid(digits)


def _is_phone(value: str) -> bool:
    import phonenumbers

    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(value))
    except phonenumbers.NumberParseException:
        return False


def _is_iban(value: str) -> bool:
    from stdnum import iban

    return iban.is_valid(value)
