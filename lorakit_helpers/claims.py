"""The guide's numbered claims: each lesson judges its own by a computed figure, and one table shows them all."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from .errors import LorakitError
from .files import atomic_write_text
from .start import outputs_dir

__all__ = ["CLAIMS", "VERDICTS", "Claim", "Judged", "claim", "claims_table", "not_judged", "read_claims", "verdict_on"]

VERDICTS = ("holds", "holds with a caveat", "out of date", "not judged here")


@dataclass(frozen=True)
class Claim:
    """A claim of the guide, or one part of it.

    Attributes:
        number: ``C1`` to ``C17``.
        said: what the guide says.
        lesson: number of the notebook that judges it.
        part: tells the parts of one number apart; empty where there is only one.
    """

    number: str
    said: str
    lesson: str
    part: str = ""

    def __str__(self) -> str:
        return f"{self.number}, {self.part}" if self.part else self.number

    @property
    def stem(self) -> str:
        """Name of its file, without ending: letters, digits and dashes."""
        return "-".join(re.findall(r"\w+", str(self)))


CLAIMS = (
    Claim("C1", "7B in fp32 takes 28 GB of weights", "02"),
    Claim("C2", "training needs 3–4 × the model, 84–112 GB for 7B", "02"),
    Claim("C3", "a 70B model needs a cluster", "02"),
    Claim("C4", "an RTX 4090 has 24 GB, an RTX 3080 10 GB, an RTX 3060 12 GB", "02"),
    Claim("C5", "training all of 7B in fp32 takes about 84 GB", "02", "full, fp32"),
    Claim("C5", "training all of 7B in 16 bits takes about 42 GB", "02", "full, bf16"),
    Claim("C5", "LoRA on 7B in 16 bits takes about 16 GB", "02", "LoRA, bf16"),
    Claim("C5", "QLoRA on 7B takes about 6 GB", "02", "QLoRA"),
    Claim("C6", "13B with QLoRA takes 10–12 GB and fits an RTX 3090 or 4090", "02"),
    Claim("C7", "70B with QLoRA takes 40–48 GB", "02", "QLoRA"),
    Claim("C7", "70B's weights in full precision (fp32) take about 280 GB", "02", "full"),
    Claim("C8", "4096 × 4096 is 16.7 M values, rank 16 needs 131,072: 99.2 % fewer", "03"),
    Claim("C9", "an adapter file takes 10–50 MB for 7B, against 14 GB or more", "03", "7B"),
    Claim("C9", "an adapter file takes 20–80 MB (r = 32, all seven projections, 8B)", "03", "8B"),
    Claim("C10", "about 1–2 % of the parameters train (r = 32, all seven projections, 8B)", "03"),
    Claim("C11", "7B takes about 14 GB in fp16 and 3.5–4 GB in 4 bits", "04"),
    Claim("C12", "NF4 suits normally distributed weights", "04"),
    Claim("C13", "double quantization saves 0.373 bit a parameter", "04"),
    Claim("C14", "a task needs 500–5,000 examples", "05"),
    Claim("C15", "Unsloth needs 50–70 % less memory", "02", "memory"),
    Claim("C15", "Unsloth trains 2–5 × faster", "12", "speed"),
    Claim("C16", "1,000 examples of 2,048 tokens take 15–30 minutes on an RTX 4090", "02"),
    Claim("C17", "a 50 MB adapter stands against 16 GB merged", "10"),
)


@dataclass(frozen=True)
class Judged:
    """A claim with its verdict.

    Attributes:
        claim: what was judged.
        verdict: one of :data:`VERDICTS`.
        figure: what was computed or measured, with its unit.
        caveat: under what condition it holds, or why it does not.
    """

    claim: Claim
    verdict: str
    figure: str
    caveat: str = ""

    def __str__(self) -> str:
        caveat = f" ({self.caveat})" if self.caveat else ""
        return f"{self.claim.number}, {self.claim.said}: {self.verdict.upper()}{caveat}. Computed: {self.figure}."

    def to_dict(self) -> dict:
        return asdict(self)


def verdict_on(holds, caveat: str = "") -> str:
    """The verdict that follows from a comparison and a caveat.

    Args:
        holds: the truth of a comparison of the computed figure with the claim's bounds; a bool, never a word.
        caveat: empty when there is none.

    Raises:
        LorakitError: when ``holds`` is anything but a bool.

    Example:
        >>> verdict_on(3 <= 4 <= 4), verdict_on(True, "with AdamW"), verdict_on(3 <= 9 <= 4, "with AdamW")
        ('holds', 'holds with a caveat', 'out of date')
    """
    if not isinstance(holds, bool | np.bool_):
        raise LorakitError(
            "a claim's verdict", got=repr(holds), expected="True or False",
            do="Compare the computed figure with the claim's bounds, for example 3 <= times <= 4.",
        )  # fmt: skip
    return "out of date" if not holds else "holds with a caveat" if caveat else "holds"


def claim(number: str, holds, figure: str, *, caveat: str = "", part: str = "", folder: Path | None = None) -> Judged:
    """Judge a claim by a comparison and keep the verdict for :func:`claims_table`.

    Args:
        number, part: which one of :data:`CLAIMS`.
        holds: the truth of a comparison, see :func:`verdict_on`.
        figure: the computed figure, with its unit.
        caveat: under what condition it holds, or why it does not.
        folder: where to keep it; by default ``claims/`` in the profile's outputs.

    Returns:
        The verdict; ``print`` it for one line.

    Raises:
        LorakitError: for an unknown claim, a ``holds`` that is no bool, or an empty figure.
    """
    return _keep(Judged(_find(number, part), verdict_on(holds, caveat), figure.strip(), caveat.strip()), folder)


def not_judged(number: str, figure: str, *, why: str, part: str = "", folder: Path | None = None) -> Judged:
    """Keep a figure that cannot judge the claim: measured on a CPU where a GPU is meant, or after two steps of training.

    Args:
        why: what the figure lacks.
        number, figure, part, folder: as for :func:`claim`.

    Raises:
        LorakitError: for an unknown claim, an empty figure, or no reason.
    """
    if not why.strip():
        raise LorakitError(f"{number}: the reason", got="nothing", expected="why no verdict follows", do="Pass why=.")
    return _keep(Judged(_find(number, part), VERDICTS[-1], figure.strip(), why.strip()), folder)


def _keep(judged: Judged, folder: Path | None) -> Judged:
    if not judged.figure:
        raise LorakitError(f"{judged.claim}: the figure", got="nothing", expected="what was computed, with its unit")
    kept = {"verdict": judged.verdict, "figure": judged.figure, "caveat": judged.caveat}
    path = (folder or outputs_dir() / "claims") / f"{judged.claim.stem}.json"
    atomic_write_text(path, json.dumps(kept, ensure_ascii=False, indent=1) + "\n")
    return judged


def _find(number: str, part: str) -> Claim:
    found = [c for c in CLAIMS if (c.number, c.part) == (number, part)]
    if found:
        return found[0]
    parts = [c.part for c in CLAIMS if c.number == number]
    do = "Claims go from C1 to C17." if not parts else "Leave part= out."
    if any(parts):
        do = f"Pass part=, one of: {'; '.join(parts)}."
    raise LorakitError("claim", got=repr(str(Claim(number, "", "", part))), expected="one of CLAIMS", do=do)


def read_claims(folder: Path | None = None) -> list[Judged]:
    """The verdicts that lessons have left, in the claims' order.

    A file that is not whole counts as missing: running its lesson again makes it anew.
    """
    folder = folder or outputs_dir() / "claims"
    found = []
    for one in CLAIMS:
        try:
            kept = json.loads((folder / f"{one.stem}.json").read_text(encoding="utf-8"))
            judged = Judged(one, str(kept["verdict"]), str(kept["figure"]), str(kept["caveat"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if judged.verdict in VERDICTS:
            found.append(judged)
    return found


def claims_table(folder: Path | None = None) -> str:
    """All claims as a Markdown table; one without a verdict names the notebook that makes it."""
    from .lessons import LESSONS

    judged = {found.claim: found for found in read_claims(folder)}
    stems = {lesson.stem[:2]: lesson.stem for lesson in LESSONS}
    lines = ["| claim | the guide says | verdict | computed here | caveat | lesson |", "|---|---|---|---|---|---|"]
    for one in CLAIMS:
        found = judged.get(one)
        cells = (f"*{found.verdict}*", found.figure, found.caveat) if found else ("not yet", f"run notebook {one.lesson}", "")
        texts = [_cell(text) for text in (one.number, one.said, *cells)]
        lines.append("| " + " | ".join([*texts, f"[{one.lesson}]({stems[one.lesson]}.ipynb)"]) + " |")
    missing = sorted({one.lesson for one in CLAIMS if one not in judged})
    count = f"{len(judged)} of {len(CLAIMS)} verdicts"
    end = f"{count}; the others come from notebook {', '.join(missing)}." if missing else f"{count}."
    return "\n".join([*lines, "", end])


def _cell(text: str) -> str:
    """Text that stays inside one cell of a Markdown table, and plain."""
    return re.sub(r"([|<`\[\]])", r"\\\1", " ".join(text.split()))
