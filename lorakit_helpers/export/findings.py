"""What is wrong with a rung of the fidelity ladder: it rambles, lost its template, answers worse, or says other things."""

from dataclasses import dataclass

from ..evaluation import paired_difference
from .ladder import Rung

__all__ = ["AGREEMENT", "POINTS", "RungFinding", "rung_findings"]

#: Points (of 100) that a share may fall below the reference's before it is a finding.
POINTS = 5.0
#: Least share of answer tokens on which rung and reference must find the same token likeliest.
AGREEMENT = 0.95


@dataclass(frozen=True)
class RungFinding:
    """One fault of one rung.

    Attributes:
        rung: its name.
        id: ``"rambles"``, ``"template"``, ``"quality"`` or ``"likeness"``.
        message: what was found, with figures.
        do: what to do.
    """

    rung: str
    id: str
    message: str
    do: str

    def __str__(self):
        return f"{self.rung}, {self.id}: {self.message} {self.do}"


def rung_findings(rungs: list[Rung], templates: dict | None = None) -> list[RungFinding]:
    """Faults of every rung, measured against the first one.

    - *rambles*: fewer answers end by themselves, by more than :data:`POINTS` points.
    - *template*: its template gives other token ids than training's.
    - *quality*: exact match is lower by more than :data:`POINTS` points; the message says whether the tickets show it.
    - *likeness*: the likeliest token is the reference's on less than :data:`AGREEMENT` of the answer tokens.

    Args:
        rungs: the reference first, all measured on the same rows and tickets.
        templates: by a rung's name, the :class:`~lorakit_helpers.export.modelfile.TemplateCheck` of its file.
    """
    found = []
    for rung in rungs[1:]:
        found += _against(rungs[0], rung)
        check = (templates or {}).get(rung.name)
        if check is not None and not check.same:
            message = f"{len({d.index for d in check.differences})} of {check.conversations} chats come out as other token ids."
            found.append(RungFinding(rung.name, "template", message, "Save the training's tokenizer, then export again."))
    return found


def _against(reference: Rung, rung: Rung):
    if 100 * (reference.stopped.value - rung.stopped.value) > POINTS:
        message = f"{rung.stopped.value:.0%} of the answers end by themselves, {reference.stopped.value:.0%} did."
        yield RungFinding(rung.name, "rambles", message, "Compare the stop token and the template with the training's.")
    change = paired_difference("exact match", reference.correct, rung.correct)
    if -100 * change.difference > POINTS:
        sure = "the tickets show it" if change.high < 0 else "with so few tickets it may be chance"
        message = (
            f"exact match {100 * change.difference:+.1f} points [{100 * change.low:+.1f}, {100 * change.high:+.1f}]: {sure}."
        )
        yield RungFinding(rung.name, "quality", message, "Use more bits, or merge in 16 bits and quantize afterwards.")
    if rung.top1.value < AGREEMENT:
        message = (
            f"the likeliest token is the same at {rung.top1.value:.1%} of the answer tokens (KL {rung.kl.value:.3f} nats)."
        )
        yield RungFinding(rung.name, "likeness", message, "Look at the rung above it: what was rounded here?")
