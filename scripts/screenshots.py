"""The README's pictures: three panels in JupyterLab, in the light and the dark theme, as small PNG files.

python scripts/screenshots.py   # docs/screenshots/*.png, about a minute; needs the `test` extra and Chromium

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


def main() -> int:
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
