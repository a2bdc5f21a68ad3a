"""The best rank-r approximation of a matrix, how good it is, and how many ranks a matrix needs."""

from dataclasses import dataclass

import numpy as np

from ..errors import LorakitError

__all__ = [
    "Compression",
    "Decomposition", "decompose", "effective_rank", "energy_curve", "picture", "product_singular_values", "rank_for_energy",
]  # fmt: skip


@dataclass(frozen=True)
class Compression:
    """A matrix kept at one rank.

    Attributes:
        rank: r.
        energy_share: share of ``‖M‖²_F`` kept, 0 to 1; 1 minus the square of the relative error.
        relative_error: ``‖M − M_r‖_F / ‖M‖_F``.
        values: values stored in two factors, r · (m + n).
        shape: (m, n) of the matrix.
    """

    rank: int
    energy_share: float
    relative_error: float
    values: int
    shape: tuple[int, int]

    @property
    def values_share(self) -> float:
        """Stored values over m · n; above 1 the factors are larger than the matrix."""
        return self.values / (self.shape[0] * self.shape[1])


@dataclass(frozen=True, eq=False)
class Decomposition:
    """A matrix taken apart once (``M = U diag(s) Vᵀ``), so that every rank is cheap to try.

    Attributes:
        u: left singular vectors, shape (m, k) with k = min(m, n).
        s: singular values, largest first, shape (k,).
        vt: right singular vectors, shape (k, n).

    Example:
        >>> parts = decompose(np.diag([3.0, 2.0, 1.0]))
        >>> bool(parts.error(1) == np.sqrt(2.0**2 + 1.0**2))
        True
    """

    u: np.ndarray
    s: np.ndarray
    vt: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the matrix."""
        return self.u.shape[0], self.vt.shape[1]

    @property
    def max_rank(self) -> int:
        """min(m, n): at this rank the approximation is the matrix itself."""
        return len(self.s)

    def at(self, rank: int, window: int | None = None) -> np.ndarray:
        """The closest matrix of this rank in the Frobenius norm (Eckart and Young, Psychometrika 1936).

        Args:
            rank: 0 to ``max_rank``.
            window: only the first ``window`` rows and columns, to draw a large matrix quickly; None means all.
        """
        r = self._check(rank)
        return (self.u[:window, :r] * self.s[:r]) @ self.vt[:r, :window]

    def error(self, rank: int) -> float:
        """``‖M − M_r‖_F``, the root of the sum of the discarded squared singular values."""
        return float(np.sqrt(np.sum(self.s[self._check(rank) :] ** 2)))

    def relative_error(self, rank: int) -> float:
        """The error as a share of ``‖M‖_F``; 0 for a matrix of zeros."""
        whole = self.error(0)
        return self.error(rank) / whole if whole else 0.0

    def values(self, rank: int) -> int:
        """Values to store for two factors of this rank: rank · (m + n)."""
        return self._check(rank) * sum(self.shape)

    def compression(self, rank: int) -> "Compression":
        """What this rank keeps and what it costs."""
        error = self.relative_error(rank)
        return Compression(int(rank), 1 - error**2, error, self.values(rank), self.shape)

    def _check(self, rank) -> int:
        if isinstance(rank, bool) or not isinstance(rank, int | np.integer) or not 0 <= rank <= self.max_rank:
            raise LorakitError(
                "rank", got=repr(rank), expected=f"a whole number from 0 to min(rows, columns) = {self.max_rank}",
                do=f"For example rank={min(8, self.max_rank)}.",
            )  # fmt: skip
        return int(rank)


def decompose(matrix) -> Decomposition:
    """The singular value decomposition of a matrix (array or CPU tensor), in double precision.

    Raises:
        LorakitError: when it is not a matrix, is empty, or holds nan or infinity.
    """
    found = _float64(matrix)
    if found.ndim != 2 or not found.size:
        raise LorakitError(
            "matrix", got=f"shape {found.shape}", expected="rows and columns", do="Pass a two-dimensional array."
        )
    if not np.isfinite(found).all():
        raise LorakitError("matrix", got="nan or infinity in it", expected="finite numbers", do="Check where it came from.")
    return Decomposition(*np.linalg.svd(found, full_matrices=False))


def _float64(matrix) -> np.ndarray:
    """An array or CPU tensor as float64; a 16-bit tensor goes through float32, which NumPy knows."""
    return np.asarray(matrix.detach().float() if hasattr(matrix, "detach") else matrix, dtype=np.float64)


def _singular_values(values) -> np.ndarray:
    s = np.asarray(values, dtype=np.float64)
    if s.ndim != 1 or not s.size or not np.isfinite(s).all() or (s < 0).any():
        raise LorakitError("singular values", got=f"shape {s.shape}", expected="a list of finite numbers of 0 or more",
                           do="Pass decompose(matrix).s.")  # fmt: skip
    return np.sort(s)[::-1]


def energy_curve(singular_values) -> np.ndarray:
    """Share of the energy ``‖M‖_F²`` that ranks 0, 1, …, k keep; shape (k + 1,), from 0 to 1.

    Raises:
        LorakitError: for negative or non-finite values.

    Example:
        >>> energy_curve([2.0, 1.0, 1.0]).round(3).tolist()
        [0.0, 0.667, 0.833, 1.0]
    """
    squares = np.concatenate([[0.0], np.cumsum(_singular_values(singular_values) ** 2)])
    return squares / squares[-1] if squares[-1] else np.ones_like(squares)


def rank_for_energy(singular_values, share: float) -> int:
    """The smallest rank that keeps at least this share (0 to 1) of the energy.

    Raises:
        LorakitError: when ``share`` is not between 0 and 1.

    Example:
        >>> rank_for_energy([2.0, 1.0, 1.0], 0.8)
        2
    """
    if not 0 <= share <= 1:
        raise LorakitError("share of the energy", got=repr(share), expected="a number from 0 to 1", do="For example 0.9.")
    curve = energy_curve(singular_values)
    return int(np.argmax(curve >= share - 1e-12))  # a sum of squares carries rounding


def effective_rank(singular_values) -> float:
    """``exp(entropy of s / Σs)`` (Roy and Vetterli, EUSIPCO 2007): k for k equal values, near 1 when one dominates.

    Example:
        >>> round(effective_rank([1.0, 1.0, 1.0, 0.0]), 6)
        3.0
    """
    s = _singular_values(singular_values)
    p = s[s > 0] / s.sum() if s.sum() else np.ones(1)
    return float(np.exp(-np.sum(p * np.log(p))))


def product_singular_values(left, right) -> np.ndarray:
    """Singular values of ``left @ right`` without forming the product: QR of both thin factors, then a small SVD.

    Args:
        left: shape (m, r), for example LoRA's B.
        right: shape (r, n), for example LoRA's A.

    Returns:
        The min(m, r, n) largest singular values; all others are zero.

    Raises:
        LorakitError: when the inner sizes differ.
    """
    a, b = _float64(left), _float64(right)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise LorakitError(
            "factors", got=f"shapes {a.shape} and {b.shape}", expected="(m, r) and (r, n)", do="Swap or transpose."
        )
    return np.linalg.svd(np.linalg.qr(a)[1] @ np.linalg.qr(b.T)[1].T, compute_uv=False)


def picture(size: int = 96) -> np.ndarray:
    """A drawn picture as a matrix, values 0 to 1, shape (size, size): a sun over waves, a mast, a flag and some grain.

    Its smooth parts need few ranks, the slanted mast and the round sun more, the grain all of them.

    Raises:
        LorakitError: for a size below 16 or above 1024.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 16 <= size <= 1024:
        raise LorakitError("size", got=repr(size), expected="a whole number from 16 to 1024 pixels", do="For example 96.")
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    sky = 0.75 - 0.35 * y
    sea = 0.30 + 0.12 * np.sin(24 * x) * np.cos(18 * y)
    image = np.where(y < 0.62 + 0.02 * np.sin(14 * x), sky, sea)
    image[np.hypot(x - 0.76, y - 0.24) < 0.13] = 1.0
    mast = (np.abs(x - 0.36 - 0.10 * (0.7 - y)) < 0.012) & (y > 0.18) & (y < 0.70)
    hull = (y > 0.68) & (y < 0.78) & (np.abs(x - 0.37) < 0.22 - 1.1 * (y - 0.68))
    sail = (y > 0.22) & (y < 0.64) & (x < 0.33) & (x > 0.33 - 0.55 * (y - 0.22))
    image[mast | hull] = 0.05
    image[sail] = 0.92
    grain = np.random.default_rng(0).normal(0, 0.01, image.shape)
    return np.clip(image + grain, 0, 1)
