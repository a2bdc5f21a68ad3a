"""Finding texts that share words with a question: BM25 (Robertson and Zaragoza 2009) by bm25s, words cut to their stems."""

import logging
from dataclasses import dataclass

import numpy as np

from .errors import LorakitError

__all__ = ["Hit", "Retriever", "found_within", "stems"]


@dataclass(frozen=True)
class Hit:
    """One text that was found.

    Attributes:
        index: its place in the list the retriever was made from.
        score: BM25 score; larger is a better match, and figures of two queries cannot be compared.
    """

    index: int
    score: float


def stems(texts: list[str]) -> list[list[str]]:
    """The words of each text without English stop words, cut to their stems by nltk's Porter stemmer.

    Example:
        >>> stems(["The kettles are blinking"])
        [['kettl', 'blink']]
    """
    import bm25s
    from nltk.stem import PorterStemmer

    porter = PorterStemmer()
    return bm25s.tokenize(
        texts,
        stopwords="en_plus",
        stemmer=lambda many: [porter.stem(word) for word in many],
        return_ids=False,
        show_progress=False,
    )


class Retriever:
    """A BM25 index over a list of texts.

    ``score(q, d) = Σ over words w of q: idf(w) · tf / (tf + k1 · (1 - b + b · |d| / mean |d|))``, with bm25s's own idf
    (Lucene's variant), k1 = 1.5 and b = 0.75.

    Args:
        texts: what is searched.

    Raises:
        LorakitError: without a text, or when no text has a word to search for.

    Example:
        >>> shelf = Retriever(["A kettle for tea.", "A tent for two.", "Boots for ice."])
        >>> [hit.index for hit in shelf.search("which tents are there?", 2)]
        [1]
    """

    def __init__(self, texts: list[str]):
        import bm25s

        if isinstance(texts, str) or not len(texts):
            raise LorakitError("texts to search", got="one text" if texts else "none", expected="a list", do="Pass a list.")
        pieces = stems(list(texts))
        if not any(pieces):
            raise LorakitError("texts to search", got="no words but stop words", expected="text", do="Is it the right list?")
        logging.getLogger("bm25s").setLevel(logging.WARNING)  # it sets itself to DEBUG
        self.texts = list(texts)
        self._index = bm25s.BM25()
        self._index.index(pieces, show_progress=False)

    def __len__(self) -> int:
        return len(self.texts)

    def search(self, query: str, k: int = 1) -> list[Hit]:
        """The ``k`` best texts, best first; fewer when fewer share a word with the query.

        Raises:
            LorakitError: when ``k`` is not a whole number of at least 1.
        """
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise LorakitError("k", got=repr(k), expected="a whole number of at least 1", do="For example k=3.")
        known = [word for word in stems([query])[0] if word in self._index.vocab_dict]
        if not known:
            return []
        scores = self._index.get_scores(known)
        best = np.argsort(-scores, kind="stable")[:k]  # ties go to the earlier text, on every machine
        return [Hit(int(i), float(scores[i])) for i in best if scores[i] > 0]


def found_within(hits: list[list[Hit]], wanted: list[int], k: int) -> np.ndarray:
    """1 where the wanted text is among the first ``k`` hits, else 0; the mean is recall@k.

    Args:
        hits: one list per question, best first.
        wanted: index of the text that answers each question.

    Raises:
        LorakitError: when the two differ in length or are empty.

    Example:
        >>> found_within([[Hit(4, 2.0), Hit(1, 1.5)], [Hit(0, 3.0)]], [1, 2], 2)
        array([1., 0.])
    """
    if len(hits) != len(wanted) or not len(wanted):
        raise LorakitError(
            "hits and wanted texts", got=f"{len(hits)} and {len(wanted)}", expected="one of each per question",
            do="Search once for every question.",
        )  # fmt: skip
    return np.array([any(hit.index == want for hit in some[:k]) for some, want in zip(hits, wanted, strict=True)], dtype=float)
