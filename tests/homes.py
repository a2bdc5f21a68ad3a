"""Course folders for tests: the real one's data and notebooks, and a copy of its results to read and replace."""

import os
import shutil
from pathlib import Path

from lorakit_helpers.files import project_root

ROOT = project_root()


def course_home(folder: Path, results=()) -> Path:
    """A course folder ``folder``, with those ``results`` of the smoke profile that are there.

    Results are only ever replaced whole, so that links will do for their files.
    """
    folder.mkdir(parents=True)
    for part in ("data", "lorakit_helpers", "notebooks", "requirements"):
        (folder / part).symlink_to(ROOT / part)
    for name in results:
        source, target = ROOT / "outputs" / "smoke" / name, folder / "outputs" / "smoke" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, copy_function=link_or_copy)
        elif source.is_file():
            shutil.copy2(source, target)
    return folder


def link_or_copy(source, target):
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)
