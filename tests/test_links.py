"""Links in README, notebooks and datasheets lead somewhere, sources have lasting identifiers, spelling is British."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert.filters import markdown2html

from lorakit_helpers.files import project_root

ROOT = project_root()
PAGES = sorted([ROOT / "README.md", *ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("notebooks/*.md"), *ROOT.glob("data/**/*.md")])
ARXIV = re.compile(r"arxiv(?:\.org/abs/|:\s?)(\d{4}\.\d{4,5})(v\d+)?", re.I)
DOI = re.compile(r"\b(10\.\d{4,9}/[\w.;()/-]*\w)")


@cache
def rendered(path: Path):
    """A Markdown file, or the Markdown of a notebook, as parsed HTML."""
    if path.suffix == ".ipynb":
        cells = nbformat.read(path, as_version=4).cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    else:
        text = path.read_text(encoding="utf-8")
    return BeautifulSoup(markdown2html(text), "html.parser")


def anchors(path: Path) -> set[str]:
    """Ids of a page: headings as JupyterLab and as GitHub name them, and those written as HTML."""
    html = rendered(path)
    texts = [heading.get_text().removesuffix("¶") for heading in html(["h1", "h2", "h3", "h4"])]
    lowered = {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in texts}
    return {text.replace(" ", "-") for text in texts} | lowered | {tag["id"] for tag in html("a", id=True)}


def faults(path: Path) -> list[str]:
    """Links and pictures of a page that lead nowhere, or are not safe."""
    found = []
    for tag in rendered(path)(["a", "img"]):
        target = tag.get("href") or tag.get("src") or ""
        if "anchor-link" in tag.get("class", []) or (not target and tag.get("id")):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / unquote(file)).resolve() if file else path
        if re.match(r"https://", target):
            continue
        inside = not re.match(r"[a-z]+:", target) and there.exists() and there.is_relative_to(ROOT)
        if not inside or (anchor and unquote(anchor) not in anchors(there)):
            found.append(target)
    return found


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading_that_exist(path):
    assert faults(path) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("[a](#Here)", ""), ("[a](#here)", ""), ("[a](#Not-here)", "#Not-here"), ("[a](b.md)", ""), ("[a](b.md#There)", ""),
        ("[a](b.md#x)", ""), ("[a](b.md#y)", "b.md#y"), ("[a](gone.md)", "gone.md"), ("![p](gone.png)", "gone.png"),
        ("[a](http://plain.example)", "http://plain.example"), ("[a](https://secure.example)", ""),
        ("[a](../../../etc/passwd)", "../../../etc/passwd"), ("<a href='nowhere'>x</a>", "nowhere"),
    ],
)  # fmt: skip
def test_a_link_that_leads_nowhere_is_found(tmp_path, monkeypatch, text, fault):
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "b.md").write_text('# There\n\n<a id="x"></a>\n')
    (tmp_path / "a.md").write_text(f"# Here\n\n{text}\n")
    assert faults(tmp_path / "a.md") == ([fault] if fault else [])


def sources():
    """All texts that cite: Markdown of all pages, the package, and the data files' own notes."""
    files = [*PAGES, *ROOT.glob("lorakit_helpers/**/*.py"), *ROOT.glob("data/*.json"), *ROOT.glob("data/published/*.json")]
    for path in files:
        yield path, path.read_text(encoding="utf-8")


def test_every_cited_paper_is_in_the_list_of_references():
    listed = (ROOT / "notebooks" / "references.md").read_text(encoding="utf-8")
    known = {match[1] for match in ARXIV.finditer(listed)}
    cited = {match[1]: path.name for path, text in sources() for match in ARXIV.finditer(text)}
    assert cited and {paper: where for paper, where in cited.items() if paper not in known} == {}
    dois = {match[1]: path.name for path, text in sources() if path.suffix != ".py" for match in DOI.finditer(text)}
    assert {doi: where for doi, where in dois.items() if doi not in listed} == {}


def test_references_are_named_by_version_doi_or_a_lasting_address():
    entries = rendered(ROOT / "notebooks" / "references.md")("li")
    assert len(entries) >= 10
    for entry in entries:
        target, said = entry.a["href"], entry.a.get_text()
        if "arxiv" in target:
            paper = ARXIV.search(target)
            assert paper[2] and said == f"arXiv:{paper[1]}{paper[2]}", said
        elif "doi.org" in target:
            assert said == f"doi:{target.removeprefix('https://doi.org/')}"
        assert target.startswith("https://")


def spelling(*paths):
    return subprocess.run([sys.executable, "-m", "codespell_lib", *map(str, paths)], cwd=ROOT, capture_output=True, text=True)


def test_prose_of_the_course_is_spelt_in_british():
    prose = re.search(r"^PROSE := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1].split()
    files = [path.relative_to(ROOT) for pattern in prose for path in ROOT.glob(pattern)]
    assert len(files) >= len(prose)
    done = spelling(*files)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("teh", "the"), ("behavior", "behaviour"), ("The color", "colour"), ("center of", "centre"), ("recognise", "recognize")],
)
def test_a_misspelt_or_american_word_is_found(tmp_path, wrong, right):
    (tmp_path / "x.md").write_text(f"{wrong} here\n")
    done = spelling(tmp_path / "x.md")
    assert done.returncode != 0 and right in done.stdout


def test_words_of_code_are_let_through(tmp_path):
    (tmp_path / "x.py").write_text('ax.text(0, 0, "x", ha="center", color=grey, gray="0.5")\n')
    assert spelling(tmp_path / "x.py").returncode == 0
