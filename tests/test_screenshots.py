"""The README's pictures are there in both themes, small, and their text alternatives say what the panels say today."""

import runpy

import pytest
from bs4 import BeautifulSoup
from PIL import Image

from lorakit_helpers.files import project_root

ROOT = project_root()
TOOL = runpy.run_path(str(ROOT / "scripts" / "screenshots.py"))
README = BeautifulSoup((ROOT / "README.md").read_text(encoding="utf-8"), "html.parser")


def test_readme_shows_every_picture_that_is_taken_and_no_other():
    shown = {image["src"] for image in README("img")} | {source["srcset"] for source in README("source")}
    taken = {f"docs/screenshots/{name}-{theme}.png" for name in TOOL["PANELS"] for theme in TOOL["THEMES"]}
    assert shown == taken == {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "screenshots").iterdir()}


@pytest.mark.parametrize("name", TOOL["PANELS"])
def test_text_alternative_ends_with_the_panels_own_sentence(name):
    made = {}
    exec(TOOL["PANELS"][name], made)
    sentence = BeautifulSoup(made["panel"].sentence.value, "html.parser").get_text()
    alt = README.find("img", src=f"docs/screenshots/{name}-light.png")["alt"]
    assert alt.endswith(sentence) and len(alt) > len(sentence) + 40


@pytest.mark.parametrize("name", TOOL["PANELS"])
def test_pictures_are_small_and_of_one_size_on_a_light_and_a_dark_ground(name):
    files = [ROOT / "docs" / "screenshots" / f"{name}-{theme}.png" for theme in ("light", "dark")]
    light, dark = (Image.open(file).convert("L") for file in files)
    assert all(file.stat().st_size < 120_000 for file in files) and light.size == dark.size
    corner = (light.width - 1, light.height - 1)
    assert light.getpixel(corner) > 230 and dark.getpixel(corner) < 40
    assert len(set(light.resize((97, 50)).tobytes())) > 5, "an empty picture"
