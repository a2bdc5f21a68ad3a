"""The second task: a stiff corporate reply in, the same reply in plain words out. Reading, prompting and the style metric.

Three figures that must be read together: readability (textstat), stiff phrases (our list), facts kept
(:mod:`lorakit_helpers.facts`). Alone each is easily fooled: an empty text is readable, a copy keeps every fact.
"""

import re
from dataclasses import asdict, dataclass, field

import numpy as np

from .evaluation import Metric, check_one_each, mean_metric
from .facts import FactCheck, check_facts
from .files import project_root
from .rows import load_rows

__all__ = [
    "STIFF_PHRASES", "SYSTEM_PROMPT", "Pair", "StyleScore", "StyleScores", "load_pairs", "load_split", "reading_grade",
    "score_rewriting", "score_rewritings", "stiff_phrases", "to_conversation", "to_messages",
]  # fmt: skip

#: What the tuned model is told.
SYSTEM_PROMPT = "Stiff to plain."

#: Words that have no place in a plain reply, as regular expressions without regard to case. The list is the course's own.
STIFF_PHRASES = (
    # law and office
    "pursuant to", "hereby", "herewith", "hereof", "hereto", "there(?:by|of|on|to|upon|under|after)",
    "where(?:upon|under|of|by|as)", "aforementioned", "the said", "the latter", "the same (?:being|having|shall|to)", "thus",
    "hence(?:forth)?", "accordingly", "consequently", "notwithstanding", "inasmuch as", "insofar as", "without prejudice",
    "the undersigned", "failing which", "in default", "shall", "deemed", "upon", "whilst", "solely", "pending",
    "absent (?:an?|your)", "subsist(?:s|ing)?", "stipulate[ds]?", "necessitat(?:e[ds]?|ing)", "effected", "attributable to",
    "contingent (?:up)?on", "conditional upon", "incumbent upon", "preclude[ds]?", "not in a position to", "is advised that",
    "(?:not|is) disposed to", "consideration has been given", "indemni(?:f(?:y|ied|ication)|ty)", "premises", "petition",
    # long ways to say because, if, before, after, about, to
    "owing to", "due to the fact", "by reason of", "by virtue of", "on account of", "on (?:the )?grounds of", "in view of",
    "in (?:consequence|respect|lieu|light|furtherance|receipt|recognition|accordance|compliance|conformity) (?:of|with)",
    "consequent upon", "in the (?:event|absence|amount|sum|matter|course) (?:of|that)", "in the interim", "in order to",
    "with (?:respect|regard|reference) to", "with effect from", "with a view to", "prior to", "subsequent(?:ly)? to",
    "for the purposes? of", "no fewer than", "not later than", "regarding", "concerning", "pertaining to", "further to",
    "save (?:for|that|where)",
    # politeness of another age
    "kindly", "(?:be|are|is|were) (?:hereby |respectfully )?(?:advised|apprised|informed|notified|reminded|cautioned)",
    "(?:we )?regret(?:s|fully)? to", "with (?:the utmost )?regret", "do not hesitate",
    "at your (?:earliest convenience|disposal)", "esteemed", "dear sir", "we beg to", "take the liberty",
    "should you (?:wish|elect|require)", "find (?:ourselves|itself|themselves)",
    # heavy verbs and nouns with everyday twins
    "commenc(?:e[ds]?|ing)", "utili[sz](?:e[ds]?|ing|ation)", "endeavour(?:s|ed)?", "ascertain(?:ed)?", "furnish(?:ed|es)?",
    "procure[ds]?", "remit(?:ted|tance)?", "reimburse(?:d|ment)?", "disburse(?:d|ment)", "render(?:ed|s)?",
    "constitut(?:es?|ed|ing)", "elucidat(?:e|ion)", "facilitat(?:e[ds]?|ion)", "terminat(?:e[ds]?|ion)",
    "rectif(?:y|ied|ication)", "substantiat(?:e[ds]?|ing)", "corroborate[ds]?", "erroneous(?:ly)?", "occasioned", "incurred",
    "transmitted", "dispatched", "retained", "withheld", "levied", "accorded", "conceded", "granted", "envisaged", "foreseen",
    "permissible", "(?:in)?admissible", "impracticable", "requisite", "mandatory", "obligatory", "undertaken",
    "(?:execution|presentation|production|provision|submission|verification) of", "resumption", "indisposition",
    "entitlement", "issuance", "notification", "prolongation", "conveyance", "consignments?", "additional", "sufficient",
    "supplementary", "persons", "particulars", "presently", "hitherto", "forthwith", "whereas", "nevertheless", "nonetheless",
    "cease[ds]?", "acced(?:e|ed|ing)", "accru(?:e[ds]?|al|ing)", "attain(?:s|ed)?", "exceed(?:s|ed|ing)?", "in excess of",
    "per annum", "supersed(?:e[ds]?|ing)", "applicable", "prescribed", "obtainable", "initiat(?:e[ds]?|ion)", "provided that",
    "remunerat(?:ed|ion)", "revised", "alleged(?:ly)?", "modif(?:y|ied|ication)", "amendment", "alteration",
    "discontinu(?:e[ds]?|ation)",
)  # fmt: skip
_STIFF = re.compile(rf"\b(?:{'|'.join(STIFF_PHRASES)})\b", re.I)
_INNER_DOT = re.compile(r"(?<=\d)[.,:](?=\d)|(?<=\b(?:Mr|Ms|Dr|No|St))\.|(?<=\bMrs)\.")


@dataclass(frozen=True)
class Pair:
    """One reply in both styles.

    Attributes:
        id: unique in the course's data, for example ``"test-004"``.
        stiff: the reply as the company would write it.
        plain: the same facts in plain words.
        voice: what firm, situation and stiffness, for reading; never shown to the model.
    """

    id: str
    stiff: str
    plain: str
    voice: str = ""


def load_pairs(path) -> list[Pair]:
    """Read and check a JSON-lines file of pairs.

    Raises:
        LorakitError: with file and line for anything that is not a right row; nothing is skipped silently.
    """
    rows = load_rows(path, "plain_style", noun="pair")
    return [Pair(row["id"], row["stiff"], row["plain"], row.get("voice", "")) for row in rows]


def load_split(name: str) -> list[Pair]:
    """The course's own pairs: ``"train"``, ``"validation"`` or ``"test"``."""
    return load_pairs(project_root() / "data" / "plain_style" / f"{name}.jsonl")


def to_messages(text: str, system_prompt: str = SYSTEM_PROMPT) -> list[dict]:
    """The chat a model is asked with: a system turn and the stiff reply as the user's turn."""
    return [{"role": "system", "content": system_prompt}, {"role": "user", "content": text}]


def to_conversation(pair: Pair) -> dict:
    """One training row in trl's conversational prompt-completion form.

    Example:
        >>> to_conversation(Pair("a", "Kindly remit EUR 5.", "Please pay EUR 5."))["completion"]
        [{'role': 'assistant', 'content': 'Please pay EUR 5.'}]
    """
    return {"prompt": to_messages(pair.stiff), "completion": [{"role": "assistant", "content": pair.plain}]}


def reading_grade(text: str) -> float:
    """Years of schooling a text asks for, by textstat's Automated Readability Index.

    ``4.71 · characters per word + 0.5 · words per sentence - 21.43`` (Smith and Senter 1967, "Automated Readability
    Index", AMRL-TR-66-220). It needs no dictionary, so nothing is downloaded. Dots inside figures and after titles are
    taken out first, because textstat would end a sentence there.

    Example:
        >>> round(reading_grade("We'll pay you back. It takes two days."), 1)
        -1.2
    """
    import textstat

    return float(textstat.textstat.automated_readability_index(_INNER_DOT.sub("", text)))


def stiff_phrases(text: str) -> list[str]:
    """The phrases of :data:`STIFF_PHRASES` in a text, as written there.

    Example:
        >>> stiff_phrases("Kindly be advised that, owing to fog, the ferry will wait.")
        ['Kindly', 'be advised', 'owing to']
    """
    return [match[0] for match in _STIFF.finditer(text)]


@dataclass(frozen=True)
class StyleScore:
    """How plain and how faithful one rewriting is.

    Attributes:
        grade: years of schooling it asks for (see :func:`reading_grade`); a very short text scores below 0.
        source_grade: the same for the stiff reply.
        phrases: the stiff phrases in it.
        words: how many words it has.
        facts: which of the source's facts it kept, lost and added.
    """

    grade: float
    source_grade: float
    phrases: tuple[str, ...]
    words: int
    facts: FactCheck

    @property
    def phrases_per_100_words(self) -> float:
        return 100 * len(self.phrases) / self.words if self.words else 0.0

    @property
    def plain_and_faithful(self) -> bool:
        """Some text, easier to read than its source, no stiff phrase, no fact lost, none added."""
        return self.words > 0 and self.grade < self.source_grade and not self.phrases and self.facts.faithful

    def __str__(self):
        return f"grade {self.grade:.1f}, {self.phrases_per_100_words:.1f} stiff phrases per 100 words, {self.facts}"

    def to_dict(self) -> dict:
        return asdict(self)


def score_rewriting(source: str, rewriting: str) -> StyleScore:
    """Score one rewriting of a stiff reply.

    Example:
        >>> print(score_rewriting("Kindly remit EUR 5 by 4 May.", "Please pay EUR 5."))
        grade -2.9, 0.0 stiff phrases per 100 words, 1 facts kept; lost 4 May
    """
    phrases, facts = tuple(stiff_phrases(rewriting)), check_facts(source, rewriting)
    return StyleScore(reading_grade(rewriting), reading_grade(source), phrases, len(rewriting.split()), facts)


@dataclass(frozen=True)
class StyleScores:
    """How well one model rewrote one set of replies.

    Attributes:
        metrics: by name, with intervals: ``reading grade``, ``stiff phrases``, ``facts kept``, ``all facts kept``,
            ``nothing added``, ``no stiff phrase``, ``plain and faithful``.
        rewritings: the scores one by one, in the order of the pairs.
        correct: per-pair arrays of 0 and 1, by metric name, for :func:`lorakit_helpers.evaluation.compare`.
    """

    metrics: dict[str, Metric]
    rewritings: tuple[StyleScore, ...]
    correct: dict[str, np.ndarray] = field(repr=False)

    def __str__(self):
        return "\n".join(str(metric) for metric in self.metrics.values())

    def to_dict(self) -> dict:
        return {
            "metrics": {name: metric.to_dict() for name, metric in self.metrics.items()},
            "rewritings": [score.to_dict() for score in self.rewritings],
        }


def score_rewritings(outputs: list[str], pairs: list[Pair]) -> StyleScores:
    """Score a model's rewritings against the stiff replies they were made from.

    Raises:
        LorakitError: when the two lists differ in length or are empty.
    """
    check_one_each(outputs, pairs, "pair")
    scores = tuple(score_rewriting(pair.stiff, text) for pair, text in zip(pairs, outputs, strict=True))
    correct = {
        "all facts kept": np.array([not s.facts.lost for s in scores], dtype=float),
        "nothing added": np.array([not s.facts.added for s in scores], dtype=float),
        "no stiff phrase": np.array([not s.phrases for s in scores], dtype=float),
        "plain and faithful": np.array([s.plain_and_faithful for s in scores], dtype=float),
    }
    phrases = np.array([s.phrases_per_100_words for s in scores])
    metrics = {
        "reading grade": mean_metric("reading grade", np.array([s.grade for s in scores]), unit="years"),
        "stiff phrases": mean_metric("stiff phrases", phrases, unit="per 100 words"),
        "facts kept": mean_metric("facts kept", np.array([s.facts.retention for s in scores])),
    }
    return StyleScores(metrics | {name: mean_metric(name, values) for name, values in correct.items()}, scores, correct)
