"""The course's terms: one list, rendered as ``notebooks/glossary.md`` and linked from each notebook's first use.

``python -m lorakit_helpers.glossary`` writes both anew after ``data/glossary.json`` or a notebook has changed.
"""

import json
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import LorakitError
from .files import atomic_write_text, project_root
from .lessons import LESSONS

__all__ = ["Term", "glossary_markdown", "link_notebook", "link_terms", "load_glossary", "main"]

_PAGE = "glossary.md"
_LINK = re.compile(rf"\[([^\]]+)\]\({re.escape(_PAGE)}#[^)]*\)")
_BLOCKS = re.compile(r"(^```.*?^```[^\n]*$|^\s*#{1,6} [^\n]*$|^\s*\|[^\n]*$)", re.M | re.S)  # code, headings, tables
# code, links, formulas, HTML, addresses
_SPANS = re.compile(r"(``.+?``|`[^`]+`|!?\[[^\]]*\]\([^)]*\)|\$[^$\n]+\$|<[^<>\n]+>|https?://\S+)")


@dataclass(frozen=True)
class Term:
    """A term of the glossary.

    Attributes:
        term: its name, as the heading has it.
        text: what it means, one or two sentences.
        lesson: number of the notebook that teaches it.
        forms: other spellings in running text that mean the same.
    """

    term: str
    text: str
    lesson: str
    forms: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.term}: {self.text}"

    def to_dict(self) -> dict:
        return asdict(self)

    @property
    def anchor(self) -> str:
        """The heading's id as JupyterLab makes it: spaces become dashes.

        Example:
            >>> Term("chat template", "", "06").anchor
            'chat-template'
        """
        return self.term.replace(" ", "-")


def load_glossary(path: Path | None = None) -> list[Term]:
    """All terms in alphabetical order.

    Args:
        path: a file like ``data/glossary.json``, which is read when None.

    Raises:
        LorakitError: when it is no such list, or a spelling stands in it twice.
    """
    path = path or project_root() / "data" / "glossary.json"
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise TypeError("no list")
        terms = [Term(row["term"], row["text"], row["lesson"], tuple(row.get("forms", ()))) for row in rows]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LorakitError(
            str(path), got=f"{type(error).__name__}: {error}", expected="a list of terms with text and lesson",
            do="Compare with data/glossary.json of the course.",
        ) from error  # fmt: skip
    spellings = [form for term in terms for form in (term.term, *term.forms)]
    twice = sorted({form for form in spellings if spellings.count(form) > 1})
    if twice:
        raise LorakitError(str(path), got=f"{twice[0]!r} twice", expected="each spelling once", do="Remove one of them.")
    return sorted(terms, key=lambda term: term.term.casefold())


def glossary_markdown(terms: list[Term]) -> str:
    """The glossary as a Markdown page; every term is a heading that links can name, here and where headings are lower-cased."""
    lines = ["# Glossary", "", f"{len(terms)} terms, each with the lesson that teaches it.", ""]
    for term in terms:
        lowered = re.sub(r"[^\w\- ]", "", term.term.lower()).replace(" ", "-")  # GitHub's id of the heading
        lines += [f'<a id="{term.anchor}"></a>', ""] if lowered != term.anchor else []
        text = re.sub(r"arXiv:[\d.]+\d", r"[\g<0>](references.md)", term.text)
        lines += [f"## {term.term}", "", f"{text} Lesson {_lesson(term.lesson)}.", ""]
    return "\n".join(lines)


def _lesson(number: str) -> str:
    """A lesson's number, linked where its notebook is in the folder."""
    stem = next(lesson.stem for lesson in LESSONS if lesson.stem.startswith(number))
    here = (project_root() / "notebooks" / f"{stem}.ipynb").is_file()
    return f"[{number}]({stem}.ipynb)" if here else number


def link_terms(sources: list[str], terms: list[Term]) -> list[str]:
    """Link the first use of every term in a notebook's Markdown cells; links from before are made anew.

    Headings, tables, code, formulas, HTML and the texts of other links are left alone. A term in small letters is
    found with a capital, too; others only as they are written.

    Args:
        sources: the Markdown cells' texts, in order.
        terms: all of them.

    Example:
        >>> link_terms(["# Rank", "The `rank` of a rank-1 layer. Rank and ranks."], [Term("rank", "", "03", ("ranks",))])
        ['# Rank', 'The `rank` of a rank-1 layer. [Rank](glossary.md#rank) and ranks.']
    """
    spelt = {form: term for term in terms for form in (term.term, *term.forms)}
    spelt |= {form[0].upper() + form[1:]: term for form, term in spelt.items() if form == form.lower()}
    longest_first = sorted(spelt, key=len, reverse=True)
    pattern = re.compile(rf"(?<![\w/.\-])({'|'.join(map(re.escape, longest_first))})(?![\w+%]|[-.–]\w)")
    seen = set()

    def mark(match):
        term = spelt[match[1]]
        if term in seen:
            return match[1]
        seen.add(term)
        return f"[{match[1]}]({_PAGE}#{term.anchor})"

    def prose(text):
        return "".join(part if i % 2 else pattern.sub(mark, part) for i, part in enumerate(_SPANS.split(text)))

    def cell(source):
        return "".join(part if i % 2 else prose(part) for i, part in enumerate(_BLOCKS.split(_LINK.sub(r"\1", source))))

    return [cell(source) for source in sources]


def link_notebook(path: Path, terms: list[Term]) -> bool:
    """Link a notebook's first uses in place, Markdown cells only; returns whether anything changed."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "markdown"]
    linked = link_terms([cell.source for cell in cells], terms)
    if linked == [cell.source for cell in cells]:
        return False
    for cell, source in zip(cells, linked, strict=True):
        cell.source = source
    atomic_write_text(path, nbformat.writes(notebook) + "\n")
    return True


def main() -> int:
    """Write ``notebooks/glossary.md`` and link all notebooks; prints what changed."""
    from .course import find_notebooks

    try:
        terms = load_glossary()
        atomic_write_text(project_root() / "notebooks" / _PAGE, glossary_markdown(terms))
        changed = [path.stem for path in find_notebooks() if link_notebook(path, terms)]
    except LorakitError as error:
        print(f"lorakit: {error}", file=sys.stderr)
        return 1
    print(f"{len(terms)} terms; links changed in: {', '.join(changed) or 'no notebook'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
