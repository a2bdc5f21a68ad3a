"""The course as a folder of HTML pages to browse: all executed notebooks, a map, search, glossary and verdicts, offline."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from .claims import claims_table
from .errors import LorakitError
from .files import atomic_folder, project_root
from .lessons import LESSONS

__all__ = ["Site", "build_site"]

_TEMPLATES = Path(__file__).parent / "site_template"


@dataclass(frozen=True)
class Site:
    """What was written.

    Attributes:
        folder: where ``index.html`` lies.
        pages: file names of all pages.
        missing: lessons that are in the course folder and have no executed copy.
        size_mb: of all files, in MB (1e6 bytes).
    """

    folder: Path
    pages: tuple[str, ...]
    missing: tuple[str, ...]
    size_mb: float

    def __str__(self) -> str:
        lacks = f"; not run yet: {', '.join(self.missing)}" if self.missing else ""
        return f"{self.folder / 'index.html'} ({len(self.pages)} pages, {self.size_mb:.1f} MB{lacks})"

    def to_dict(self) -> dict:
        return asdict(self) | {"folder": str(self.folder)}


@dataclass(frozen=True)
class _Page:
    file: str
    title: str
    body: object
    about: str = ""


def build_site(build: Path, root: Path | None = None) -> Site:
    """Write ``build/site`` from the executed notebooks in ``build/notebooks``; an earlier site is replaced as a whole.

    Args:
        build: the folder of ``lorakit run``.
        root: the course folder.

    Raises:
        LorakitError: when no notebook was run yet, or when the folder cannot be written.
    """
    root, build = root or project_root(), build.resolve()
    profiles = _profiles(build)
    lessons = [lesson for lesson in LESSONS if lesson.stem in profiles]
    if not lessons:
        raise LorakitError(
            f"executed notebooks in {build / 'notebooks'}", got="none", expected="at least one",
            do="Run `lorakit run` or `make course` first.",
        )  # fmt: skip
    pages = _pages(lessons, build, root, profiles)
    with atomic_folder(build / "site") as folder:
        _write(folder, pages, lessons, profiles)
        size = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    here = [lesson.stem for lesson in LESSONS if (root / "notebooks" / f"{lesson.stem}.ipynb").is_file()]
    missing = tuple(stem for stem in here if stem not in profiles)
    return Site(build / "site", ("index.html", *(page.file for page in pages)), missing, size)


def _profiles(build: Path) -> dict[str, str]:
    """Every lesson that was run to its end (its stamp is written last), with the profile it was run on."""
    found = {}
    for lesson in LESSONS:
        try:
            stamp = json.loads((build / "stamps" / f"{lesson.stem}.json").read_text(encoding="utf-8"))
            found[lesson.stem] = str(stamp["profile"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return {stem: profile for stem, profile in found.items() if (build / "notebooks" / f"{stem}.ipynb").is_file()}


_EXTRAS = (
    ("glossary.md", "Glossary", "the course's terms, and the lesson that teaches each"),
    ("references.md", "References", "the papers and documents the course rests on"),
)


def _pages(lessons, build: Path, root: Path, profiles: dict) -> list[_Page]:
    from .site_render import render_markdown, render_notebook

    extras = [(name, title, about) for name, title, about in _EXTRAS if (root / "notebooks" / name).is_file()]
    names = {f"{lesson.stem}.html" for lesson in lessons} | {Path(name).stem + ".html" for name, *_ in extras} | {"claims.html"}
    pages = []
    for lesson in lessons:
        body = render_notebook(_read(build / "notebooks" / f"{lesson.stem}.ipynb"), names)
        pages.append(_Page(f"{lesson.stem}.html", body.title or lesson.stem, body))
    for name, title, about in extras:
        body = render_markdown((root / "notebooks" / name).read_text(encoding="utf-8"), names)
        pages.append(_Page(f"{Path(name).stem}.html", title, body, about))
    quick = set(profiles.values()) == {"smoke"}
    verdicts = claims_table(root / "outputs" / ("smoke/claims" if quick else "claims"))
    text = f"# The guide's claims\n\n{_VERDICTS}{_QUICK if quick else ''}\n\n{verdicts}\n"
    pages.append(
        _Page("claims.html", "Claims", render_markdown(text, names), "what the guide says, computed, with a verdict each")
    )
    return pages


def _read(path: Path):
    import nbformat

    try:
        return nbformat.read(path, as_version=4)
    except Exception as error:  # nbformat raises what it stumbles over: AttributeError, TypeError, its own ValidationError
        raise LorakitError(
            str(path), got="a damaged file", expected="an executed notebook",
            do=f"Run `lorakit run {path.stem[:2]} --force --build {path.parent.parent}`.",
        ) from error  # fmt: skip


_VERDICTS = (
    "The course follows a practical guide to fine-tuning. Each of its numbered claims is computed or measured in a lesson; "
    "the verdict follows from the figure beside it."
)
_QUICK = " These verdicts come from the smoke profile, a quick check with little data."


def _write(folder: Path, pages: list[_Page], lessons, profiles: dict) -> None:
    """All files of the site into an empty folder."""
    jinja = Environment(loader=FileSystemLoader(_TEMPLATES), undefined=StrictUndefined, autoescape=False)
    outer = jinja.get_template("page.html.j2")
    extras = [page for page in pages if page.about]
    turn = [page for page in pages if not page.about]
    note = f"Executed on the profile {' and '.join(sorted(set(profiles.values())))}."
    for page in pages:
        at = turn.index(page) if page in turn else None
        text = outer.render(
            title=page.title, file=page.file, home=False, html=page.body.html, extras=extras, note=note,
            toc=[section for section in page.body.sections if section.level in (2, 3)],
            previous=turn[at - 1] if at else None, next=turn[at + 1] if at is not None and at + 1 < len(turn) else None,
        )  # fmt: skip
        (folder / page.file).write_text(text, encoding="utf-8")
    rows = [_row(lesson, lessons, profiles) for lesson in LESSONS]
    home = jinja.get_template("index.html.j2").render(lessons=rows, extras=extras)
    text = outer.render(
        title="lorakit: fine-tuning with LoRA and QLoRA", file="index.html", home=True, html=home, extras=extras, note=note,
        toc=[], previous=None, next=turn[0],
    )  # fmt: skip
    (folder / "index.html").write_text(text, encoding="utf-8")
    (folder / "search_index.js").write_text(_index(pages), encoding="utf-8")
    (folder / "site.js").write_text((_TEMPLATES / "site.js").read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "style.css").write_text(
        (_TEMPLATES / "style.css").read_text(encoding="utf-8") + _code_colours(), encoding="utf-8"
    )


def _row(lesson, lessons, profiles: dict) -> dict:
    """A lesson in the map: linked where it was run."""
    ran = lesson in lessons
    state = f"run on {profiles[lesson.stem]}" if ran else "not run yet"
    return {"name": lesson.stem, "lesson": lesson, "file": f"{lesson.stem}.html" if ran else "", "state": state}


def _index(pages: list[_Page]) -> str:
    """The search index as a script: a page opened from a folder may load scripts, but not data files."""
    rows = [
        {"file": page.file, "page": page.title, "anchor": section.anchor, "heading": section.heading, "text": section.text}
        for page in pages
        for section in page.body.sections
    ]
    return f"window.LORAKIT_INDEX = {json.dumps(rows, ensure_ascii=False)};\n"


def _code_colours() -> str:
    """Pygments' colours for code, light and dark."""
    from pygments.formatters import HtmlFormatter

    light, dark = (HtmlFormatter(style=style).get_token_style_defs(".highlight") for style in ("default", "github-dark"))
    return "\n".join([*light, "@media (prefers-color-scheme: dark) {", *dark, "}"]) + "\n"
