"""The notebooks' panels in a real JupyterLab, driven through a real browser."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import nbformat
import pytest

from lorakit_helpers.files import project_root

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
ROOT = project_root()
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: install your system's package `chromium`"),
]

TRAINING_CELL = """
from lorakit_helpers.widgets import TrainingPanel
panel = TrainingPanel(seconds_between_redraws=0)
panel.log.max_steps = 3
display(panel)
"""
TRAINING_STEPS = """
for step, loss in ((1, 2.5), (2, 1.25), (3, 0.5)):
    panel.log.step = step
    panel.log.steps.append(step); panel.log.losses.append(loss)
    panel.update(panel.log)
"""

READY = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
ERRORS = """() => [...jupyterapp.shell.currentWidget.content.model.cells].flatMap((c, i) => c.type !== 'code' ? [] :
  c.toJSON().outputs.filter(o => o.output_type === 'error').map(o => `cell ${i}: ${o.ename}: ${o.evalue}`))"""
TRAP = """() => { window.faults = []; jupyterapp.shell.currentWidget.sessionContext.iopubMessage.connect((_, m) => {
  if (m.header.msg_type === 'error') window.faults.push(m.content.ename + ': ' + m.content.evalue) }) }"""


def notebook_of(*sources):
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    spec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """A JupyterLab on copies of the notebooks (autosave would rewrite the originals); yields its address."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "root")
    start = "from lorakit_helpers.start import start; start('smoke')"
    nbformat.write(notebook_of(start, TRAINING_CELL, TRAINING_STEPS), folder / "root" / "training_panel.ipynb")
    for place, values in (
        ("apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}),
        ("notebook-extension/tracker", {"windowingMode": "none"}),
    ):
        path = folder / "settings" / "@jupyterlab" / f"{place}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    port, own = free_port(), {"LORAKIT_HOME": str(ROOT), "LORAKIT_PROFILE": "smoke", "PYTHONPATH": str(ROOT)}
    for name in (
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_RUNTIME_DIR",
        "IPYTHONDIR",
    ):
        own[name] = str(folder / ("settings" if name == "JUPYTERLAB_SETTINGS_DIR" else name.lower()))
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}",
        "--ServerApp.port_retries=0", "--IdentityProvider.token=", "--ServerApp.password=",
        f"--ServerApp.root_dir={folder / 'root'}", "--expose-app-in-browser",
    ]  # fmt: skip
    with open(folder / "lab.log", "w") as log:
        server = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log, start_new_session=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert server.poll() is None, (folder / "lab.log").read_text()[-2000:]
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{address}/api/status", timeout=1).close()
                break
            time.sleep(0.1)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


@pytest.fixture(scope="session")
def browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def run_all(lab, browser):
    """Open a notebook, run all cells and return the page; at the end no callback may have failed in silence."""
    pages = []

    def opened(name):
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        pages.append(page)
        page.set_default_timeout(180_000)
        page.goto(f"{lab}/lab/workspaces/test-{time.time_ns()}/tree/{name}")
        page.wait_for_function(READY)
        page.evaluate(TRAP)
        page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
        assert page.evaluate(ERRORS) == []
        return page

    yield opened
    for page in pages:
        faults = page.evaluate("() => window.faults")
        broken = page.get_by_text("Click to show javascript error").count()
        page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        page.close()
        assert faults == [] and broken == 0


def status_of(page):
    return page.locator("[role=status][aria-live=polite]").last


def test_notebook_00_runs_and_its_panel_answers_refuses_and_resets(run_all):
    page = run_all("00_start_here.ipynb")
    box, ask = page.locator(".widget-textarea textarea").last, page.get_by_role("button", name="Ask the model")
    example = box.input_value()
    sync_api.expect(status_of(page)).to_have_text("Press the button to ask.")
    box.fill("")
    ask.click()
    sync_api.expect(status_of(page)).to_contain_text("ticket: expected what a customer wrote, got an empty text")
    box.fill("<img src=x onerror=\"document.title='hit'\"> my lamp A-1 broke")
    ask.click()
    sync_api.expect(status_of(page)).to_contain_text("JSON", timeout=120_000)
    assert page.title() != "hit"
    page.get_by_role("button", name="Reset").click()
    sync_api.expect(box).to_have_value(example)
    sync_api.expect(status_of(page)).to_have_text("Press the button to ask.")


def test_training_panel_shows_bar_sentence_and_curve(run_all):
    page = run_all("training_panel.ipynb")
    sync_api.expect(status_of(page)).to_contain_text("Step 3 of 3: loss 2.500 at step 1, 0.500 at step 3")
    bar = page.locator(".progress-bar, .widget-progress [role=progressbar]").first
    sync_api.expect(bar).to_be_visible()
    picture = page.locator("img.widget-image").last
    width = picture.evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert width > 500
