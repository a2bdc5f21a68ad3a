"""Near-copies between the splits of a data set, shared by the data tests: MinHash over runs of three words."""

import re

from datasketch import MinHash, MinHashLSH

PERMUTATIONS, CANDIDATE, NEAR = 128, 0.25, 0.5


def shingles(text) -> set[str]:
    words = re.findall(r"\w+", text.casefold())
    return {" ".join(words[i : i + 3]) for i in range(max(1, len(words) - 2))}


def sketch(text) -> MinHash:
    made = MinHash(num_perm=PERMUTATIONS, seed=1)
    made.update_batch([piece.encode() for piece in shingles(text)])
    return made


def near_pairs(seen, held_out) -> list[tuple[str, str, float]]:
    """Pairs with an estimated Jaccard similarity of at least NEAR; the index's own threshold lies lower, so it misses few."""
    index = MinHashLSH(threshold=CANDIDATE, num_perm=PERMUTATIONS)
    for name, one in seen.items():
        index.insert(name, one)
    found = [(name, other, one.jaccard(seen[other])) for name, one in held_out.items() for other in index.query(one)]
    return [pair for pair in found if pair[2] >= NEAR]


def near_copy(text: str) -> str:
    """The text with its middle word replaced and all in capitals: near by the plain formula, and not the same."""
    words = text.split()
    words[len(words) // 2] = "otherwise"
    copy = " ".join(words).upper()
    a, b = shingles(text), shingles(copy)
    assert NEAR < len(a & b) / len(a | b) < 1
    return copy
