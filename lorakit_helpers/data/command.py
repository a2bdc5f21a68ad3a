"""``lorakit lint FILE``: the linter on the command line. Exits with 0, or with 1 when there are errors."""

from ..errors import LorakitError
from .formats import FORMATS
from .linting import lint, token_counter
from .rules import RULE_IDS

__all__ = ["add_arguments", "run"]


def add_arguments(parser) -> None:
    """The options of ``lorakit lint``, for an argparse parser."""
    parser.add_argument("file", metavar="FILE", help="a .jsonl or .json file of training rows")
    formats = (*FORMATS, "prompt-completion")
    parser.add_argument("--format", choices=formats, help="the rows' format (default: detected, with the reason)")
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help="report rows that are longer")
    parser.add_argument(
        "--tokenizer", metavar="NAME", help="a tokenizer's folder or Hub name to count with (default: 4 characters a token)"
    )
    parser.add_argument("--against", action="append", metavar="FILE", help="another split, to find leaks (may be repeated)")
    parser.add_argument("--ignore", action="append", default=[], metavar="RULE", help="a rule not to report (may be repeated)")
    parser.add_argument("--fast", action="store_true", help="leave out the search for near-copies")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.epilog = "rules: " + ", ".join(RULE_IDS)
    parser.set_defaults(call=run)


def run(options) -> int:
    """Lint and print; 1 when there are errors.

    Raises:
        LorakitError: when there is nothing to lint, or the tokenizer cannot be loaded.
    """
    counter = None
    if options.tokenizer:
        if options.max_length is None:
            raise LorakitError("--tokenizer", got="no --max-length", expected="both", do="Add for example --max-length 1024.")
        counter = token_counter(_tokenizer(options.tokenizer))
    report = lint(
        options.file, format=options.format, max_length=options.max_length, count_tokens=counter, against=options.against,
        near_duplicates=not options.fast, ignore=options.ignore,
    )  # fmt: skip
    print(report.to_json() if options.json else report.text())
    return 0 if report.ok else 1


def _tokenizer(name: str):
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except Exception as error:  # transformers raises many kinds, and long ones
        raise LorakitError(
            "--tokenizer", got=f"{name!r}: {str(error).splitlines()[0][:120] if str(error) else type(error).__name__}",
            expected="a folder with tokenizer.json, or a model's name where the Hub answers",
            do="Pass the folder that `lorakit model` prints, or leave --tokenizer out to count characters.",
        ) from error  # fmt: skip
