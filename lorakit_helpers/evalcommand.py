"""``lorakit evaluate ADAPTER`` and ``lorakit compare A B`` on the command line, and the report as a page."""

import json
from html import escape
from pathlib import Path

from .errors import LorakitError
from .evalreport import EvalReport, compare_reports, evaluate_adapter, read_report, write_report
from .evaluation import verdict
from .htmlpage import html_page, html_table

__all__ = ["add_compare_arguments", "add_evaluate_arguments", "page"]

_SHOWN = 8  # wrong answers on the page


def add_evaluate_arguments(parser) -> None:
    """The options of ``lorakit evaluate``, for an argparse parser."""
    parser.add_argument("adapter", metavar="ADAPTER", help="the adapter's folder")
    parser.add_argument(
        "--data", default="test", metavar="SPLIT|FILE", help="test, validation, examiner, or a .jsonl file of tickets"
    )
    parser.add_argument("--rows", type=int, metavar="N", help="the first N tickets only")
    parser.add_argument("--base", metavar="MODEL", help="the base model's folder or name (default: the profile's)")
    parser.add_argument("--seen", metavar="FILE", help="tickets it was trained on (default: the course's training split)")
    parser.add_argument(
        "--out", default="outputs/reports", metavar="FOLDER", help="for the page and its JSON (default outputs/reports)"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.set_defaults(call=_evaluate)


def add_compare_arguments(parser) -> None:
    """The options of ``lorakit compare``, for an argparse parser."""
    parser.add_argument("first", metavar="A", help="a report's .json file")
    parser.add_argument("second", metavar="B", help="another's, on the same test tickets")
    parser.add_argument("--json", action="store_true", help="print the differences as JSON")
    parser.set_defaults(call=_compare)


def _evaluate(options) -> int:
    import sys

    from .hardware import current_profile
    from .models import base_model
    from .start import start
    from .tickets import load_split, load_tickets

    if options.rows is not None and options.rows < 1:
        raise LorakitError("--rows", got=options.rows, expected="1 or more", do="Leave it out for all.")
    splits = ("test", "validation", "examiner", "train")
    tickets = load_split(options.data) if options.data in splits else load_tickets(options.data)
    seen = load_tickets(options.seen) if options.seen else load_split("train")
    name = options.data if options.rows is None else f"{Path(options.data).stem}-first-{options.rows}"
    start()
    profile = current_profile().profile
    base = options.base or base_model(profile, log=lambda _: None).path
    report = evaluate_adapter(
        options.adapter, tickets[: options.rows], base, data_name=name, seen=seen, batch_size=profile.eval_batch_size,
        any_name=bool(options.base), progress=lambda done, total: print(f"  {done}/{total}", file=sys.stderr, flush=True),
    )  # fmt: skip
    written = write_report(report, options.out, page(report, {t.id: t.ticket for t in tickets}))
    print(report.to_json() if options.json else f"{report}\n{written[0]}\n{written[1]}")
    return 0


def _compare(options) -> int:
    first, second = read_report(options.first), read_report(options.second)
    differences = compare_reports(first, second)
    if options.json:
        found = [difference.to_dict() | {"verdict": verdict(difference)} for difference in differences]
        print(json.dumps(found, ensure_ascii=False, indent=1))
        return 0
    print(f"A {first.adapter}\nB {second.adapter}\n{first.data['rows']} tickets of {first.data['name']}, B against A:")
    for difference in differences:
        print(f"  {verdict(difference)}")
    return 0


def page(report: EvalReport, texts: dict[str, str]) -> str:
    """The report as one HTML page that needs no other file; everything from model, data and adapter is escaped.

    Args:
        report: what to show.
        texts: the tickets' texts by id, for the wrong answers.
    """
    metrics = [
        (m["name"], f"{m['value']:.1%}", f"{m['low']:.1%} to {m['high']:.1%}", m["n"], m["method"])
        for m in report.metrics.values()
    ]
    wrong = [row for row in report.rows if not row["correct"]["exact match"]]
    shown = [(row["id"], texts.get(row["id"], ""), row["output"], row["reason"] or "a wrong value") for row in wrong[:_SHOWN]]
    loss, env = report.loss, report.environment
    facts = [
        ("adapter", report.adapter), ("base model", report.base),
        ("test data", f"{report.data['rows']} tickets of {report.data['name']}, hash {report.data['hash']}"),
        ("seeds", f"training {report.seeds['training']}, intervals {report.seeds['intervals']}"),
        ("evaluated in", f"{report.seconds:.0f} s"), ("Python", f"{env['python']} on {env['system']}"),
        ("hardware", ", ".join(f"{key} {value}" for key, value in env["hardware"].items())),
        ("libraries", ", ".join(f"{name} {found or 'not installed'}" for name, found in env["versions"].items())),
    ]  # fmt: skip
    recipe = sorted((report.recipe or {}).items())
    recited = report.recitation["sentence"] if report.recitation else "Not measured."
    title = f"Evaluation of {report.adapter}"
    parts = [
        f"<h1>{escape(title)}</h1>", html_table(("metric", "value", "95 % interval", "rows", "interval by"), metrics, (1, 3)),
        f"<p>Loss {loss['nats_per_token']:.3f} nats per answer token (perplexity {loss['perplexity']:.2f}, "
        f"{loss['tokens']} tokens).</p>", f"<h2>Recitation of training rows</h2><p>{escape(recited)}</p>",
        f"<h2>Wrong answers ({len(wrong)} of {len(report.rows)})</h2>",
        html_table(("ticket", "text", "the model wrote", "what is wrong"), shown) if shown else "<p>None.</p>",
        "<h2>What this rests on</h2>", html_table(("what", "value"), facts), "<h2>Recipe</h2>",
        html_table(("field", "value"), recipe) if recipe else "<p>The adapter's folder does not say.</p>",
    ]  # fmt: skip
    return html_page(title, "".join(parts))
