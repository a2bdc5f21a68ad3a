"""Errors that say four things in one line, and files that are whole or absent."""

import hashlib
import json
import os
import shutil
import stat
from types import SimpleNamespace

import pytest

from lorakit_helpers import files
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.files import (
    atomic_folder,
    atomic_write_text,
    cache_dir,
    fingerprint,
    need_space,
    project_root,
    sha256_of,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_message_says_what_got_expected_and_what_to_do():
    error = LorakitError("batch size", got=-3, expected="a number above 0", do="Take 8.")
    for part in ("batch size", "-3", "a number above 0", "Take 8."):
        assert part in str(error)
    assert (error.what, error.got, error.expected, error.do) == ("batch size", -3, "a number above 0", "Take 8.")


def test_falsy_but_present_values_are_still_shown():
    assert "got 0" in str(LorakitError("rank", got=0, expected="more"))
    assert "got None" not in str(LorakitError("rank", expected="more"))


def test_callers_may_catch_it_as_value_error():
    with pytest.raises(ValueError, match="rank"):
        raise LorakitError("rank")


def test_sha256_equals_hashlib_beyond_one_read_block(tmp_path):
    content = os.urandom(1_000_003)
    (tmp_path / "blob").write_bytes(content)
    assert sha256_of(tmp_path / "blob") == hashlib.sha256(content).hexdigest()


def test_fingerprint_ignores_key_order_and_sees_every_value():
    base = fingerprint({"a": 1, "b": [1, 2]})
    assert base == fingerprint({"b": [1, 2], "a": 1})
    assert len({base, fingerprint({"a": 1, "b": [2, 1]}), fingerprint({"a": 2, "b": [1, 2]}), fingerprint({"a": 1})}) == 4
    assert len(base) == 16 and int(base, 16) >= 0


def test_text_is_written_as_utf8_into_new_folders(tmp_path):
    path = atomic_write_text(tmp_path / "a" / "b" / "c.txt", "Zoë 東京")
    assert path.read_bytes() == "Zoë 東京".encode()
    assert names(path.parent) == ["c.txt"]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch, fault):
    path = tmp_path / "kept.txt"
    path.write_text("old")

    def fail(*_):
        raise fault

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises((LorakitError, KeyboardInterrupt)) as caught:
        atomic_write_text(path, "new")
    assert isinstance(caught.value, LorakitError if isinstance(fault, OSError) else KeyboardInterrupt)
    assert path.read_text() == "old" and names(tmp_path) == ["kept.txt"]


def test_full_disk_message_names_file_reason_and_remedy(tmp_path, monkeypatch):
    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(LorakitError) as caught:
        atomic_write_text(tmp_path / "x.txt", "text")
    assert all(part in str(caught.value) for part in ("x.txt", "No space left on device", "Free some space"))
    assert names(tmp_path) == []


def test_unusable_parent_is_said_as_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LorakitError, match="could not write"):
        atomic_write_text(tmp_path / "file" / "x.txt", "text")


def test_folder_replaces_the_old_one_whole(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "stale").write_text("old")
    with atomic_folder(target) as new:
        (new / "fresh").write_text("new")
        assert names(target) == ["stale"]  # nothing is seen before the block ends
    assert names(target) == ["fresh"] and names(tmp_path) == ["model"]
    assert os.name == "nt" or stat.S_IMODE(target.stat().st_mode) == 0o755  # others may read what was made


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt, LorakitError])
def test_failed_folder_leaves_the_old_one_and_no_litter(tmp_path, fault):
    target = tmp_path / "model"
    target.mkdir()
    (target / "kept").write_text("old")
    with pytest.raises(fault), atomic_folder(target) as new:
        (new / "half").write_text("new")
        raise fault("stop")
    assert names(target) == ["kept"] and names(tmp_path) == ["model"]


def test_failed_swap_puts_the_old_folder_back(tmp_path, monkeypatch):
    target, replace = tmp_path / "model", os.replace
    target.mkdir()
    (target / "kept").write_text("old")

    def fail_on_new(source, destination):
        if ".new-" in str(source):
            raise OSError(5, "Input/output error")
        replace(source, destination)

    monkeypatch.setattr(files.os, "replace", fail_on_new)
    with pytest.raises(LorakitError), atomic_folder(target) as new:
        (new / "fresh").write_text("new")
    assert target.is_dir() and names(target) == ["kept"]


def test_folder_below_a_file_is_said_as_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LorakitError, match="could not write"), atomic_folder(tmp_path / "file" / "model"):
        pass


def test_need_space_asks_the_nearest_existing_folder(tmp_path):
    free = shutil.disk_usage(tmp_path).free / 2**30
    need_space(tmp_path / "not" / "yet" / "there", free / 2, "a model")
    with pytest.raises(LorakitError) as caught:
        need_space(tmp_path / "not" / "yet" / "there", free + 1024, "a model", variable="LORAKIT_CACHE")
    assert all(part in str(caught.value) for part in ("a model", str(tmp_path), "GiB free", "LORAKIT_CACHE"))
    assert not (tmp_path / "not").exists()


def test_need_space_names_no_variable_that_would_not_help(tmp_path):
    with pytest.raises(LorakitError, match="choose a folder on another disk"):
        need_space(tmp_path, 2**40, "a model")


def test_need_space_counts_in_units_of_two_to_the_thirty(tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * 2**30))
    need_space(tmp_path, 3.0, "x")
    with pytest.raises(LorakitError, match=r"3\.00 GiB free"):
        need_space(tmp_path, 3.01, "x")


def test_root_is_found_upwards_from_any_depth(tmp_path, monkeypatch):
    (tmp_path / "data" / "tickets").mkdir(parents=True)
    deep = tmp_path / "notebooks" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.delenv("LORAKIT_HOME", raising=False)
    monkeypatch.chdir(deep)
    assert project_root().samefile(tmp_path)


def test_lorakit_home_wins_over_the_working_folder(tmp_path, monkeypatch):
    (tmp_path / "data" / "tickets").mkdir(parents=True)
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path))
    assert project_root() == tmp_path


def test_wrong_lorakit_home_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path))
    with pytest.raises(LorakitError) as caught:
        project_root()
    assert all(part in str(caught.value) for part in (str(tmp_path), "data/tickets", "LORAKIT_HOME"))


def test_cache_folder_follows_the_environment_else_platformdirs(tmp_path, monkeypatch):
    import platformdirs

    monkeypatch.setenv("LORAKIT_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.setenv("LORAKIT_CACHE", "~/somewhere")
    assert str(cache_dir()) == os.path.expanduser("~/somewhere")
    monkeypatch.delenv("LORAKIT_CACHE")
    assert str(cache_dir()) == platformdirs.user_cache_dir("lorakit")


def test_fingerprint_reads_non_ascii_as_json_does():
    text = json.dumps("é", ensure_ascii=False)
    assert fingerprint("é") == hashlib.sha256(text.encode()).hexdigest()[:16]
