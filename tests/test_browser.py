"""The notebooks' panels in a real JupyterLab, driven by keyboard in a real browser, with their latencies.

A panel is added to these tests by one :class:`Case`: its controls are found, moved and compared by themselves.
"""

import ast
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass

import nbformat
import pytest
from homes import course_home

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
#: Far above what a quiet machine needs (the table at the end of a run says how much that is): it finds a hang, not noise.
SLOWEST_MS = 1500


@dataclass(frozen=True)
class Case:
    """A panel in a notebook.

    Attributes:
        notebook: the file that shows it.
        panel: the variable that holds it there.
        wanted: Python for the kernel: from ``c``, the controls' values, to the sentence the pure functions give.
        slow: buttons that start costly work, pressed once and not timed; name to a text their sentence then contains.
        beside: for :func:`for_its_panels`.
    """

    notebook: str
    panel: str
    wanted: str
    slow: tuple = ()
    beside: tuple = ()


RANKS = """
from lorakit_helpers.lowrank import decompose
from lorakit_helpers.plots.lowrank import describe_compression
def wanted(c):
    matrix = MATRICES[c["matrix"]]
    return f"{c['matrix']}: {describe_compression(decompose(matrix), c['rank'])}"
"""
CASES = [
    Case("01_prompt_rag_or_finetune.ipynb", "panel", """
from lorakit_helpers.advice import advise
from lorakit_helpers.widgets.decision_panel import needs_of
def wanted(c):
    return str(advise(needs_of(c), evidence))
"""),
    Case("02_vram_math.ipynb", "panel", """
from lorakit_helpers.lowrank.adapter import TARGETS
from lorakit_helpers.memory import TrainSetup, find_gpu, find_model, plan
from lorakit_helpers.widgets.memory_panel import METHODS, fit_sentence
def wanted(c):
    same = {name: c[name] for name in ("r", "micro_batch", "seq_len", "gradient_checkpointing", "fused_loss", "optimizer")}
    try:
        setup = TrainSetup(target_modules=TARGETS[c["targets"]], **METHODS[c["method"]], **same)
        found = plan(find_model(c["model"]).shape, find_gpu(c["gpu"]).memory_gib, setup)
    except ValueError as problem:
        return str(problem)
    return f"{c['model']} on {c['gpu']}: {fit_sentence(found)}"
"""),
    Case("03_low_rank_and_lora.ipynb", "rank_panel", RANKS.replace("MATRICES", "matrices")),
    Case("03_low_rank_and_lora.ipynb", "update_panel", RANKS.replace("MATRICES", """{
        "full change of q_proj": full_update["self_attn.q_proj"], "LoRA change of q_proj": lora_update["self_attn.q_proj"],
        "full change of down_proj": full_update["mlp.down_proj"], "the weight q_proj itself": weight}""")),
    Case("03_low_rank_and_lora.ipynb", "lora_panel", """
from lorakit_helpers.lowrank import adapter_size, lora_scaling
from lorakit_helpers.lowrank.adapter import TARGETS
from lorakit_helpers.memory import find_model
from lorakit_helpers.plots.lowrank import describe_adapter
def wanted(c):
    try:
        size = adapter_size(find_model(c["model"]).shape, c["r"], TARGETS[c["targets"]])
    except ValueError as problem:
        return str(problem)
    scale = lora_scaling(c["lora_alpha"], c["r"], c["use_rslora"])
    return f"{c['model']}: {describe_adapter(size)} The update is scaled by {scale:g}."
""", slow=(("train", "% of the loss is left after"),)),
    Case("04_quantization_and_qlora.ipynb", "panel", """
from lorakit_helpers.plots.quantization import describe_quantized
from lorakit_helpers.quantization import quantize
from lorakit_helpers.widgets.quantization_panel import sample_weights
def wanted(c):
    chosen = sample_weights(c["source"], weights.ravel()[:4096], c["outlier"])
    return describe_quantized(chosen, quantize(chosen, c["format"], c["block_size"], c["double_quant"]))
""", beside=("def text_loss(",)),
    Case("06_chat_templates_and_lengths.ipynb", "panel", """
from lorakit_helpers.data import length_choice
from lorakit_helpers.memory import TrainSetup
from lorakit_helpers.plots.lengths import describe_lengths
from lorakit_helpers.widgets.memory_panel import METHODS
def wanted(c):
    setup, sizes = TrainSetup(**METHODS[c["method"]]), {"batch_size": c["batch_size"], "model": c["model"]}
    found = length_choice(*data[c["rows"]], c["max_length"], setup=setup, tokens_per_s=tokens_per_s, **sizes)
    return describe_lengths(found, f"{c['rows']}, {c['method']}")
""", beside=("in WAYS.items()",)),
    Case("08_hyperparameter_lab.ipynb", "panel", """
from lorakit_helpers.plots.lab import describe_rates
from lorakit_helpers.widgets.lab_panel import recipe_of
def wanted(c):
    values = {name: value for name, value in c.items() if name not in ("train", "clear", "reset")}
    found = plan_run(recipe_of(values, whole), lengths, shape, device=profile.device, tokens_per_s=known)
    return f"{found} {describe_rates(found.rates)}"
""", beside=("def gradient(",)),
    Case("09_evaluate.ipynb", "panel", """
from lorakit_helpers.reading import sentence
def wanted(c):
    state = {"votes": panel.votes, "dealt": panel.dealt, "revealed": panel.revealed}
    return sentence(panel.pairs, c["ticket"] - 1, blind=c["blind"], **state)
"""),
    Case("case_panel.ipynb", "panel", """
from lorakit_helpers.widgets.case_panel import case_sentence
def wanted(c):
    return case_sentence(record, c["case"], c["guess"], {})
""", slow=(("answer", "right so far"),)),
]  # fmt: skip
ECHO = """
import ipywidgets
from lorakit_helpers.widgets._panel import Panel
from lorakit_helpers.widgets._status import status
class Echo(Panel):
    \"\"\"No work at all: what it takes is the page's and the kernel's own time.\"\"\"
    def __init__(self):
        self.slider, self.reset = ipywidgets.IntSlider(description="number"), ipywidgets.Button(description="Reset")
        self.controls, self.sentence = {"slider": self.slider, "reset": self.reset}, ipywidgets.HTML(status("0"))
        self.widget = ipywidgets.VBox([self.slider, self.reset, self.sentence])
        self.slider.observe(lambda change: setattr(self.sentence, "value", status(str(change["new"]))), "value")
        self.reset.on_click(lambda _: setattr(self.slider, "value", 0))
echo = Echo()
echo
"""
CASES.append(Case("echo.ipynb", "echo", "def wanted(c): return str(c['slider'])"))
SCALE_CELL = """
from lorakit_helpers.widgets import ScalePanel
panel = ScalePanel()
panel
"""
CASES.append(
    Case(
        "scale_panel.ipynb",
        "panel",
        """
from lorakit_helpers.memory import GPUS
from lorakit_helpers.plots.sharding import describe_sharding
from lorakit_helpers.widgets.scale_panel import all_strategies
def wanted(c):
    own = {name: c[name] for name in ("method", "micro_batch", "seq_len", "cpu_offload")}
    found = all_strategies(c["model"], c["gpus"], **own)
    count = f"{c['gpus']} × {c['gpu']}" if c["gpus"] > 1 else c["gpu"]
    said = f"{c['model']}, {c['method']}, on {count}: {describe_sharding(found, GPUS[c['gpu']].memory_gib)}"
    waiting = max(memory.cpu_gib for memory in found.values())
    return said + (f" Up to {waiting:.1f} GiB wait in the computer's memory." if waiting else "")
""",
    )
)

#: Notebook 11's, whose own record takes all of the notebook; the tests of the notebooks make the panel from that.
CASE_CELL = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import test_case_panel
from lorakit_helpers.widgets import CasePanel
record = test_case_panel.made()
panel = CasePanel(record)
panel
"""
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
UPLOAD_CELL = """
import tempfile
from lorakit_helpers.widgets import UploadPanel
panel = UploadPanel(tempfile.mkdtemp())
panel
"""
SWAP_CELL = """
from lorakit_helpers.widgets import SwapPanel
panel = SwapPanel(lambda name, text: (f"{name} says <b>{text}</b>", 1.5), ["tickets", "plain style"], "my lamp broke")
panel
"""
START = "from lorakit_helpers.start import start; start('smoke')"
MADE = {
    "case_panel.ipynb": (START, CASE_CELL),
    "training_panel.ipynb": (START, TRAINING_CELL, TRAINING_STEPS),
    "upload_panel.ipynb": (START, UPLOAD_CELL),
    "swap_panel.ipynb": (START, SWAP_CELL),
    "echo.ipynb": (START, ECHO),
    "scale_panel.ipynb": (START, SCALE_CELL),
}

READY = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
ERRORS = """() => [...jupyterapp.shell.currentWidget.content.model.cells].flatMap((c, i) => c.type !== 'code' ? [] :
  c.toJSON().outputs.filter(o => o.output_type === 'error').map(o => `cell ${i}: ${o.ename}: ${o.evalue}`))"""
TRAP = """() => { window.faults = []; jupyterapp.shell.currentWidget.sessionContext.iopubMessage.connect((_, m) => {
  if (m.header.msg_type === 'error') window.faults.push(m.content.ename + ': ' + m.content.evalue) }) }"""
ASK = """async ([code, expression]) => { const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const reply = await kernel.requestExecute({code, silent: true, store_history: false,
    user_expressions: {asked: `repr(${expression})`}}).done;
  const asked = reply.content.user_expressions?.asked;
  if (reply.content.status !== 'ok' || asked.status !== 'ok') throw new Error(JSON.stringify(reply.content));
  return asked.data['text/plain'] }"""
# When was the last key pressed, and when did sentence and picture last change after it?
WATCH = """root => { const seen = window.seen = {key: 0, settled: 0, texts: 0, pictures: 0}, now = () => performance.now();
  root.addEventListener('keydown', () => { seen.key = now() }, true);
  root.addEventListener('load', () => { seen.settled = now(); seen.pictures += 1 }, true);
  new MutationObserver(all => { if (all.some(m => m.target.parentElement?.closest('.widget-html'))) {
    seen.settled = now(); seen.texts += 1 } }).observe(root, {subtree: true, childList: true, characterData: true}) }"""
PICTURES = """root => Promise.all([...root.querySelectorAll('img.widget-image')].map(async image => {
  const bytes = await (await fetch(image.src)).arrayBuffer();
  const hash = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...hash].map(byte => byte.toString(16).padStart(2, '0')).join('') }))"""


def notebook_of(*sources):
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in sources]
    spec = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": spec})


def for_its_panels(path, beside=()) -> None:
    """Cut off a copied notebook's cells below its panels, and costly ones above that no panel rests on.

    The tests of the notebooks run them, these do not look at them. ``beside`` holds texts of such cells; the cells that use
    names of theirs go too.
    """
    notebook = nbformat.read(path, as_version=4)
    last = max(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code" and "Panel(" in cell.source)
    kept, known, gone = [], set(), set()
    for cell in notebook.cells[: last + 1]:
        if cell.cell_type == "code":
            tree = ast.parse(cell.source)
            nodes = [*ast.walk(tree)]
            made = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            made |= {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
            used = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
            if any(text in cell.source for text in beside) or used & (gone - made):
                gone |= made - known
                assert "Panel(" not in cell.source, cell.source
                imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
                kept.append(nbformat.v4.new_code_cell("\n".join(map(ast.unparse, imports))))
                continue
            known |= made
            gone -= made
        kept.append(cell)
    assert bool(gone) == bool(beside)
    notebook.cells = kept
    nbformat.write(notebook, path)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def jupyterlab(folder, theme="JupyterLab Light", made=MADE):
    """A JupyterLab on copies of the notebooks (autosave would rewrite the originals) and ``made``; yields its address."""
    shutil.copytree(ROOT / "notebooks", folder / "root")
    for path, beside in {case.notebook: case.beside for case in CASES}.items():
        if (ROOT / "notebooks" / path).is_file():
            for_its_panels(folder / "root" / path, beside)
    for name, sources in made.items():
        nbformat.write(notebook_of(*sources), folder / "root" / name)
    for place, values in (
        ("apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True}),
        ("apputils-extension/themes", {"theme": theme}),
        ("notebook-extension/tracker", {"windowingMode": "none"}),
    ):
        path = folder / "settings" / "@jupyterlab" / f"{place}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))
    home = course_home(folder / "home", ["adapters"])  # not trained anew where the notebooks have been run
    port, own = free_port(), {"LORAKIT_HOME": str(home), "LORAKIT_PROFILE": "smoke", "PYTHONPATH": str(ROOT)}
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


@contextlib.contextmanager
def chromium_browser():
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class OpenNotebook:
    """A notebook open in JupyterLab, all cells run."""

    def __init__(self, browser, address, name):
        self.page = browser.new_page(viewport={"width": 1400, "height": 1000})
        self.page.set_default_timeout(60_000)
        self.page.goto(f"{address}/lab/workspaces/test-{time.time_ns()}/tree/{name}")
        self.page.wait_for_function(READY)
        self.page.evaluate(TRAP)
        self.page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells').then(() => { window.ran = true }) }")
        self.page.wait_for_function("() => window.ran", timeout=900_000)

    def faults(self) -> list[str]:
        """What went wrong so far, also in callbacks, which fail in silence."""
        broken = ["javascript error"] * self.page.get_by_text("Click to show javascript error").count()
        return self.page.evaluate(ERRORS) + self.page.evaluate("() => window.faults") + broken

    def ask(self, expression, code=""):
        """The value of an expression in the kernel, after running some code there."""
        return ast.literal_eval(ast.literal_eval(self.page.evaluate(ASK, [code, expression])))

    def close(self):
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        self.page.close()


CONTROLS = """
def _controls(panel):
    found = {}
    for name, c in panel.controls.items():
        kind = type(c).__name__
        if kind in ("Dropdown", "SelectionSlider"):
            ends = (c.options[0], c.options[-1])
            ends = tuple(end[1] if isinstance(end, tuple) else end for end in ends)
        else:
            ends = (getattr(c, "min", None), getattr(c, "max", None))
        found[name] = (kind, c.description, getattr(c, "value", None), *ends)
    return found
def _values(panel): return {n: c.value for n, c in panel.controls.items() if type(c).__name__ != "Button"}
"""


class OpenPanel:
    """A panel on the page, moved by keyboard only."""

    def __init__(self, notebook, case):
        self.notebook, self.case, self.page = notebook, case, notebook.page
        self.mark = f"test-{case.panel.replace('_', '-')}"
        code = f"{CONTROLS}{case.wanted}\n{case.panel}.widget.add_class('{self.mark}')"
        self.controls = notebook.ask(f"_controls({case.panel})", code)
        self.root = self.page.locator(f".{self.mark}").first
        self.root.scroll_into_view_if_needed()

    def handle(self, name):
        """The element of a control that takes the keyboard."""
        kind, description, *_ = self.controls[name]
        if kind == "Button":
            return self.root.get_by_role("button", name=description, exact=True)
        if kind == "Checkbox":
            return self.root.locator(".widget-checkbox", has_text=description).locator("input")
        row = self.root.locator(
            ".widget-inline-hbox", has=self.page.locator(f".widget-label:text-is({json.dumps(description)})")
        )
        return row.last.locator("[role=slider], select, input, textarea").first

    def press(self, name, *keys):
        self.handle(name).focus()
        for key in keys:
            self.page.keyboard.press(key)

    def values(self):
        return self.notebook.ask(f"_values({self.case.panel})")

    def expect_settled(self, **values):
        """The kernel has these values, and the page shows the sentence of the pure functions and the kernel's picture."""
        until = time.monotonic() + 30
        while any((got := self.values())[name] != value for name, value in values.items()):
            assert time.monotonic() < until, f"wanted {values}, got {got}"
            time.sleep(0.05)
        sentence = self.notebook.ask(f"wanted(_values({self.case.panel}))")
        sync_api.expect(self.root.get_by_role("status").first).to_have_text(sentence, timeout=30_000)
        panel = self.case.panel
        hashes = f"__import__('hashlib').sha256({panel}.image.value).hexdigest() if hasattr({panel}, 'image') else None"
        drawn = self.notebook.ask(hashes)
        while drawn is not None and drawn not in self.root.evaluate(PICTURES):
            assert time.monotonic() < until, "the page shows another picture than the kernel drew"
            time.sleep(0.05)

    def timed(self, name, key):
        """Milliseconds from a key to the last change of sentence and picture; None when it changes neither."""
        handle = self.handle(name)
        value = "e => e.checked ?? e.value ?? e.getAttribute('aria-valuenow')"
        old = handle.evaluate(value)
        self.press(name, key)
        if handle.evaluate(value) == old:  # it was at that end already
            return None
        self.notebook.ask("0")  # the kernel answers in order: what the key changed was sent before this comes back
        self.page.wait_for_function("() => performance.now() - Math.max(seen.key, seen.settled) > 150", polling=20)
        seen = self.page.evaluate("() => { const now = {...seen}; seen.texts = seen.pictures = 0; return now }")
        return seen["settled"] - seen["key"] if seen["settled"] > seen["key"] else None


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    with jupyterlab(tmp_path_factory.mktemp("lab")) as address:
        yield address


@pytest.fixture(scope="session")
def latest(lab, browser):
    """Opens and runs a notebook, or hands back the one still open; one kernel at a time."""
    held = {}

    def open_notebook(name):
        if name not in held:
            for other in list(held):
                held.pop(other).close()
            held[name] = OpenNotebook(browser, lab, name)
        return held[name]

    yield open_notebook
    for notebook in held.values():
        notebook.close()


@pytest.fixture
def run_all(latest):
    """Open a notebook, run all cells and return it; at the end no cell and no callback may have failed."""
    used = []

    def opened(name):
        used.append(latest(name))
        assert used[-1].faults() == []
        return used[-1]

    yield opened
    for notebook in used:
        assert notebook.faults() == []


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case.notebook[:2]}-{case.panel}")
def case(request):
    """Of the module's scope, so that the tests of one panel, and of one notebook, follow one another."""
    return request.param


@pytest.fixture
def panel(case, run_all):
    return OpenPanel(run_all(case.notebook), case)


@pytest.fixture(scope="session")
def latencies(request):
    """Milliseconds of every key press, by panel and control; printed as a table at the end of the run."""
    found = {}
    yield found
    plugins = request.config.pluginmanager
    write = plugins.getplugin("terminalreporter").write_line
    with plugins.getplugin("capturemanager").global_and_fixture_disabled():
        write("\n\nkey press to settled sentence and picture, ms: p50 / p95 (presses)")
        for (notebook, panel, control), times in found.items():
            figures = f"{statistics.median(times):5.0f} / {p95(times):5.0f} ({len(times)})"
            write(f"{notebook[:-6]:26} {panel:14} {control:14} {figures}")


def p95(times):
    return sorted(times)[max(0, round(0.95 * len(times)) - 1)]


def status_of(page):
    return page.locator("[role=status][aria-live=polite]").last


def test_notebook_00_runs_and_its_panel_answers_refuses_and_resets(run_all):
    page = run_all("00_start_here.ipynb").page
    box, ask = page.locator(".widget-textarea textarea").last, page.get_by_role("button", name="Ask the model")
    example = box.input_value()
    sync_api.expect(status_of(page)).to_have_text("Press the button to ask.")
    box.fill("")
    ask.click()
    sync_api.expect(status_of(page)).to_contain_text("ticket: expected what a customer wrote, got an empty text")
    box.fill("<img src=x onerror=\"document.title='hit'\"> my lamp A-1 broke")
    ask.click()
    sync_api.expect(status_of(page)).to_contain_text("JSON", timeout=180_000)
    assert page.title() != "hit"
    page.get_by_role("button", name="Reset").click()
    sync_api.expect(box).to_have_value(example)
    sync_api.expect(status_of(page)).to_have_text("Press the button to ask.")


def test_training_panel_shows_bar_sentence_and_curve(run_all):
    page = run_all("training_panel.ipynb").page
    sync_api.expect(status_of(page)).to_contain_text("Step 3 of 3: loss 2.500 at step 1, 0.500 at step 3")
    bar = page.locator(".progress-bar, .widget-progress [role=progressbar]").first
    sync_api.expect(bar).to_be_visible()
    picture = page.locator("img.widget-image").last
    width = picture.evaluate("image => image.decode().then(() => image.naturalWidth)")
    assert width > 500


def test_swap_panel_asks_by_keyboard_keeps_the_answers_and_resets(run_all):
    page = run_all("swap_panel.ipynb").page
    ask, choice = page.get_by_role("button", name="Ask", exact=True), page.locator(".widget-dropdown select")
    start = status_of(page).inner_text()
    ask.focus()
    page.keyboard.press("Enter")
    sync_api.expect(status_of(page)).to_contain_text("tickets answered in")
    choice.select_option("plain style")
    ask.focus()
    page.keyboard.press("Enter")
    sync_api.expect(status_of(page)).to_contain_text("plain style answered in")
    cells = page.get_by_role("cell", name="says <b>my lamp broke</b>")
    sync_api.expect(cells).to_have_count(2)  # as text, not as markup
    page.get_by_role("button", name="Reset", exact=True).click()
    sync_api.expect(cells).to_have_count(0)
    sync_api.expect(status_of(page)).to_have_text(start)


def test_upload_panel_reads_a_file_of_the_learners_disk_refuses_another_and_resets(run_all, tmp_path):
    notebook = run_all("upload_panel.ipynb")
    page = notebook.page
    start = status_of(page).inner_text()
    good, bad = tmp_path / "mine.jsonl", tmp_path / "photo.json"
    good.write_text(
        '{"instruction": "<img src=x onerror=\\"document.title=1\\"> hello?", "output": "Hello, how are you?"}\n{"cut'
    )
    bad.write_bytes(b"\x89PNG\r\n\x1a\n")
    wanted = "mine.jsonl: alpaca, 2 rows in = 1 converted to messages + 1 unreadable + 0 refused"
    for file, said in ((good, wanted), (bad, "got a PNG picture"), (good, wanted)):
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Choose a file").click()
        chooser.value.set_files(file)
        sync_api.expect(status_of(page)).to_contain_text(said)
    sync_api.expect(page.get_by_role("cell", name="unreadable", exact=True)).to_be_visible()
    assert page.title() != "1"
    page.get_by_role("button", name="Save converted rows").click()
    sync_api.expect(status_of(page)).to_contain_text("1 rows saved")
    assert notebook.ask("panel.saved.read_text()").startswith('{"messages": [{"role": "user"')
    page.get_by_role("button", name="Reset").click()
    sync_api.expect(status_of(page)).to_have_text(start)


def test_blind_votes_are_counted_and_revealed_by_keyboard(panel):
    if "blind" not in panel.controls:
        pytest.skip("nothing is voted on in this panel")
    panel.press("reset", "Enter")
    panel.press("blind", "Space")
    panel.expect_settled(blind=True, ticket=1)
    status, last = panel.root.get_by_role("status").first, panel.controls["ticket"][4]
    sync_api.expect(panel.root.locator("th", has_text="tuned")).to_have_count(0)
    for place in range(1, last + 1):
        panel.press("second" if place == 1 else "first", "Enter")
        panel.expect_settled(ticket=min(place + 1, last))
    sync_api.expect(status).to_contain_text(f"{last} of {last} voted on")
    panel.press("reveal", "Enter")
    wins = panel.notebook.ask("(panel.result.wins, panel.result.losses, sum(panel.dealt[1:]) + (not panel.dealt[0]))")
    assert wins[0] == wins[2] and sum(wins[:2]) == last
    sync_api.expect(status).to_contain_text(f"{wins[0]} votes for the tuned model, {wins[1]} for the base model")
    panel.press("reset", "Enter")
    panel.expect_settled(blind=False, ticket=1)


def test_every_control_goes_to_both_ends_and_back_by_keyboard(panel):
    panel.press("reset", "Enter")
    start = panel.values()
    for name, (kind, _, _, low, high) in panel.controls.items():
        if kind == "Button":
            continue
        ends = (("Space", not start[name]), ("Space", start[name])) if kind == "Checkbox" else (("Home", low), ("End", high))
        for key, value in ends:
            panel.press(name, key)
            panel.expect_settled(**{name: value})
        panel.press("reset", "Enter")
        panel.expect_settled(**start)


def test_tab_goes_through_the_controls_in_the_order_they_are_shown(panel):
    first, *others = [n for n in panel.controls if n != "reset"] + ["reset"]
    panel.handle(first).focus()
    reached, wanted = [], {name: panel.handle(name).element_handle() for name in others}
    for _ in range(3 * len(panel.controls)):
        panel.page.keyboard.press("Tab")
        reached += [n for n, element in wanted.items() if element.evaluate("e => e === document.activeElement")]
    assert set(reached) == set(others)


def test_a_burst_of_keys_ends_at_the_last_value(panel):
    panel.press("reset", "Enter")
    sliders = [name for name, (kind, *_) in panel.controls.items() if "Slider" in kind]
    for name in sliders:
        panel.press(name, "Home", *["ArrowRight"] * 9, *["ArrowLeft"] * 5)
    panel.press(sliders[0], "End", "ArrowLeft", "ArrowLeft", "ArrowRight")
    end = panel.handle(sliders[0]).get_attribute("aria-valuetext")
    time.sleep(0.5)
    panel.expect_settled(**panel.values())
    value = panel.values()[sliders[0]]
    assert panel.handle(sliders[0]).get_attribute("aria-valuetext") == end
    panel.press(sliders[0], "ArrowRight")
    panel.expect_settled(**{sliders[0]: panel.controls[sliders[0]][4]})
    assert value != panel.controls[sliders[0]][4]
    panel.press("reset", "Enter")


def test_button_for_costly_work_says_that_it_works_and_how_it_ended(panel):
    if not panel.case.slow:
        pytest.skip("this panel has none")
    for name, ending in panel.case.slow:
        panel.press(name, "Enter")
        sync_api.expect(panel.root.get_by_role("status").last).to_contain_text(ending, timeout=120_000)
        sync_api.expect(panel.handle(name)).to_be_enabled()
    panel.press("reset", "Enter")


def test_keys_redraw_quickly(panel, latencies):
    panel.press("reset", "Enter")
    panel.expect_settled()
    panel.root.evaluate(WATCH)
    for name, (kind, *_) in panel.controls.items():
        keys = {"Checkbox": ["Space"] * 6, "Dropdown": ["End", "Home"] * 3}.get(kind)  # JupyterLab takes the arrows
        if "Slider" in kind:
            keys = ["Home", *["ArrowRight"] * 8, *["ArrowLeft"] * 7]  # there and back: some have few steps
        times = [t for key in keys or [] if (t := panel.timed(name, key)) is not None]
        if times:
            latencies[(panel.case.notebook, panel.case.panel, name)] = times
        panel.press("reset", "Enter")
        panel.expect_settled()
    mine = [t for (notebook, name, _), times in latencies.items() for t in times
            if (notebook, name) == (panel.case.notebook, panel.case.panel)]  # fmt: skip
    assert len(mine) >= 15 and p95(mine) <= SLOWEST_MS, sorted(mine)
