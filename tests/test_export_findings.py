"""Every way a rung can go wrong is named, and a sound rung is not."""

from types import SimpleNamespace

import numpy as np
import pytest

from lorakit_helpers.evaluation import mean_metric
from lorakit_helpers.export.findings import AGREEMENT, rung_findings
from lorakit_helpers.export.ladder import Rung


def share(value):
    return mean_metric("share", np.repeat([1.0, 0.0], [round(100 * value), round(100 * (1 - value))]))


def rung(name, *, exact=(1, 1, 1, 1, 1, 1, 1, 0), stopped=1.0, top1=0.99):
    right, n = np.array(exact, dtype=float), len(exact)
    kl = mean_metric("KL", np.full(n, 0.01), unit="nats")
    return Rung(name, 1.0, kl, share(top1), mean_metric("exact match", right), share(stopped), 10.0, ("",) * n, right)


REFERENCE = rung("reference", top1=1.0)
DIFFERS = [SimpleNamespace(index=0), SimpleNamespace(index=0), SimpleNamespace(index=2)]  # two renderers differ in one chat
TEMPLATE = SimpleNamespace(same=False, differences=DIFFERS, conversations=3)


@pytest.mark.parametrize(
    ("bad", "templates", "expected"),
    [
        (rung("x"), {}, []),
        (rung("x", stopped=0.96), {}, []),
        (rung("x", stopped=0.94), {}, ["rambles"]),
        (rung("x", top1=AGREEMENT - 0.01), {}, ["likeness"]),
        (rung("x", exact=(0,) * 8), {}, ["quality"]),
        (rung("x", exact=(1,) * 8), {}, []),
        (rung("x"), {"x": TEMPLATE}, ["template"]),
        (rung("x"), {"x": SimpleNamespace(same=True)}, []),
        (rung("x"), {"other": TEMPLATE}, []),
        (rung("x", stopped=0.0, exact=(0,) * 8, top1=0.1), {"x": TEMPLATE}, ["rambles", "quality", "likeness", "template"]),
    ],
)
def test_each_fault_is_named_by_its_own_finding(bad, templates, expected):
    found = rung_findings([REFERENCE, rung("sound"), bad], templates)
    assert [finding.id for finding in found] == expected and all(finding.rung == "x" for finding in found)
    assert all("2 of 3 chats" in finding.message for finding in found if finding.id == "template")


def test_a_drop_that_few_tickets_cannot_show_says_so():
    (few,) = rung_findings([REFERENCE, rung("x", exact=(1, 1, 1, 1, 1, 1, 0, 0))])
    (many,) = rung_findings([REFERENCE, rung("x", exact=(0,) * 8)])
    assert "may be chance" in str(few) and "the tickets show it" in str(many) and "-87.5 points" in str(many)
