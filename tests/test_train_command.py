"""`lorakit train`: exit codes, one sentence a problem, JSON lines, and a run that is interrupted and goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from lorakit_helpers import cli
from lorakit_helpers.data import write_rows
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.hardware import detect
from lorakit_helpers.memory import ModelShape, estimate
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.scale import Job, read_job, write_job
from lorakit_helpers.scale.command import EXIT_TOO_LARGE, _Events
from lorakit_helpers.scale.hub import find_base
from lorakit_helpers.scale.plan import _masked, memory_setup, plan_job

RECIPE = Recipe(
    r=4, lora_alpha=8, learning_rate=1e-3, max_steps=6, warmup_steps=1, per_device_train_batch_size=2, logging_steps=1,
    save_steps=2, attn_implementation="eager",
)  # fmt: skip
LORAKIT = [sys.executable, "-m", "lorakit_helpers.cli"]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.delenv("LORAKIT_PROFILE", raising=False)
    monkeypatch.setattr("lorakit_helpers.hardware._nvidia_driver_present", lambda: False)


@pytest.fixture
def job(tiny, tmp_path):
    return Job(RECIPE, base=tiny, engine="plain", rows=16, output=str(tmp_path / "adapter"))


def given(job: Job, tmp_path, **options) -> list[str]:
    """The command line for a job."""
    path = write_job(job, tmp_path / "job.yaml")
    return ["train", str(path), *(part for name, value in options.items() for part in (f"--{name}", value))]


def problem(capsys) -> str:
    """The one sentence, checked to be one, with no traceback and nothing but JSON on standard output."""
    out, err = capsys.readouterr()
    said = [line for line in err.splitlines() if line.startswith("lorakit: ")]
    assert len(said) == 1 and err.rstrip().endswith(said[0]) and "Traceback" not in err
    for line in out.splitlines():
        json.loads(line)
    return said[0]


def test_wrong_usage_exits_with_2(capsys):
    for argv in (["train"], ["train", "a.yaml", "--nonsense"], ["train", "a.yaml", "--processes", "two"]):
        with pytest.raises(SystemExit) as caught:
            cli.main(argv)
        assert caught.value.code == 2
    assert "usage: lorakit train" in capsys.readouterr().err


def test_help_tells_the_exit_codes(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["train", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert caught.value.code == 0 and all(f"{code} " in text for code in (0, 1, 2, EXIT_TOO_LARGE, 130))


def test_no_file_and_a_newer_schema_exit_with_1(tmp_path, capsys):
    assert cli.main(["train", str(tmp_path / "none.yaml")]) == 1
    assert "no such file" in problem(capsys)
    (tmp_path / "new.yaml").write_text("schema: 9\n")
    assert cli.main(["train", str(tmp_path / "new.yaml")]) == 1
    assert "newer lorakit" in problem(capsys)


def test_a_gpu_profile_without_a_gpu_is_refused_before_anything_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lorakit_helpers.scale.plan.find_base", lambda *a, **k: pytest.fail("the model was looked for"))
    assert cli.main(given(Job(profile="gpu-24gb"), tmp_path)) == 1
    said = problem(capsys)
    assert "no usable NVIDIA GPU" in said and "profile: cpu" in said


def test_check_trains_nothing_and_tells_rows_steps_memory_and_that_the_time_is_unknown(job, tmp_path, capsys, tokenizer):
    assert cli.main([*given(job.but(validation=0.2), tmp_path), "--check"]) == 0
    out, err = capsys.readouterr()
    (plan,) = map(json.loads, out.splitlines())
    assert plan["event"] == "plan" and plan["rows"] + plan["validation"] == 16 and plan["steps"] == 6
    assert plan["seconds"] is None and "time unknown" in err and not Path(job.output).exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job.yaml"]
    config = ModelShape.from_config(__import__("transformers").AutoConfig.from_pretrained(job.base))
    setup = memory_setup(job, detect(), plan["longest"])
    assert plan["memory_gib"] == pytest.approx(estimate(config, setup).needed_gib) and setup.seq_len % 8 == 0


def test_the_plans_token_counts_are_the_tokenizers(job, tokenizer):
    plan = plan_job(job)
    whole = [
        tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=True)["input_ids"] for row in plan.rows
    ]
    prompts = [
        tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=True)["input_ids"]
        for row in plan.rows
    ]
    assert plan.tokens == sum(map(len, whole)) and plan.longest == max(map(len, whole))
    assert plan.trained_tokens == plan.tokens - sum(map(len, prompts))


@pytest.mark.parametrize(
    "change, steps",
    [({"max_steps": -1}, 8), ({"max_steps": -1, "num_train_epochs": 1.5}, 12), ({"max_steps": 3}, 3),
     ({"max_steps": -1, "gradient_accumulation_steps": 3}, 3), ({"max_steps": -1, "per_device_train_batch_size": 5}, 4)],
)  # fmt: skip
def test_the_planned_steps_are_those_transformers_would_train(job, change, steps):
    assert plan_job(job.but(recipe=RECIPE.but(**change))).steps == steps


def test_what_would_not_fit_in_memory_exits_with_3_and_says_what_would(job, tmp_path, capsys, monkeypatch):
    small = SimpleNamespace(**detect().to_dict() | {"memory_free_gib": 0.5})
    monkeypatch.setattr("lorakit_helpers.scale.plan.detect", lambda: small)
    assert cli.main([*given(job, tmp_path), "--check"]) == EXIT_TOO_LARGE
    said = problem(capsys)
    assert "0.50 GiB free" in said and "closed form, not measured" in said and "gradient checkpointing" in said


def test_a_job_larger_than_memory_leaves_one_json_line_that_says_so(job, tmp_path, monkeypatch, capsys):
    small = SimpleNamespace(**detect().to_dict() | {"memory_free_gib": 0.5})
    monkeypatch.setattr("lorakit_helpers.scale.plan.detect", lambda: small)
    cli.main(given(job, tmp_path, log=str(tmp_path / "run" / "log.jsonl")))
    (event,) = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    assert event["event"] == "error" and event["kind"] == "memory" and capsys.readouterr().out == ""


def test_data_with_errors_is_not_trained_on(job, tmp_path, capsys):
    good = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]}
    empty = {"messages": [{"role": "user", "content": "Bye"}, {"role": "assistant", "content": ""}]}
    write_rows(tmp_path / "bad.jsonl", [good, empty])
    assert cli.main(given(job.but(data=str(tmp_path / "bad.jsonl")), tmp_path)) == 1
    said = problem(capsys)
    assert "empty" in said and "lorakit lint" in said and not Path(job.output).exists()


def test_a_validation_file_that_holds_training_rows_is_a_leak(job, tmp_path, capsys):
    rows = [{"messages": [{"role": "user", "content": f"What is {i} plus {i}, in words and figures, please?"},
                          {"role": "assistant", "content": str(2 * i)}]} for i in range(4)]  # fmt: skip
    write_rows(tmp_path / "train.jsonl", rows)
    write_rows(tmp_path / "held.jsonl", rows[:1])
    made = job.but(data=str(tmp_path / "train.jsonl"), validation=str(tmp_path / "held.jsonl"))
    assert cli.main(given(made, tmp_path)) == 1
    assert "leak" in problem(capsys)


def test_rows_whose_answer_would_be_cut_off_are_refused(job, tmp_path, capsys):
    assert cli.main(given(job.but(recipe=RECIPE.but(max_length=60)), tmp_path)) == 1
    assert "too-long: 16 of 16 rows" in problem(capsys)


def test_a_mask_that_loses_the_end_of_an_answer_is_refused_whatever_the_linter_says(job, tokenizer):
    rows = plan_job(job).rows
    with pytest.raises(LorakitError, match=r"loss mask: .*max_length"):
        _masked(rows, tokenizer, 60)
    longest = plan_job(job).longest
    assert _masked(rows, tokenizer, longest)[2] == longest
    with pytest.raises(LorakitError, match=f"1 of 16 rows longer.*Raise max_length to {longest}"):
        _masked(rows, tokenizer, longest - 3)


def test_a_folder_that_is_no_adapter_is_never_replaced(job, tmp_path, capsys):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "thesis.txt").write_text("mine")
    assert cli.main(given(job, tmp_path)) == 1
    assert "something else" in problem(capsys) and (tmp_path / "adapter" / "thesis.txt").read_text() == "mine"


def test_an_output_below_a_file_and_an_engine_that_is_not_installed_are_told_before_training(job, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(LorakitError, match="cannot be written"):
        plan_job(job.but(output=str(tmp_path / "file" / "adapter")))
    monkeypatch.setattr("lorakit_helpers.scale.plan.find_spec", lambda name: None)
    with pytest.raises(LorakitError, match="engine: plain"):
        plan_job(job.but(engine="unsloth"))


def test_a_model_whose_tokenizer_is_broken_is_one_sentence(job, tiny, tmp_path):
    shutil.copytree(tiny, tmp_path / "broken")
    (tmp_path / "broken" / "tokenizer.json").write_text("{")
    with pytest.raises(LorakitError, match="AutoTokenizer") as caught:
        plan_job(job.but(base=str(tmp_path / "broken")))
    assert "\n" not in str(caught.value)


def test_json_lines_hold_no_nan_and_outlive_their_reader():
    read, write = os.pipe()
    with os.fdopen(write, "w") as out, redirect_stdout(out), _Events(None) as tell:
        tell("step", loss=float("nan"))
        assert json.loads(os.read(read, 1000))["loss"] is None
        os.close(read)
        tell("step", loss=1.0)
        tell("step", loss=2.0)


def test_a_script_is_written_instead_of_training(job, tmp_path, capsys):
    command = given(
        job.but(recipe=RECIPE.but(gradient_accumulation_steps=2)), tmp_path, script=str(tmp_path / "s"), processes="4"
    )
    assert cli.main(command) == 0
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        "README.md",
        "accelerate_config.yaml",
        "train.jsonl",
        "train.py",
    ]
    assert yaml.safe_load((tmp_path / "s" / "accelerate_config.yaml").read_text())["num_processes"] == 4
    assert not Path(job.output).exists()
    assert cli.main([*given(job, tmp_path), "--processes", "4"]) == 1


# --- the Hub


class FakeHub:
    """Stands in for HfApi: one answer, and a record of what was asked."""

    def __init__(self, answer, access=None):
        self.answer, self.access = answer, access

    def __call__(self):
        return self

    def model_info(self, name, **options):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def auth_check(self, name):
        if self.access:
            raise self.access


def info(gated=False, gib=1.0, name="model.safetensors"):
    return SimpleNamespace(gated=gated, siblings=[SimpleNamespace(rfilename=name, size=int(gib * 2**30))])


def http(kind):
    import httpx

    return kind("refused", response=httpx.Response(403, request=httpx.Request("GET", "https://hub.invalid")))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """``hub(answer, token=…)`` puts a Hub of one answer in place of the real one; nothing is in the cache."""

    def put(answer, token=None, access=None, free_gib=100.0):
        monkeypatch.setattr("huggingface_hub.HfApi", FakeHub(answer, access))
        monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
        monkeypatch.setattr("lorakit_helpers.hub.cached", lambda name: False)
        usage = SimpleNamespace(free=int(free_gib * 2**30))
        monkeypatch.setattr("shutil.disk_usage", lambda place: usage)

    return put


def test_a_gated_model_without_a_token_is_told_before_the_download(hub):
    hub(info(gated="manual"))
    with pytest.raises(LorakitError, match=r"gated model .*no token.*hf auth login"):
        find_base(Job(base="meta/secret"))


def test_a_token_without_access_to_a_gated_model_is_told_so(hub):
    from huggingface_hub.errors import GatedRepoError

    hub(info(gated="auto"), token="x", access=http(GatedRepoError))
    with pytest.raises(LorakitError, match="has not been given access"):
        find_base(Job(base="meta/secret"))
    hub(info(gated="auto"), token="x")
    find_base(Job(base="meta/secret"))


def test_too_little_disk_is_told_before_the_download_with_the_size_needed(hub):
    hub(info(gib=10), free_gib=10.4)
    with pytest.raises(LorakitError, match=r"at least 10\.50 GiB, got 10\.40 GiB free"):
        find_base(Job(base="org/large"))
    hub(info(gib=10), free_gib=10.6)
    find_base(Job(base="org/large"))


def test_weights_that_are_no_safetensors_are_refused(hub):
    hub(info(name="pytorch_model.bin"))
    with pytest.raises(LorakitError, match="no safetensors"):
        find_base(Job(base="org/old"))


def test_no_answer_and_an_unknown_name_are_told_apart(hub):
    import httpx
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    for error in (OSError("no route"), httpx.ConnectError("no route"), ValueError("no JSON")):
        hub(error)
        with pytest.raises(LorakitError, match=r"answer from the Hub.*profile: cpu"):
            find_base(Job(base="org/model"))
    hub(http(RepositoryNotFoundError))
    with pytest.raises(LorakitError, match="no such model on the Hub"):
        find_base(Job(base="org/modle"))
    hub(HFValidationError("not a name"))
    with pytest.raises(LorakitError, match=r"no such folder here.*Check the spelling"):
        find_base(Job(base="models/of mine/small"))


def test_a_model_in_the_cache_is_not_asked_about(monkeypatch):
    monkeypatch.setattr("lorakit_helpers.hub.cached", lambda name: True)
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: pytest.fail("asked"))
    find_base(Job(base="org/model"))


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer_config.json"])
def test_a_folder_that_is_no_model_names_what_is_missing(tmp_path, missing):
    for name in {"config.json", "model.safetensors", "tokenizer_config.json"} - {missing}:
        (tmp_path / name).write_text("{}")
    with pytest.raises(LorakitError, match=missing.replace("model", ".*")):
        find_base(Job(base=str(tmp_path)))


# --- real runs


def run_in_child(argv, expect=0) -> tuple[list[dict], str]:
    done = subprocess.run([*LORAKIT, *argv], capture_output=True, text=True, timeout=300)
    assert done.returncode == expect, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


def steps_of(events) -> dict:
    return {event["step"]: event["loss"] for event in events if event["event"] == "step"}


@pytest.mark.training
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_keeps_a_checkpoint_and_goes_on_to_the_losses_of_a_whole_one(job, tmp_path, number):
    if number == signal.SIGTERM:
        job = job.but(engine="unsloth")
    whole, _ = run_in_child(given(job.but(output=str(tmp_path / "whole")), tmp_path))
    command = [*LORAKIT, *given(job, tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1].get("step") == 3:
            process.send_signal(number)
    assert process.wait(timeout=60) == 130
    assert "run it again to go on" in process.stderr.read()
    stopped = events[-1]
    assert stopped["event"] == "interrupted" and Path(stopped["checkpoint"]).is_dir() and not Path(job.output).exists()
    reached = int(stopped["checkpoint"].rsplit("-", 1)[1])
    assert reached >= 3 and reached < 6
    again, _ = run_in_child(given(job, tmp_path))
    assert next(e for e in again if e["event"] == "start")["resumed_from"] == reached
    both = steps_of(events) | steps_of(again)
    assert both == pytest.approx(steps_of(whole), rel=1e-6) and len(both) == 6
    assert not Path(job.output + ".checkpoints").exists()


@pytest.mark.training
def test_a_run_leaves_what_notebook_07_leaves_and_is_not_repeated(job, tmp_path, tiny):
    from lorakit_helpers.adapters import saved_key
    from lorakit_helpers.training import run_folder

    made = job.but(validation=0.2)
    events, said = run_in_child(given(made, tmp_path))
    kinds = [event["event"] for event in events]
    assert kinds[:2] == ["plan", "start"] and kinds.count("step") == 6 and kinds[-1] == "done" and "validation" in kinds
    for event in events:
        if event["event"] == "step":
            assert {"step", "loss", "learning_rate", "tokens", "seconds"} <= event.keys()
    folder = Path(job.output)
    notes = json.loads((folder / "lorakit_run.json").read_text())
    assert notes["recipe"]["r"] == 4 and notes["log"]["losses"] == list(steps_of(events).values())
    rows = plan_job(made.but(output=str(tmp_path / "other"))).rows
    assert saved_key(folder) == run_folder("", made.recipe, rows, tiny, "plain").name
    assert read_job(folder / "job.yaml") == made
    assert (folder / "adapter_model.safetensors").is_file() and (folder / "tokenizer.json").is_file()
    again, said = run_in_child(given(made, tmp_path))
    assert again[-1] == again[-1] | {"event": "done", "trained": False} and "--fresh" in said
    assert "step" not in [event["event"] for event in again]


def test_what_fails_after_training_leaves_the_adapter(job, tmp_path, monkeypatch):
    from lorakit_helpers.scale import command

    def train(*_, **__):
        def save(folder):
            Path(folder).mkdir()
            (Path(folder) / "adapter_model.safetensors").write_bytes(b"weights")

        return SimpleNamespace(save=save)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("lorakit_helpers.training.train", train)
    monkeypatch.setattr(command, "_measured", interrupted)
    plan = SimpleNamespace(rows=[{}], base="base")
    with pytest.raises(KeyboardInterrupt):
        command._fit(job, plan, lambda *_, **__: None, SimpleNamespace(callback=lambda: None), fresh=False)
    assert (Path(job.output) / "adapter_model.safetensors").is_file() and (Path(job.output) / "job.yaml").is_file()


def test_a_second_interruption_and_one_before_training_stop_at_once():
    from lorakit_helpers.scale.command import _Interruption

    for training in (False, True):
        with _Interruption() as interruption:
            interruption.training = training
            if training:
                os.kill(os.getpid(), signal.SIGTERM)
                assert interruption.asked
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
