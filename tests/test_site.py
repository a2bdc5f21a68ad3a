"""The site: pages from executed notebooks, links that lead somewhere, search, both themes, and nothing asked of a network."""

import base64
import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from lorakit_helpers.claims import CLAIMS, claim
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.files import project_root
from lorakit_helpers.lessons import LESSONS
from lorakit_helpers.site import build_site
from lorakit_helpers.site_render import formula, render_markdown, render_notebook

ROOT = project_root()
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
VIEW, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"
EVIL = (
    '<img src="https://elsewhere.example/x.png" onerror="document.title=1"><script>fetch("https://elsewhere.example")</script>'
)


def html_output(html):
    return new_output("display_data", data={"text/html": html, "text/plain": "x"})


def lesson(title, *cells):
    return new_notebook(cells=[new_markdown_cell(f"# {title}\n\n**Aim.** Learn."), *cells])


def first():
    """A notebook with everything a page has to deal with."""
    panel = new_output("display_data", data={VIEW: {"model_id": "top"}, "text/plain": "VBox()"})
    notebook = lesson(
        "00 · Start here",
        new_markdown_cell(
            "## The same name\n\nA formula $\\frac{\\alpha}{r} B A x$, "
            "one too wide for a telephone: $a + b + c + d + e + f + g + h + i + j + k + l + m + n + o + p + q + r + s$, "
            "and $$\\sum_w w^2$$ and a naïve word.\n\n### Below"
        ),
        new_markdown_cell(
            "## The same name\n\n[next](07_train_with_qlora.ipynb#Step-1), [rank](glossary.md#rank), "
            "[data](../data/tickets/README.md), [far](https://example.org/), "
            "[absent](09_evaluate.ipynb)\n\n| a | b |\n|---|---|\n| 1 | zebra |"
        ),
        new_code_cell("print('quagga')", outputs=[new_output("stream", text="<b>okapi</b>\n" + "wide " * 100)]),
        new_code_cell("show()", outputs=[html_output(f'<p style="color:#111">coloured</p>{EVIL}'), panel]),
        new_code_cell(
            "map", outputs=[html_output("<style>.m th{text-align:left}</style><table class=m><tr><th>x</th></tr></table>")]
        ),
        new_code_cell("tokens", outputs=[html_output("<style>.t{border:0;background:#ff0}</style><b class=t>x</b>")]),
        new_code_cell("figure", outputs=[html_output(f'<img alt="A black dot." src="data:image/png;base64,{DOT}">')]),
    )
    state = {
        "top": {"model_name": "VBoxModel", "state": {"children": ["IPY_MODEL_text", "IPY_MODEL_image", "IPY_MODEL_gone"]}},
        "text": {"model_name": "HTMLModel", "state": {"value": '<div role="status">Rank 8 keeps 91 %.</div>'}},
        "image": {"model_name": "ImageModel", "state": {}, "buffers": [{"data": DOT, "path": ["value"]}]},
        "gone": {"model_name": "HTMLModel", "state": {"value": "not shown", "layout": "IPY_MODEL_layout"}},
        "layout": {"model_name": "LayoutModel", "state": {"display": "none"}},
    }
    notebook.metadata["widgets"] = {STATE: {"state": state}}
    return notebook


def course_folder(root):
    """A course with two lessons that were run, one that was not, and one whose run broke off."""
    (root / "data" / "tickets").mkdir(parents=True)
    (root / "notebooks").mkdir()
    (root / "notebooks" / "glossary.md").write_text("# Glossary\n\n## rank\n\nThe number r. See [00](00_start_here.ipynb).\n")
    executed = {
        "00_start_here": first(),
        "07_train_with_qlora": lesson(
            "07 · Train", new_markdown_cell("## Step 1\n\nGo [back](00_start_here.ipynb)." + "\n\nx" * 80)
        ),
        "08_hyperparameter_lab": lesson("08 · Broken off"),
    }
    (root / "build" / "stamps").mkdir(parents=True)
    (root / "build" / "notebooks").mkdir()
    for stem, notebook in executed.items():
        nbformat.write(lesson("as written"), root / "notebooks" / f"{stem}.ipynb")
        nbformat.write(notebook, root / "build" / "notebooks" / f"{stem}.ipynb")
        if "Broken" not in notebook.cells[0].source:
            (root / "build" / "stamps" / f"{stem}.json").write_text(json.dumps({"key": "k", "profile": "smoke"}))
    nbformat.write(lesson("never run"), root / "notebooks" / "12_scale_up.ipynb")
    claim("C8", True, "131,072 values", folder=root / "outputs" / "smoke" / "claims")
    return root


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    return course_folder(tmp_path_factory.mktemp("course"))


@pytest.fixture(scope="module")
def site(course):
    return build_site(course / "build", course)


def soup(site, file):
    return BeautifulSoup((site.folder / file).read_text(encoding="utf-8"), "html.parser")


def test_every_lesson_that_ran_to_its_end_has_a_page_and_the_others_are_named(site):
    assert site.pages == ("index.html", "00_start_here.html", "07_train_with_qlora.html", "glossary.html", "claims.html")
    assert site.missing == ("08_hyperparameter_lab", "12_scale_up")
    assert "not run yet: 08_hyperparameter_lab, 12_scale_up" in str(site) and site.to_dict()["folder"] == str(site.folder)
    assert site.size_mb == pytest.approx(sum(f.stat().st_size for f in site.folder.iterdir()) / 1e6)


def test_the_map_shows_all_lessons_and_links_those_that_were_run(site):
    rows = soup(site, "index.html").select("table.map tbody tr")
    assert [row.th.get_text() for row in rows] == [lesson.stem for lesson in LESSONS]
    linked = {row.a["href"]: row.find_all("td")[-1].get_text() for row in rows if row.a}
    assert linked == {"00_start_here.html": "run on smoke", "07_train_with_qlora.html": "run on smoke"}


def broken_links(folder):
    """Every link and file reference of a site that leads nowhere."""
    pages = {path.name: BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser") for path in folder.glob("*.html")}
    ids = {name: {tag["id"] for tag in page(id=True)} for name, page in pages.items()}
    broken = []
    for name, page in pages.items():
        targets = [tag.get("href") or tag.get("src") for tag in page(["a", "link", "script", "img"])]
        for target in targets:
            if re.match(r"https?:|data:", target):
                continue
            file, _, anchor = target.partition("#")
            there = (folder / file).is_file() if file else True
            if not there or (anchor and unquote(anchor) not in ids[file or name]):
                broken.append((name, target))
    return broken


def test_no_link_leads_nowhere(site):
    assert broken_links(site.folder) == []


def test_links_between_notebooks_become_links_between_pages_and_other_files_lose_theirs(site):
    page = soup(site, "00_start_here.html")
    links = {link.get_text(): link["href"] for link in page.main("a")}
    assert links["next"] == "07_train_with_qlora.html#Step-1" and links["rank"] == "glossary.html#rank"
    assert links["far"] == "https://example.org/"
    assert "data" not in links and "absent" not in links and "data, far, absent" in page.main.get_text()


def test_pages_turn_from_lesson_to_lesson(site):
    one, two, claims = (soup(site, file) for file in ("00_start_here.html", "07_train_with_qlora.html", "claims.html"))
    assert one.select_one("a[rel=next]")["href"] == "07_train_with_qlora.html" and not one.select("a[rel=prev]")
    assert two.select_one("a[rel=prev]")["href"] == "00_start_here.html" and not two.select("a[rel=next]")
    assert not claims.select(".turn")


def test_the_table_of_contents_names_each_heading_once_and_a_repeated_name_gets_an_id_of_its_own(site):
    page = soup(site, "00_start_here.html")
    links = [(link["href"], link.get_text()) for link in page.select(".toc a")]
    assert links == [("#The-same-name", "The same name"), ("#Below", "Below"), ("#The-same-name-2", "The same name")]
    ids = [tag["id"] for tag in page(id=True)]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("file", ["index.html", "00_start_here.html", "glossary.html", "claims.html"])
def test_every_page_can_be_read_with_a_screen_reader_and_a_keyboard(site, file):
    page = soup(site, file)
    assert page.html["lang"] == "en-GB" and page.title.get_text() and len(page("h1")) == 1 and len(page("main")) == 1
    skip = page.body.find("a")
    assert skip["href"] == "#content" and page.select_one("#content").name == "main"
    assert all(image.get("alt") for image in page("img"))
    assert page.find("label", attrs={"for": "query"}) and page.find(role="status") and page.find("noscript")
    levels = [int(tag.name[1]) for tag in page(re.compile(r"h[1-4]"))]
    assert levels[0] == 1 and all(after <= before + 1 for before, after in pairwise(levels))
    for wide in page.main(["table", "pre"]):
        assert wide.find_parent(class_="scroll")["tabindex"] == "0"


def test_formulas_are_mathml_with_their_tex_beside(site):
    found = soup(site, "00_start_here.html")("math")
    assert [math["alttext"][:11] for math in found] == ["\\frac{\\alph", "a + b + c +", "\\sum_w w^2"]
    assert found[0].find("mfrac").get_text() == "αr" and found[2]["display"] == "block"


@pytest.mark.parametrize("tex", ["\\frac{1}", "\\left( x", "{", "<script>", "a & b"])
def test_a_formula_that_cannot_be_drawn_stays_readable_and_harmless(tex):
    found = BeautifulSoup(formula(tex), "html.parser")
    assert found.find(["math", "code"]) and not found.find("script")


def test_every_formula_of_the_course_is_drawn():
    count = 0
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            for tex in re.findall(r"\$\$?([^$]+)\$\$?", cell.source) if cell.cell_type == "markdown" else []:
                assert formula(tex).startswith("<math"), (path.stem, tex)
                count += 1
    assert count > 0


def test_a_panel_is_shown_as_its_picture_and_sentence_without_its_hidden_parts(site):
    panel = soup(site, "00_start_here.html").select_one(".panel")
    assert "controls work in the notebook only" in panel.get_text() and "Rank 8 keeps 91 %." in panel.get_text()
    assert base64.b64decode(panel.img["src"].partition("base64,")[2]) == base64.b64decode(DOT)
    assert "not shown" not in panel.get_text()


def test_outputs_are_text_and_scripts_in_them_are_gone(site):
    page = soup(site, "00_start_here.html")
    assert [script.get("src") for script in page("script")] == ["site.js"]
    assert "elsewhere.example" not in str(page) and "onerror" not in str(page)
    assert "<b>okapi</b>" in page.select_one(".output_stream").get_text() and not page.select(".output_stream b")
    policy = page.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"]
    assert "default-src 'none'" in policy and "http" not in policy


def test_outputs_with_colours_of_their_own_keep_a_light_ground(site):
    outputs = soup(site, "00_start_here.html").select(".output_html")
    assert [("paper" in output["class"]) for output in outputs] == [True, False, False, True, False]


def test_search_knows_headings_prose_and_code_and_no_outputs(site):
    text = (site.folder / "search_index.js").read_text(encoding="utf-8")
    rows = json.loads(text.removeprefix("window.LORAKIT_INDEX = ").rstrip().removesuffix(";"))
    found = {(row["file"], row["anchor"]): row for row in rows}
    assert found["07_train_with_qlora.html", "Step-1"]["heading"] == "Step 1"
    table = found["00_start_here.html", "The-same-name-2"]["text"]
    assert "zebra" in table and "quagga" in table and "okapi" not in table
    assert "131,072 values" in found["claims.html", "The-guide's-claims"]["text"]


def test_the_verdicts_of_the_profile_that_was_run_are_on_the_claims_page(site):
    page = soup(site, "claims.html")
    rows = page.select("tbody tr")
    assert len(rows) == len(CLAIMS) and "smoke profile" in page.main.get_text()
    assert next(row for row in rows if row.em).get_text(" ", strip=True).startswith("C8 4096 × 4096")


def test_a_new_site_replaces_the_old_one_whole_and_a_failing_one_leaves_it(tmp_path, monkeypatch):
    root = course_folder(tmp_path / "course")
    site = build_site(root / "build", root)
    (site.folder / "stale.html").write_text("old")
    build_site(root / "build", root)
    assert not (site.folder / "stale.html").exists()
    before = (site.folder / "index.html").read_bytes()
    monkeypatch.setattr("lorakit_helpers.site._index", lambda pages: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_site(root / "build", root)
    assert (site.folder / "index.html").read_bytes() == before
    assert sorted(path.name for path in (root / "build").iterdir()) == ["notebooks", "site", "stamps"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"cells": 1}'])
def test_a_damaged_notebook_is_named_with_what_to_do(tmp_path, text):
    root = course_folder(tmp_path / "course")
    (root / "build" / "notebooks" / "07_train_with_qlora.ipynb").write_text(text)
    with pytest.raises(LorakitError, match="lorakit run 07 --force"):
        build_site(root / "build", root)
    assert not (root / "build" / "site").exists()


def test_without_an_executed_notebook_it_says_what_to_run(tmp_path):
    with pytest.raises(LorakitError, match="make course"):
        build_site(tmp_path / "build", ROOT)
    assert not (tmp_path / "build" / "site").exists()


def test_text_without_a_heading_and_an_empty_notebook_are_pages_too():
    assert render_markdown("just text", set()).title == "" and render_notebook(new_notebook(), set()).sections == ()


def luminance(colour):
    """WCAG 2.2's relative luminance of #rrggbb."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground_in_both_themes(site, theme):
    css = (site.folder / "style.css").read_text(encoding="utf-8")
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", re.findall(r":root \{(.*?)\}", css)[theme]))
    grounds = [colours["paper"], colours["panel"]]
    pairs = [(colours[name], ground) for name in ("ink", "soft", "link") for ground in grounds]
    pairs.append((colours["mark-ink"], colours["mark"]))
    light, dark = css.split("@media (prefers-color-scheme: dark) {\n.")
    code = re.findall(r"\.highlight \.(?!w )\w+ \{ color: (#\w{6})", dark if theme else light)
    assert len(code) > 20
    pairs += [(colour, colours["panel"]) for colour in code]
    for ink, ground in pairs:
        high, low = sorted((luminance(ink), luminance(ground)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


@pytest.fixture(scope="module")
def chromium(browser):
    return browser


class Visit:
    """A page of the site in a browser, from the folder itself; keeps what it complained of and what it asked for."""

    def __init__(self, chromium, folder: Path, file: str, **options):
        self.context = chromium.new_context(**options)
        self.page = self.context.new_page()
        self.faults, self.asked = [], []
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto((folder / file).as_uri())

    def away(self):
        return [url for url in self.asked if not url.startswith(("file:", "data:"))]


browser_test = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install your system's package `chromium`"),
]


def with_browser(test):
    for mark in browser_test:
        test = mark(test)
    return test


@pytest.fixture(params=["sample", "course"], scope="module")
def folder(request):
    """The sample site, and the course's own where `make course` has left one."""
    if request.param == "sample":
        return request.getfixturevalue("site").folder
    if not (ROOT / "build" / "site" / "index.html").is_file():
        pytest.skip("no build/site yet: make course")
    return ROOT / "build" / "site"


@with_browser
def test_every_page_opens_in_both_themes_and_widths_without_a_complaint_or_a_request(folder, chromium):
    for file in sorted(path.name for path in folder.glob("*.html")):
        visit = Visit(chromium, folder, file)
        for theme, paper in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 24, 29)")):
            visit.page.emulate_media(color_scheme=theme)
            assert visit.page.evaluate("getComputedStyle(document.body).backgroundColor") == paper
            for width in (1200, 700, 320):
                visit.page.set_viewport_size({"width": width, "height": 900})
                assert visit.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (file, width)
        assert visit.faults == [] and visit.away() == [], file
        visit.context.close()


@with_browser
def test_no_link_of_the_courses_site_leads_nowhere(folder):
    assert broken_links(folder) == []


@with_browser
def test_search_finds_text_and_opens_its_place_by_keyboard(site, chromium):
    visit = Visit(chromium, site.folder, "index.html")
    page = visit.page
    page.keyboard.press("/")
    page.keyboard.type("Zebra naive")
    page.wait_for_function("document.querySelector('#found [role=status]').textContent.startsWith('Nothing found')")
    page.fill("#query", "QUAGGA")
    page.wait_for_function("document.querySelector('#found [role=status]').textContent === '1 place:'")
    assert page.inner_text("#found li a") == "00 · Start here › The same name" and page.inner_text("#found mark") == "quagga"
    page.keyboard.press("Tab")
    while page.evaluate("document.activeElement.closest('#found') === null"):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url("**/00_start_here.html#The-same-name-2")
    assert visit.faults == [] and visit.away() == []
    visit.context.close()


@with_browser
@pytest.mark.parametrize(
    ("query", "first"),
    [
        ("naive", "The same name"),
        ("step", "07 · Train › Step 1"),
        ("rank", "Glossary › rank"),
        ("131,072", "The guide's claims"),
    ],
)
def test_search_ranks_headings_first_and_ignores_accents(site, chromium, query, first):
    visit = Visit(chromium, site.folder, "glossary.html")
    visit.page.fill("#query", query)
    visit.page.wait_for_selector("#found li a")
    assert first in visit.page.inner_text("#found li a >> nth=0")
    visit.page.keyboard.press("Escape")
    assert visit.page.is_hidden("#found")
    visit.context.close()


@with_browser
@pytest.mark.parametrize("query", ["<img src=x onerror=alert(1)>", "(", "[a-", "\\", "*", "   ", "zebra" * 200])
def test_search_takes_any_text(site, chromium, query):
    visit = Visit(chromium, site.folder, "index.html")
    visit.page.fill("#query", query)
    visit.page.wait_for_timeout(100)
    assert visit.faults == [] and visit.away() == [] and visit.page.locator("#found img").count() == 0
    visit.context.close()


@with_browser
def test_search_without_its_index_says_so(site, chromium, tmp_path):
    shutil.copytree(site.folder, tmp_path / "site")
    (tmp_path / "site" / "search_index.js").unlink()
    visit = Visit(chromium, tmp_path / "site", "index.html")
    visit.page.fill("#query", "zebra")
    visit.page.wait_for_function(
        "document.querySelector('#found [role=status]').textContent.includes('is not beside this page')"
    )
    visit.context.close()


@with_browser
def test_the_skip_link_comes_first_and_leads_to_the_content(site, chromium):
    visit = Visit(chromium, site.folder, "07_train_with_qlora.html")
    visit.page.keyboard.press("Tab")
    assert visit.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    visit.page.keyboard.press("Enter")
    assert visit.page.evaluate("document.activeElement.id") == "content"
    visit.context.close()


@with_browser
@pytest.mark.parametrize(("motion", "behaviour"), [("reduce", "auto"), ("no-preference", "smooth")])
def test_who_asks_for_less_motion_gets_none(site, chromium, motion, behaviour):
    visit = Visit(chromium, site.folder, "index.html", reduced_motion=motion)
    assert visit.page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == behaviour
    visit.context.close()


@with_browser
def test_without_scripts_the_pages_can_be_read_and_search_says_what_it_needs(site, chromium):
    visit = Visit(chromium, site.folder, "00_start_here.html", java_script_enabled=False)
    assert "Search needs JavaScript." in visit.page.inner_text("header") and "zebra" in visit.page.inner_text("main")
    visit.context.close()


@with_browser
def test_a_formula_is_drawn_as_a_fraction(site, chromium):
    visit = Visit(chromium, site.folder, "00_start_here.html")
    above, below = (visit.page.locator("mfrac > *").nth(i).bounding_box() for i in (0, 1))
    assert above["y"] + above["height"] <= below["y"] + 1
    visit.context.close()
