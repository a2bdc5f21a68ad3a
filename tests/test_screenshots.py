"""The README's pictures are there in both themes, small, and their text alternatives say what the panels say today."""

import re
import runpy

import pytest
import test_certificate as certificates
from bs4 import BeautifulSoup
from PIL import Image

from lorakit_helpers.files import project_root

home = certificates.home
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


def test_readmes_table_of_before_and_after_agrees_with_itself():
    from lorakit_helpers.certificate import PAIRED_HEADS

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    inner = text.split(TOOL["MARKS"][0])[1].split(TOOL["MARKS"][1])[0]
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in inner.splitlines() if line.startswith("|")]
    assert tuple(rows[0]) == PAIRED_HEADS and {row[0] for row in rows[2:]} >= {"exact match", "valid JSON"}
    for _, before, after, change, word in rows[2:]:
        (old, *_), (new, low, high) = ([float(x) for x in re.findall(r"[\d.]+(?=%)", cell)] for cell in (before, after))
        assert low <= new <= high
        if change != "–":
            points, least, most = map(float, re.findall(r"[+-][\d.]+", change))
            assert points == pytest.approx(new - old, abs=0.11) and least <= points <= most
            assert (word == "Better") == (least > 0)


def test_table_is_left_as_it_is_without_a_full_profiles_reports(tmp_path):
    (tmp_path / "README.md").write_text("as it was")
    assert "run notebook 07" in TOOL["write_table"](tmp_path) and (tmp_path / "README.md").read_text() == "as it was"


def test_table_is_written_between_the_marks_from_the_reports(home):
    certificates.pair(home)
    (home / "README.md").write_text(f"above\n{TOOL['MARKS'][0]}\nold\n{TOOL['MARKS'][1]}\nbelow\n")
    assert "table written" in TOOL["write_table"](home)
    text = (home / "README.md").read_text()
    assert text.startswith("above\n") and text.endswith("\nbelow\n") and "old\n" not in text and "| exact match | " in text
