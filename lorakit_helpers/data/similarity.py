"""How alike texts are, without embeddings: near-copies by MinHash, and measures of diversity."""

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

__all__ = ["Diversity", "Sketches", "diversity", "near_duplicate_groups", "shingles"]

_PERMUTATIONS, _BANDS, _ROWS = 128, 25, 5  # a pair as alike as 0.7 shares a band with probability 0.99
_BUCKET = 30
_WORD = re.compile(r"\w+")


def shingles(text: str, size: int = 3) -> set[str]:
    """The runs of ``size`` words in a text, without case; the whole text when it is shorter.

    Example:
        >>> sorted(shingles("My lamp is broken."))
        ['lamp is broken', 'my lamp is']
    """
    words = _WORD.findall(text.casefold()) or [text]
    return {" ".join(words[i : i + size]) for i in range(max(1, len(words) - size + 1))}


class Sketches:
    """MinHash sketches of many texts (128 values of 4 bytes each) and the pairs of near-copies among them.

    datasketch makes the sketches (Broder 1997). The search is banding as in its MinHashLSH, but by sorting arrays: a
    million texts then take 0.6 GB rather than tens of GB of Python objects.
    """

    def __init__(self):
        from datasketch import MinHash

        self._sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
        self._blocks, self._used = [], 0

    def __len__(self) -> int:
        return self._used

    def add(self, text: str) -> None:
        import numpy as np

        self._sketch.clear()
        self._sketch.update_batch([piece.encode("utf-8", "surrogatepass") for piece in shingles(text)])
        block, row = divmod(self._used, 4096)
        if not row:
            self._blocks.append(np.empty((4096, _PERMUTATIONS), dtype=np.uint32))
        self._blocks[block][row] = self._sketch.hashvalues
        self._used += 1

    def pairs(self, threshold: float = 0.7) -> list[tuple[int, int]]:
        """Pairs ``(earlier, later)`` with an estimated Jaccard similarity of at least ``threshold``.

        Of a crowd of more than 30 alike texts only a chain is given, enough to know the group.
        """
        import numpy as np

        if self._used < 2:
            return []
        values = np.concatenate(self._blocks)[: self._used]
        mix = np.random.default_rng(0).integers(1, 2**63, _ROWS, dtype=np.uint64) | np.uint64(1)
        found = set()
        for band in range(_BANDS):
            keys = (values[:, band * _ROWS : (band + 1) * _ROWS] * mix).sum(axis=1, dtype=np.uint64)  # wraps: a 64-bit hash
            order = np.argsort(keys, kind="stable")
            borders = np.flatnonzero(np.diff(keys[order])) + 1
            starts, ends = np.r_[0, borders], np.r_[borders, len(order)]
            shared = ends - starts > 1
            for start, end in zip(starts[shared], ends[shared], strict=True):
                found.update(_candidates(order[start:end]))
        if not found:
            return []
        left, right = np.array(sorted(found)).T
        near = []
        for i in range(0, len(left), 100_000):
            a, b = left[i : i + 100_000], right[i : i + 100_000]
            alike = (values[a] == values[b]).mean(axis=1) >= threshold
            near += zip(a[alike].tolist(), b[alike].tolist(), strict=True)
        return near


def _candidates(rows) -> list[tuple[int, int]]:
    rows = rows.tolist()  # ascending, since the sort is stable
    if len(rows) > _BUCKET:
        return [*pairwise(rows), *((rows[0], other) for other in rows[1:])]
    return [(a, b) for i, a in enumerate(rows) for b in rows[i + 1 :]]


def near_duplicate_groups(texts: Iterable[str], threshold: float = 0.7) -> list[int]:
    """A group number for each text, the same for near-copies (and copies of copies).

    Example:
        >>> a = "the parcel with my blue lamp has not come yet and I am waiting for it since monday"
        >>> near_duplicate_groups([a, "something else altogether", a + " morning"], threshold=0.6)
        [0, 1, 0]
    """
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    sketches = Sketches()
    for text in texts:
        sketches.add(text)
    pairs = np.array(sketches.pairs(threshold), dtype=int).reshape(-1, 2)
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(sketches),) * 2)
    return connected_components(graph, directed=False)[1].tolist() if len(sketches) else []


@dataclass(frozen=True)
class Diversity:
    """How varied texts are; each measure depends on how many texts there are, so compare equal numbers.

    Attributes:
        texts: how many were looked at.
        distinct_1, distinct_2: different words, and pairs of words, over all of them (Li et al. 2016, distinct-n).
        compression_ratio: bytes over compressed bytes of all texts together; high is repetitive (Shaib et al. 2024).
        self_similarity: mean over texts of the cosine similarity (TF-IDF of words) to the nearest other one.
    """

    texts: int
    distinct_1: float
    distinct_2: float
    compression_ratio: float
    self_similarity: float

    def __str__(self) -> str:
        return (
            f"{self.texts} texts: distinct-1 {self.distinct_1:.2f}, distinct-2 {self.distinct_2:.2f}, compression ratio "
            f"{self.compression_ratio:.1f}, similarity to the nearest other {self.self_similarity:.2f}"
        )

    def to_dict(self) -> dict:
        return asdict(self)


def diversity(texts: Sequence[str]) -> Diversity:
    """Measure texts; meant for a sample of at most some thousands.

    Example:
        >>> same = diversity(["write a poem about the sea"] * 10)
        >>> same.distinct_1, same.self_similarity
        (0.1, 1.0)
    """
    words = [_WORD.findall(text.casefold()) for text in texts]
    ones = [word for one in words for word in one]
    twos = [pair for one in words for pair in pairwise(one)]
    raw = "\n".join(texts).encode("utf-8", "surrogatepass")
    return Diversity(
        len(texts),
        len(set(ones)) / len(ones) if ones else 0.0,
        len(set(twos)) / len(twos) if twos else 0.0,
        len(raw) / len(zlib.compress(raw, 9)) if raw else 1.0,
        _nearest(texts) if len(texts) > 1 and ones else 0.0,
    )


def _nearest(texts: Sequence[str]) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer

    weights = TfidfVectorizer(token_pattern=r"\w+").fit_transform(texts)
    alike = (weights @ weights.T).toarray()
    alike[range(len(texts)), range(len(texts))] = 0
    return round(float(alike.max(axis=1).mean()), 6)
