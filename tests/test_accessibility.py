"""axe-core, a rule engine for the WCAG, finds nothing in the course's own HTML: site, pages, and panels in JupyterLab."""

import pytest

browser_tests = pytest.importorskip("test_browser")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
import test_certificate as certificates  # noqa: E402
import test_site as sites  # noqa: E402
import test_widgets_colab as panels  # noqa: E402

from lorakit_helpers.certificate import certificate_page  # noqa: E402
from lorakit_helpers.evidence import find_evidence  # noqa: E402
from lorakit_helpers.htmlpage import html_page  # noqa: E402
from lorakit_helpers.progress import read_progress  # noqa: E402
from lorakit_helpers.site import build_site  # noqa: E402

pytestmark = browser_tests.pytestmark
home = certificates.home
THEMES = ("light", "dark")
#: Rules that ipywidgets' own markup breaks, whoever uses it.
NOT_OURS = {
    "aria-input-field-name": "ipywidgets' slider (noUiSlider) takes no name from its description; its label stands beside it",
}
#: Every panel, made as in the tests of Colab's widgets, in one notebook and with a class of its own.
PANELS = {"START": f"import sys; sys.path.insert(0, {str(panels.HERE.parent)!r})\n{panels.START}"} | {
    name: f"{code}\npanel.widget.add_class('axe-{name}')\npanel" for name, code in panels.MAKE.items()
}


def findings(page, *, inside=None, without=()) -> list[str]:
    """What axe has against a page: rule, place and reason, one line each.

    Args:
        inside: a selector, to look at these parts only.
        without: names of rules to leave out.
    """
    options = {"resultTypes": ["violations"], "rules": {name: {"enabled": False} for name in without}}
    found = axe.Axe().run(page, context={"include": [[inside]]} if inside else None, options=options).response
    assert len(found["passes"]) > 3, "axe looked at next to nothing"
    return [
        f"{rule['id']} at {' '.join(map(str, node['target']))}: {node['failureSummary']}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]


def opened(browser, folder, file, theme):
    visit = sites.Visit(browser, folder, file, color_scheme=theme, viewport={"width": 1200, "height": 900})
    assert visit.faults == []
    return visit


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = sites.course_folder(tmp_path_factory.mktemp("course"))
    return build_site(root / "build", root)


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ("<h1>a</h1><img src='data:,'>", "image-alt"),
        ("<h1>a</h1><button></button>", "button-name"),
        ("<h1>a</h1><p style='color:#999;background:#fff'>pale</p>", "color-contrast"),
        ("<h1>a</h1><main></main>", "landmark-no-duplicate-main"),
    ],
)
def test_axe_finds_a_planted_fault(browser, tmp_path, body, rule):
    (tmp_path / "page.html").write_text(html_page("a", body), encoding="utf-8")
    visit = opened(browser, tmp_path, "page.html", "light")
    assert [line.split()[0] for line in findings(visit.page)].count(rule) == 1
    visit.context.close()


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_in_any_page_of_the_site(browser, site, theme):
    for file in site.pages:
        visit = opened(browser, site.folder, file, theme)
        assert findings(visit.page) == [], file
        visit.context.close()


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_in_the_sites_search_results(browser, site, theme):
    visit = opened(browser, site.folder, "index.html", theme)
    visit.page.fill("#query", "zebra")
    visit.page.wait_for_selector("#found li a")
    assert findings(visit.page) == []
    visit.context.close()


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_in_the_certificate(browser, home, theme):
    certificates.pair(home)
    page = certificate_page(read_progress(), find_evidence(home), name="Ada")
    assert "<img" in page and "Before and after" in page
    (home / "me.html").write_text(page, encoding="utf-8")
    visit = opened(browser, home, "me.html", theme)
    assert findings(visit.page) == []
    visit.context.close()


@pytest.mark.parametrize("theme", THEMES)
def test_axe_finds_nothing_in_an_evaluation_report(browser, home, theme):
    certificates.pair(home)
    files = sorted((home / "outputs" / "reports").glob("*.html"))
    assert len(files) == 2
    for file in files:
        visit = opened(browser, file.parent, file.name, theme)
        assert findings(visit.page) == [], file.name
        visit.context.close()


@pytest.fixture(scope="module")
def notebook(tmp_path_factory, browser):
    """All panels in one notebook in JupyterLab, run."""
    made = {"panels.ipynb": tuple(PANELS.values())}
    with browser_tests.jupyterlab(tmp_path_factory.mktemp("lab"), made=made) as address:
        opened = browser_tests.OpenNotebook(browser, address, "panels.ipynb")
        assert opened.faults() == []
        yield opened
        opened.close()


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
@pytest.mark.parametrize("name", panels.MAKE)
def test_axe_finds_nothing_of_ours_in_a_panel_in_jupyterlab(notebook, name, theme):
    notebook.page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme)
    notebook.page.wait_for_selector(f"body[data-jp-theme-name='{theme}']", state="attached")
    inside = f".jp-OutputArea-output .axe-{name}"
    notebook.page.wait_for_selector(f"{inside} [role=status]")
    assert findings(notebook.page, inside=inside, without=NOT_OURS) == []


def test_the_rules_left_out_are_broken_by_ipywidgets_sliders_alone(notebook):
    found = findings(notebook.page, inside=".jp-OutputArea-output .axe-MemoryPanel")
    assert {line.split()[0] for line in found} == set(NOT_OURS)
    places = [line.partition(" at ")[2].partition(": Fix")[0] for line in found]
    is_handle = "place => document.querySelector(place).matches('.axe-MemoryPanel .noUi-handle')"
    assert all(notebook.page.evaluate(is_handle, place) for place in places), places
