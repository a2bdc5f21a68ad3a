"""The exported script: lorakit-free, the same training for any number of processes, and well behaved when a worker dies."""

import ast
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.scale import Job, compare_runs, write_script
from lorakit_helpers.scale.script import _arguments, share_batch
from lorakit_helpers.tickets import load_split, to_conversation
from lorakit_helpers.training import sft_arguments

BIN = Path(sys.executable).parent
RECIPE = Recipe(
    r=4, lora_alpha=8, learning_rate=1e-2, max_steps=6, warmup_steps=1, per_device_train_batch_size=4, save_steps=2,
    attn_implementation="eager", max_length=256,
)  # fmt: skip
ROWS = 15  # four updates a pass, the last one not full


def settings(folder) -> dict:
    """The constants at the head of an exported script."""
    tree = ast.parse((Path(folder) / "train.py").read_text())
    found = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            try:
                found[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return found


def environment() -> dict:
    hidden = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    return {name: value for name, value in os.environ.items() if name not in hidden} | {"OMP_NUM_THREADS": "1"}


def torchrun(folder, n: int) -> list[str]:
    return [str(BIN / "torchrun"), "--standalone", "--nproc_per_node", str(n), str(Path(folder) / "train.py")]


def finished(command) -> list[dict]:
    """Run a command to its end; the JSON lines it wrote."""
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 16))
def test_an_update_keeps_its_rows_whatever_the_number_of_processes(batch, accumulation, processes):
    recipe = Recipe(per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation)
    if batch * accumulation % processes:
        with pytest.raises(LorakitError, match="divisor"):
            share_batch(recipe, processes)
        return
    each, steps = share_batch(recipe, processes)
    assert each * steps * processes == batch * accumulation and each <= batch
    if accumulation % processes == 0:
        assert each == batch  # the very batches of one process


@pytest.mark.parametrize("processes", [0, -1, 2.0, True])
def test_a_number_of_processes_that_cannot_be_is_refused(processes):
    with pytest.raises(LorakitError, match="whole number"):
        share_batch(RECIPE, processes)


@given(st.lists(st.tuples(st.floats(0.01, 20), st.floats(0.01, 20)), min_size=1, max_size=8))
def test_the_largest_relative_difference_is_numpys(pairs):
    one, two = np.array(pairs).T
    found = compare_runs(dict(enumerate(one, 1)), dict(enumerate(two, 1)))
    np.testing.assert_allclose(found.differences, np.abs(two - one) / one)
    assert found.largest == max(found.differences)


def test_runs_are_read_from_json_lines_and_the_later_of_a_repeated_step_counts(tmp_path):
    events = [{"event": "start"}, *({"event": "step", "step": s, "loss": x} for s, x in ((1, 4.0), (2, 3.0), (2, 2.0)))]
    (tmp_path / "log").write_text("".join(json.dumps(event) + "\n" for event in events) + "not JSON\n")
    assert compare_runs(tmp_path / "log", events).two == (4.0, 2.0)
    assert compare_runs(tmp_path / "log", {1: 4.0, 2: 2.5}).largest == pytest.approx(0.25)


@pytest.mark.parametrize("other", [{1: 1.0, 3: 1.0}, {}, {1: 1.0, 2: float("nan")}, {1: 1.0, 2: 0.0}])
def test_runs_that_cannot_be_compared_are_refused(other):
    with pytest.raises(LorakitError):
        compare_runs({1: 1.0, 2: 1.0}, other)


@pytest.fixture(scope="module")
def exported(tiny, tmp_path_factory):
    """``export(processes, **changes)``: a folder with the tiny model's script."""

    def export(processes: int, rows: int = ROWS, **changes) -> Path:
        job = Job(RECIPE.but(**changes), base=tiny, engine="plain", rows=rows)
        return write_script(job, tmp_path_factory.mktemp("script") / "run", processes=processes)

    return export


def test_the_script_imports_the_libraries_and_never_lorakit(exported):
    text = (exported(2) / "train.py").read_text()
    modules = {
        name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import) for name in (a.name for a in node.names)
    }
    modules |= {node.module for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)}
    other = {name.split(".")[0] for name in modules} - set(sys.stdlib_module_names)
    assert other == {"torch", "datasets", "peft", "transformers", "trl"}
    assert "trust_remote_code" not in text and "pickle" not in text


@pytest.mark.parametrize("bf16", [True, False])
def test_a_script_for_the_processor_takes_its_precision_not_the_gpus(monkeypatch, bf16):
    from lorakit_helpers.hardware import Hardware, detect

    card, processor = Hardware("cuda", "a card", 16.0, 16.0, not bf16, 8, ()), dataclasses.replace(detect(), bf16=bf16)
    monkeypatch.setattr("lorakit_helpers.hardware.detect", lambda: card)
    monkeypatch.setattr("lorakit_helpers.hardware._detect_cpu", lambda: processor)
    found = _arguments(RECIPE, "cpu", 2, 2)
    assert (found["bf16"], found["fp16"], found["use_cpu"]) == (bf16, False, True)


def test_the_scripts_arguments_are_the_plain_engines_but_for_what_several_processes_need(exported):
    from trl import SFTConfig

    found = settings(exported(2))
    want = sft_arguments(RECIPE, "x", "plain")
    changed = {name for name in want.keys() | found["TRAINING"].keys() if want.get(name) != found["TRAINING"].get(name)}
    assert changed == {"output_dir", "train_sampling_strategy", "per_device_train_batch_size", "logging_steps"}
    assert found["TRAINING"]["per_device_train_batch_size"] == 2 and found["TRAINING"]["logging_steps"] == 1
    assert set(found["TRAINING"]) <= {field.name for field in dataclasses.fields(SFTConfig)}
    assert found["PROCESSES"] == 2 and found["GROUP_BY_LENGTH"] and found["ATTENTION"] == "eager"


def test_the_data_beside_it_are_the_jobs_rows(exported):
    lines = (exported(2) / "train.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [to_conversation(t) for t in load_split("train")[:ROWS]]


def test_a_gpu_job_is_exported_on_a_machine_without_one(tmp_path):
    folder = write_script(Job(profile="gpu-24gb", rows=5), tmp_path / "x", processes=4)
    found = settings(folder)
    assert found["DEVICE"] == "cuda" and found["TRAINING"]["optim"] == "adamw_8bit" and not found["TRAINING"]["use_cpu"]
    config = yaml.safe_load((folder / "accelerate_config.yaml").read_text())
    assert config["num_processes"] == 4 and config["use_cpu"] is False
    assert "not yet run on a GPU" in (folder / "README.md").read_text()


def test_accelerates_own_launcher_would_start_every_process_with_the_configuration(exported):
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    folder = exported(2)
    text = ["--config_file", str(folder / "accelerate_config.yaml"), str(folder / "train.py")]
    options, _, _ = _validate_launch_command(launch_command_parser().parse_args(text))
    assert options.multi_gpu and options.num_processes == 2 and options.use_cpu and not options.cpu


def test_the_commands_in_the_readme_are_those_the_tests_run(exported):
    readme = (exported(2) / "README.md").read_text()
    assert "torchrun --standalone --nproc_per_node 2 train.py" in readme
    assert "accelerate launch --config_file accelerate_config.yaml train.py" in readme


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, tiny):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(LorakitError, match="new or empty"):
        write_script(Job(RECIPE, base=tiny), tmp_path)
    with pytest.raises(LorakitError, match="divisor"):
        write_script(Job(RECIPE, base=tiny), tmp_path / "new", processes=3)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.training
def test_accelerate_that_starts_one_process_of_two_is_told_so(exported):
    """accelerate 1.15 with --cpu --num_processes 2 starts one and says nothing."""
    folder = exported(2)
    command = [str(BIN / "accelerate"), "launch", "--cpu", "--num_processes", "2", str(folder / "train.py")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode != 0 and done.stdout == ""
    assert "written for 2 processes, and 1 started" in done.stderr and "torchrun" in done.stderr
    assert not (folder / "adapter").exists() and not (folder / "checkpoints").exists()


@pytest.mark.training
def test_one_process_trains_as_the_plain_engine_does(exported, tiny, tmp_path):
    """All rows in one batch, so that their order does not matter."""
    folder = exported(1, rows=4, max_steps=3)
    events = finished([sys.executable, str(folder / "train.py")])
    code = f"""
import json
from lorakit_helpers.start import start; start("smoke")
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.tickets import load_split, to_conversation
from lorakit_helpers.training import train
recipe = Recipe(**json.loads({json.dumps(json.dumps(RECIPE.but(max_steps=3, logging_steps=1).to_dict()))}))
rows = [to_conversation(t) for t in load_split("train")[:4]]
run = train(recipe, rows, {tiny!r}, engine="plain", output_dir={str(tmp_path)!r})
print("RESULT" + json.dumps(dict(zip(run.log.steps, run.log.losses))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    plain = {int(step): loss for step, loss in json.loads(done.stdout.split("RESULT")[1]).items()}
    assert compare_runs(plain, events).largest < 1e-4


def started_until(command, step: int) -> tuple[subprocess.Popen, list[dict]]:
    """Start a command and read its JSON lines up to a step."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(), start_new_session=True
    )
    events = []
    for line in process.stdout:
        events.append(json.loads(line))
        if events[-1].get("step") == step:
            return process, events
    raise AssertionError(f"ended before step {step}: {process.stderr.read()[-2000:]}")


@pytest.mark.training
@pytest.mark.parametrize("victim", [1, 0])
def test_a_killed_worker_ends_the_run_within_30_s_and_a_second_start_resumes_to_the_losses_of_one_process(exported, victim):
    folder = exported(2, max_steps=12 if victim else 30)
    process, events = started_until(torchrun(folder, 2), 5)
    try:
        family = psutil.Process(process.pid).children(recursive=True)
        ranks = {child.environ().get("RANK"): child for child in family if str(folder) in " ".join(child.cmdline())}
        assert set(ranks) >= {"0", "1"}
        os.kill(ranks[str(victim)].pid, signal.SIGKILL)
        start = time.monotonic()
        _, errors = process.communicate(timeout=60)
        _, alive = psutil.wait_procs(family, timeout=30)
        assert time.monotonic() - start < 30 and not alive
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0
    assert "Signal 9 (SIGKILL)" in errors and "Start the same command again" in errors
    if not victim:
        return
    again = finished([str(BIN / "accelerate"), "launch", "--config_file", str(folder / "accelerate_config.yaml"),
                      str(folder / "train.py")])  # fmt: skip
    assert again[0]["processes"] == 2 and again[0]["resumed_from"].endswith("checkpoint-4")
    assert [e["step"] for e in again if e["event"] == "step"] == list(range(5, 13))
    single = finished(torchrun(exported(1, max_steps=12), 1))
    assert compare_runs(single, events + again).largest < 0.01


@pytest.mark.training
def test_workers_stop_when_torchrun_itself_is_killed(exported):
    folder = exported(2, max_steps=200)
    process, _ = started_until(torchrun(folder, 2), 2)
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=30)
    for left in alive:
        left.kill()
    assert not alive


@pytest.mark.training
def test_two_processes_train_the_base_model_as_one_does_within_1_percent_at_each_step(base, tmp_path):
    recipe = RECIPE.but(learning_rate=2e-3, lr_scheduler_type="cosine", per_device_train_batch_size=2,
                        gradient_accumulation_steps=2, max_steps=4, save_steps=100, r=8)  # fmt: skip
    job = Job(recipe, base=base, engine="plain", rows=12)
    runs = [finished(torchrun(write_script(job, tmp_path / str(n), processes=n), n)) for n in (1, 2)]
    assert [run[0]["processes"] for run in runs] == [1, 2]
    found = compare_runs(*runs)
    assert found.steps == (1, 2, 3, 4) and found.largest < 0.01
    assert found.one[-1] < found.one[0]


@pytest.mark.training
def test_a_script_whose_rows_would_lose_their_answers_end_says_so_and_trains_nothing(exported):
    folder = exported(1, rows=4, max_length=60)
    done = subprocess.run(
        [sys.executable, str(folder / "train.py")], capture_output=True, text=True, env=environment(), timeout=120
    )
    assert done.returncode == 1 and done.stdout == ""
    assert "4 of 4 rows lose their answer's end to max_length" in done.stderr and not (folder / "adapter").exists()
