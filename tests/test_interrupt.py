"""Interrupting notebook 07's training cell, as the stop button does: the kernel stays usable, and the run can go on."""

import time

import nbformat
import pytest
from homes import course_home
from jupyter_client.manager import start_new_kernel

from lorakit_helpers.files import project_root

ROOT = project_root()
#: Instead of the cells on data and baseline: few rows, and a small random model, so that a step takes milliseconds.
INSTEAD = """
from types import SimpleNamespace
import torch
from lorakit_helpers.tickets import load_split, to_conversation
base, before_model, train_tickets = SimpleNamespace(path={tiny!r}), torch.nn.Linear(1, 1), load_split("train")[:64]
before_model.device = torch.device("cpu")
recipe = recipe.but(max_steps={steps}, save_steps=4, logging_steps=1, torch_compile=False)
"""
STEPS = 4000  # far more than are done before the interrupt
MORE = 6


def run(client, code, timeout=240, meanwhile=None):
    """Run ``code`` in the kernel and return (status, name of the error, printed text)."""
    texts = []

    def keep(message):
        if message["msg_type"] == "stream":
            texts.append(message["content"]["text"])

    if meanwhile is None:
        reply = client.execute_interactive(code, timeout=timeout, output_hook=keep)
    else:
        request = client.execute(code, stop_on_error=False)  # or the kernel turns down what follows within its next moment
        meanwhile()
        reply = client.get_shell_msg(timeout=timeout)
        assert reply["parent_header"]["msg_id"] == request
    return reply["content"]["status"], reply["content"].get("ename"), "".join(texts)


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    home = course_home(tmp_path / "home")
    for name, value in (("LORAKIT_HOME", home), ("LORAKIT_PROFILE", "smoke"), ("IPYTHONDIR", tmp_path), ("PYTHONPATH", ROOT)):
        monkeypatch.setenv(name, str(value))
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(ROOT / "notebooks"))
    yield manager, client, home
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_an_interrupted_training_cell_leaves_a_usable_kernel_and_goes_on_when_run_again(kernel, tiny):
    manager, client, home = kernel
    cells = nbformat.read(ROOT / "notebooks/07_train_with_qlora.ipynb", as_version=4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    (training,) = (i for i, source in enumerate(sources) if "trainer.train(" in source)
    (loading,) = (i for i, source in enumerate(sources) if "FastLanguageModel.from_pretrained(" in source)
    start = next(source for source in sources if "choice = start(PROFILE)" in source)
    for code in ("PROFILE = 'smoke'", start, INSTEAD.format(tiny=tiny, steps=STEPS), *sources[loading:training]):
        assert run(client, code)[:2] == ("ok", None), code

    def interrupt_after_a_checkpoint():
        until = time.monotonic() + 240
        while not list(home.glob("outputs/smoke/runs/07/*/checkpoint-*/trainer_state.json")):
            assert time.monotonic() < until and client.is_alive()
            time.sleep(0.05)
        manager.interrupt_kernel()

    status, error, _ = run(client, sources[training], meanwhile=interrupt_after_a_checkpoint)
    assert (status, error) == ("error", "KeyboardInterrupt")
    status, _, printed = run(client, "print(trainer.state.global_step, last_checkpoint(folder).name)")
    assert status == "ok"
    done, checkpoint = printed.split()
    saved = int(checkpoint.removeprefix("checkpoint-"))
    assert 4 <= saved <= int(done) < STEPS

    assert run(client, f"trainer.args.max_steps = {saved + MORE}")[0] == "ok"  # the test's own: not to wait for all of them
    assert run(client, sources[training])[:2] == ("ok", None)
    status, _, printed = run(client, "print(panel.log.steps, trainer.state.global_step, result.global_step)")
    steps = [*range(1, saved + MORE + 1)]
    assert (status, printed.strip()) == ("ok", f"{steps} {steps[-1]} {steps[-1]}")
    for source in sources[training + 1 : training + 4]:  # the curve, its diagnosis, and the adapter's file
        assert run(client, source)[:2] == ("ok", None), source
    assert (home / "outputs/smoke/adapters/tickets/adapter_model.safetensors").is_file()
