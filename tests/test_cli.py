"""The command: exit codes, and problems said in one sentence without a traceback."""

import json
import os
import subprocess
import sys

import psutil
import pytest

from lorakit_helpers import cli
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.files import project_root
from lorakit_helpers.profiles import PROFILES


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in ("LORAKIT_PROFILE", "LORAKIT_HOME", "LORAKIT_MODEL_SOURCE", "LORAKIT_STRICT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LORAKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("lorakit_helpers.hardware._nvidia_driver_present", lambda: False)


@pytest.fixture
def no_model(monkeypatch):
    """Let nothing fetch the base model."""
    asked = []
    monkeypatch.setattr("lorakit_helpers.models.base_model", lambda *a, **k: asked.append((a, k)))
    return asked


def one_sentence(capsys) -> str:
    out, err = capsys.readouterr()
    assert err.startswith("lorakit: ") and err.count("\n") == 1 and "Traceback" not in out + err
    return err


@pytest.mark.parametrize("argv", [[], ["fly"], ["run", "--profil", "cpu", "--nonsense"], ["model", "--source", "ftp"]])
def test_wrong_usage_exits_with_2_and_shows_the_usage(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2 and "usage: lorakit" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["--help"], ["doctor", "--help"], ["model", "--help"], ["run", "--help"], ["estimate", "--help"]]
)
def test_help_exits_with_0(argv, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 0 and "usage: lorakit" in capsys.readouterr().out


def test_unknown_notebook_exits_with_1_before_any_model_is_fetched(no_model, capsys):
    assert cli.main(["run", "99", "--profile", "smoke"]) == 1
    assert "'99'" in one_sentence(capsys) and not no_model


def test_unknown_profile_exits_with_1_and_the_nearest(no_model, capsys):
    assert cli.main(["run", "--profile", "smoek"]) == 1
    assert "Did you mean smoke?" in one_sentence(capsys)


def test_gpu_profile_without_gpu_exits_with_1_and_what_to_do(no_model, capsys):
    assert cli.main(["run", "--profile", "gpu-24gb"]) == 1
    assert "--profile cpu" in one_sentence(capsys)


def test_folder_that_is_no_course_exits_with_1(no_model, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LORAKIT_HOME", str(tmp_path))
    assert cli.main(["run", "--profile", "smoke"]) == 1
    assert "LORAKIT_HOME" in one_sentence(capsys)


def test_unknown_model_source_in_the_environment_exits_with_1(monkeypatch, capsys):
    monkeypatch.setenv("LORAKIT_MODEL_SOURCE", "torrent")
    assert cli.main(["model"]) == 1
    assert "'torrent'" in one_sentence(capsys)


def test_interrupt_exits_with_130_and_says_that_work_is_kept(monkeypatch, capsys):
    def interrupt(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lorakit_helpers.models.base_model", interrupt)
    assert cli.main(["model"]) == 130
    assert "kept" in one_sentence(capsys)


def test_build_folder_below_a_file_exits_with_1(no_model, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    assert cli.main(["run", "00", "--profile", "smoke", "--build", str(tmp_path / "file")]) == 1
    one_sentence(capsys)


def test_run_hands_its_options_on_and_reports_each_notebook(no_model, monkeypatch, tmp_path, capsys):
    from lorakit_helpers.course import NotebookRun, find_notebooks

    calls = []

    def fake(path, profile, build, *, strict, force, twice):
        assert not twice
        calls.append((path.stem, profile, build, strict, force))
        return NotebookRun(path.stem, 61.4, build / "x.ipynb", len(calls) == 1)

    monkeypatch.setattr("lorakit_helpers.course.run_notebook", fake)
    monkeypatch.setattr("lorakit_helpers.site.build_site", lambda build: calls.append(build) or "the site")
    assert cli.main(["run", "--profile", "smoke", "--build", str(tmp_path), "--strict", "--force"]) == 0
    assert calls.pop() == tmp_path  # last of all
    every = sorted(path.stem for path in find_notebooks())
    done = [stem for stem, *_ in calls]
    assert sorted(calls) == [(stem, "smoke", tmp_path, True, True) for stem in every]
    assert done.index("07_train_with_qlora") < done.index("03_low_rank_and_lora")  # which shows the adapter of 07
    assert no_model == [((PROFILES["smoke"],), {})]
    out = capsys.readouterr().out
    assert "61 s" in out and "up to date" in out and all(stem in out for stem in every) and "Site: the site" in out
    assert cli.main(["run", "00", "--profile", "smoke", "--build", str(tmp_path)]) == 0
    assert calls.pop() == tmp_path and len(calls) == len(every) + 1  # one notebook's page is written again too


def test_site_is_built_from_what_was_run_or_says_what_to_run(tmp_path, capsys):
    assert cli.main(["site", "--build", str(tmp_path)]) == 1
    assert "make course" in one_sentence(capsys) and not list(tmp_path.iterdir())


def test_failing_notebook_stops_the_run_with_1(no_model, monkeypatch, tmp_path, capsys):
    def fail(path, *_, **__):
        raise LorakitError(f"{path.stem}, cell 3", got="KeyError: 'x'", expected="every cell to run", do="See the copy.")

    monkeypatch.setattr("lorakit_helpers.course.run_notebook", fail)
    assert cli.main(["run", "--profile", "smoke", "--build", str(tmp_path)]) == 1
    assert "cell 3" in one_sentence(capsys)


def test_model_passes_its_source_on_and_prints_the_folder(monkeypatch, capsys):
    from lorakit_helpers.models import BaseModel

    asked = []

    def fake(*, source):
        asked.append(source)
        return BaseModel("/somewhere/model", "wheel", "a note")

    monkeypatch.setattr("lorakit_helpers.models.base_model", fake)
    assert cli.main(["model", "--source", "wheel"]) == 0
    assert asked == ["wheel"]
    assert "/somewhere/model" in (out := capsys.readouterr().out) and "a note" in out


def test_doctor_without_model_exits_with_1_and_says_how_to_get_it(capsys):
    assert cli.main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "Chosen: profile cpu" in out and "lorakit model" in out
    assert f"{psutil.virtual_memory().total / 2**30:.1f} GiB free" in out or "container limit" in out


def test_doctor_exits_with_0_when_all_is_there_and_1_when_a_library_is_missing(monkeypatch, capsys):
    monkeypatch.setattr("lorakit_helpers.models.verify", lambda folder: "")
    monkeypatch.setattr(cli, "_LIBRARIES", ("numpy",))
    assert cli.main(["doctor"]) == 0
    import numpy

    assert numpy.__version__ in capsys.readouterr().out
    monkeypatch.setattr(cli, "_LIBRARIES", ("numpy", "no-such-library"))
    assert cli.main(["doctor"]) == 1
    assert "Missing: no-such-library" in capsys.readouterr().out


ESTIMATE = ["estimate", "Llama-3.1-8B", "--seq", "512"]


@pytest.mark.parametrize(
    ("wrong", "near"),
    [
        (["estimate", "Lama-3.1-8B"], "Llama-3.1-8B"),
        ([*ESTIMATE, "--gpu", "RTX 3061"], "RTX 3060"),
        ([*ESTIMATE, "--targets", "q_porj"], "q_proj"),
        ([*ESTIMATE, "--method", "qlra"], "qlora"),
        ([*ESTIMATE, "--optimizer", "adam_8bit"], "adamw_8bit"),
        ([*ESTIMATE, "--rank", "2000"], "from 1 to 1024"),
        ([*ESTIMATE, "--batch", "-1"], "got -1"),
        ([*ESTIMATE, "--gpu", "-8"], "above 0"),
        ([*ESTIMATE, "--gpu", "nan"], "above 0"),
    ],
)
def test_estimate_with_a_wrong_value_exits_with_1_and_the_nearest(wrong, near, capsys):
    assert cli.main(wrong) == 1
    assert near in one_sentence(capsys)


def test_estimate_prints_the_same_numbers_as_text_and_as_json(capsys):
    asked = [*ESTIMATE, "--method", "qlora", "--rank", "32", "--targets", "q_proj,v_proj", "--gpu", "RTX 3060"]
    assert cli.main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert cli.main(asked) == 0
    text = capsys.readouterr().out
    assert found["trainable_params"] == 32 * 32 * (4096 + 4096 + 4096 + 1024)  # r * (in + out) of q and v, 32 layers
    assert f"{found['estimate']['total_gib']:.3f}" in text and f"{found['trainable_params']:,}" in text
    assert found["setup"]["r"] == 32 and found["setup"]["target_modules"] == ["q_proj", "v_proj"]
    assert found["gpu"]["fits"] == (found["gpu"]["room_gib"] >= 0) and ("Fits:" in text) == found["gpu"]["fits"]


def test_estimate_names_the_changes_that_make_it_fit(capsys):
    assert cli.main([*ESTIMATE, "--method", "lora", "--batch", "8", "--gpu", "24"]) == 0
    out = capsys.readouterr().out
    assert "Does not fit" in out and "gradient accumulation 8" in out and "  fits: " in out


def test_estimate_takes_a_folder_with_a_configuration(tmp_path, capsys):
    from lorakit_helpers.memory import find_model

    find_model("SmolLM2-135M").config().save_pretrained(tmp_path / "mine")
    assert cli.main(["estimate", str(tmp_path / "mine")]) == 0
    assert "134,515,008 parameters" in capsys.readouterr().out


def test_the_command_in_a_process_of_its_own_exits_with_1_and_one_line():
    done = subprocess.run(
        [sys.executable, "-m", "lorakit_helpers.cli", "run", "99", "--profile", "smoke"],
        capture_output=True, text=True, cwd=project_root(), env=os.environ | {"LORAKIT_PROFILE": "auto"}, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("lorakit: notebook: ") and done.stderr.count("\n") == 1
