"""The glossary is exact in form, its page is up to date, and every notebook links each term where it first uses it."""

import json
import re
import time

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert.filters import markdown2html

from lorakit_helpers.course import find_notebooks
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.files import project_root
from lorakit_helpers.glossary import Term, glossary_markdown, link_notebook, link_terms, load_glossary
from lorakit_helpers.lessons import LESSONS

ROOT = project_root()
TERMS = load_glossary()
RANK = Term("rank", "The number r.", "03", ("ranks",))
DOUBLE = Term("double quantization", "Scales too.", "04")
SINGLE = Term("quantization", "Few bits.", "04", ("quantized",))
LORA = Term("LoRA", "Two thin matrices.", "03")


def linked(*sources, terms=(RANK, DOUBLE, SINGLE, LORA)):
    return link_terms(list(sources), list(terms))


def test_terms_are_50_to_80_with_one_or_two_sentences_and_a_lesson_that_exists():
    assert 50 <= len(TERMS) <= 80 and {term.lesson for term in TERMS} <= {lesson.stem[:2] for lesson in LESSONS}
    for term in TERMS:
        sentences = re.findall(r"\.(?= [A-Z]|$)", term.text)
        assert 1 <= len(sentences) <= 2 and term.text.endswith(".") and len(term.text) < 320, term.term


def test_the_page_is_what_the_list_gives():
    assert (ROOT / "notebooks" / "glossary.md").read_text(encoding="utf-8") == glossary_markdown(TERMS)


def test_every_anchor_is_a_heading_of_the_page():
    html = BeautifulSoup(markdown2html(glossary_markdown(TERMS)), "html.parser")
    headings = [heading["id"] for heading in html("h2")]
    assert headings == [term.anchor for term in TERMS]
    assert all(re.fullmatch(r"[\w.\-]+", anchor, re.A) for anchor in headings)  # needs no escaping in a link


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Ranks fall. rank", "[Ranks](glossary.md#rank) fall. rank"),
        ("**rank**, *rank*", "**[rank](glossary.md#rank)**, *rank*"),
        ("rank's", "[rank](glossary.md#rank)'s"),
        ("double quantization", "[double quantization](glossary.md#double-quantization)"),
        ("LoRA, not lora", "[LoRA](glossary.md#LoRA), not lora"),
        ("a quantized model", "a [quantized](glossary.md#quantization) model"),
    ],
)
def test_the_first_use_is_linked_in_all_its_forms(before, after):
    assert linked(before) == [after]


@pytest.mark.parametrize(
    "text",
    [
        "# The rank", "### LoRA", "`rank`", "``a `rank` b``", "[the rank](x.md)", "![rank](x.png)", "$rank$", "| rank | 8 |",
        "```\nrank = 8\n```", "```python\n# rank\n```\n", "<b rank='1'>",
        "https://example.org/rank", "a rank-1 layer", "outranks",
        "QLoRA", "rsLoRA", "LoRA+", "lorakit_helpers.rank", "rank.py", "full-rank",
    ],
)  # fmt: skip
def test_headings_code_tables_links_and_parts_of_other_words_are_left_alone(text):
    assert linked(text) == [text]


def test_each_term_is_linked_once_in_a_notebook_and_in_its_first_cell():
    assert linked("LoRA.", "LoRA and rank.", "rank") == [
        "[LoRA](glossary.md#LoRA).",
        "LoRA and [rank](glossary.md#rank).",
        "rank",
    ]


def test_linking_twice_changes_nothing_and_an_earlier_use_takes_the_link_over():
    once = linked("A rank.", "LoRA `x` double quantization, quantization")
    assert linked(*once) == once
    assert linked("First a rank.", once[0]) == ["First a [rank](glossary.md#rank).", "A rank."]


def test_a_term_that_is_gone_loses_its_links():
    assert linked("A [rank](glossary.md#rank) and [LoRA](glossary.md#LoRA).", terms=[LORA]) == [
        "A rank and [LoRA](glossary.md#LoRA)."
    ]


def test_linking_a_notebook_changes_its_markdown_only(tmp_path):
    from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

    made = new_notebook(cells=[new_markdown_cell("# rank"), new_code_cell("rank = 'LoRA'"), new_markdown_cell("A rank.")])
    path = tmp_path / "x.ipynb"
    nbformat.write(made, path)
    assert link_notebook(path, TERMS) and not link_notebook(path, TERMS)
    after = nbformat.read(path, as_version=4)
    assert [cell.source for cell in after.cells] == ["# rank", "rank = 'LoRA'", "A [rank](glossary.md#rank)."]
    assert [cell.id for cell in after.cells] == [cell.id for cell in made.cells] and after.metadata == made.metadata


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[{}]", '[{"term": "a", "text": "b"}]', '[{"term": "a", "text": "b", "lesson": "03", "forms": ["a"]}]', "[1]"],
)
def test_a_damaged_list_is_refused_by_name(tmp_path, text):
    path = tmp_path / "glossary.json"
    path.write_text(text)
    with pytest.raises(LorakitError, match=r"glossary\.json"):
        load_glossary(path)


def test_the_list_is_sorted_as_the_page_is():
    rows = json.loads((ROOT / "data" / "glossary.json").read_text(encoding="utf-8"))
    assert [row["term"] for row in rows] == [term.term for term in TERMS]


def uses(path):
    """From the rendered Markdown of a notebook: running text and links to the glossary, in order."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    html = BeautifulSoup(markdown2html("\n\n".join(cells)), "html.parser")
    for node in html.find_all(string=True):
        parents = [parent.name for parent in node.parents]
        link = node.find_parent("a")
        if link is not None and link.get("href", "").startswith("glossary.md#"):
            yield link["href"].partition("#")[2], str(node)
        elif not set(parents) & {"a", "code", "pre", "table", "h1", "h2", "h3", "h4"}:
            yield "", re.sub(r"\$[^$]*\$", " ", str(node))


@pytest.mark.parametrize("path", find_notebooks(), ids=lambda path: path.stem)
def test_every_notebook_links_the_first_use_of_each_of_its_terms(path):
    """Read off the rendered page, not with the code that sets the links."""
    spelt = {form: term.anchor for term in TERMS for form in (term.term, *term.forms)}
    met = []
    for anchor, text in uses(path):
        if anchor:
            assert anchor not in met, f"{anchor} is linked again"
            assert spelt.get(text, spelt.get(text[:1].lower() + text[1:])) == anchor
            met.append(anchor)
            continue
        for form in sorted(spelt, key=len, reverse=True):
            found = re.search(rf"(?<![\w/.-]){re.escape(form)}(?![\w+%]|[-.–]\w)", text)
            if found:
                assert spelt[form] in met, f"{form!r} stands unlinked in: {text[:80]}"
                text = text[: found.start()] + "·" * len(form) + text[found.end() :]
    assert met


@pytest.mark.browser
@pytest.mark.parametrize("term", ["KL divergence", "Q4_K_M", "llama.cpp", "ZeRO"])
def test_in_jupyterlab_a_link_opens_the_glossary_at_its_term(lab_with_links, term):
    page, address = lab_with_links
    page.goto(f"{address}/lab/workspaces/glossary-{time.time_ns()}/tree/linked.ipynb")
    page.locator(".jp-RenderedMarkdown a", has_text=term).first.click()
    heading = page.locator(".jp-MarkdownViewer h2", has_text=term)
    heading.wait_for()
    sync_api = pytest.importorskip("playwright.sync_api")
    sync_api.expect(heading).to_be_in_viewport(timeout=30_000)


@pytest.fixture(scope="module")
def lab_with_links(tmp_path_factory, browser):
    """A page in Chromium, and a JupyterLab that serves the glossary beside a notebook with links to every term."""
    from test_browser import jupyterlab

    folder = tmp_path_factory.mktemp("lab")
    with jupyterlab(folder) as address:
        cells = [nbformat.v4.new_markdown_cell(f"[{term.term}](glossary.md#{term.anchor})") for term in TERMS]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}  # else a dialog asks
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "root" / "linked.ipynb")
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        yield page, address
        page.close()
