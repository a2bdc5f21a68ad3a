"""The README's pictures (three panels in JupyterLab, in both themes, as small PNG files) and its table of before and after.

python scripts/screenshots.py           # docs/screenshots/*.png, about a minute; needs the `test` extra and Chromium
python scripts/screenshots.py --table   # the table alone, from the reports that notebook 07 leaves in outputs/reports

Prints each panel's sentence: it belongs into the picture's ``alt`` in README.md, which a test compares.
"""

import sys
import tempfile
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "screenshots"
THEMES = {"light": "JupyterLab Light", "dark": "JupyterLab Dark"}
#: Name to the Python that makes ``panel``.
PANELS = {
    "memory": "from lorakit_helpers.widgets import MemoryPanel\npanel = MemoryPanel()",
    "rank": "from lorakit_helpers.lowrank import picture\nfrom lorakit_helpers.widgets import RankPanel\n"
    "panel = RankPanel({'a picture': picture()})",
    "scale": "from lorakit_helpers.widgets import ScalePanel\npanel = ScalePanel()",
}
#: What stands around the table in README.md.
MARKS = ("<!-- before and after: scripts/screenshots.py -->", "<!-- end of before and after -->")
WIDTH_PX = 1150  # of the window: the notebook's cells fill it


def small(png: bytes) -> bytes:
    """The same picture without transparency, packed as well as PNG can."""
    from PIL import Image

    out = BytesIO()
    Image.open(BytesIO(png)).convert("RGB").save(out, "png", optimize=True)
    return out.getvalue()


def cells(name: str) -> tuple[str, str]:
    """The notebook that shows one panel, marked to be found on the page."""
    start = "from lorakit_helpers.start import start; start('smoke')"
    return start, f"{PANELS[name]}\npanel.widget.add_class('shown')\npanel"


def take(page, name: str) -> str:
    """Write one panel's pictures in both themes; returns its sentence."""
    page.set_viewport_size({"width": WIDTH_PX, "height": 1000})
    page.evaluate("() => { const { shell } = jupyterapp; shell.collapseLeft(); shell.collapseRight() }")
    panel = page.locator(".jp-OutputArea-output .shown")
    for theme, full in THEMES.items():
        page.evaluate("theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", full)
        page.wait_for_selector(f"body[data-jp-theme-name='{full}']", state="attached")
        page.wait_for_timeout(1000)  # colours fade in
        (FOLDER / f"{name}-{theme}.png").write_bytes(small(panel.screenshot(animations="disabled")))
    return panel.get_by_role("status").first.inner_text()


def write_table(root: Path = ROOT) -> str:
    """Put notebook 07's newest results between the README's two marks; returns what was done."""
    from lorakit_helpers.certificate import PAIRED_HEADS, paired_rows
    from lorakit_helpers.evalreport import compare_reports
    from lorakit_helpers.evidence import find_evidence
    from lorakit_helpers.files import atomic_write_text

    evidence = find_evidence(root)
    before, after = evidence.before(), evidence.after()
    if evidence.quick or before is None or after is None:
        return "table left as it is: run notebook 07 on a full profile first (`lorakit run 07`)"
    reports = before.report, after.report
    lines = [PAIRED_HEADS, ["---"] * len(PAIRED_HEADS), *paired_rows(*reports, compare_reports(*reports))]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    path = root / "README.md"
    text = path.read_text(encoding="utf-8")
    head, rest = text.split(MARKS[0])
    tail = rest.split(MARKS[1])[1]
    data = after.report.data
    said = f"{data['rows']} test tickets, 95 % intervals in brackets; the differences are paired, ticket by ticket."
    atomic_write_text(path, f"{head}{MARKS[0]}\n{table}\n\n{said}\n{MARKS[1]}{tail}")
    return f"table written from {before.file} and {after.file}"


def main() -> int:
    sys.path.insert(0, str(ROOT))
    print(write_table())
    if "--table" in sys.argv[1:]:
        return 0
    sys.path.insert(0, str(ROOT / "tests"))
    import test_browser as lab

    if lab.CHROMIUM is None:
        print("no Chromium: install your system's package `chromium`")
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = {f"{name}.ipynb": cells(name) for name in PANELS}
    with (
        tempfile.TemporaryDirectory() as folder,
        lab.jupyterlab(Path(folder), made=made) as address,
        lab.chromium_browser() as browser,
    ):
        for name in PANELS:
            notebook = lab.OpenNotebook(browser, address, f"{name}.ipynb")
            print(f"{name}: {take(notebook.page, name)}", flush=True)
            notebook.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
