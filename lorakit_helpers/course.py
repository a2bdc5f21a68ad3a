"""Run the course's notebooks top to bottom and leave executed copies in ``build/``; :mod:`lorakit_helpers.site` shows them."""

import copy
import json
import os
import re
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from .errors import LorakitError
from .files import atomic_write_text, fingerprint, project_root, sha256_of
from .lessons import LESSONS

__all__ = [
    "NotebookRun", "fill_solutions", "find_notebooks", "run_again", "run_notebook", "run_notebooks", "stale", "widget_errors",
]  # fmt: skip

#: Inputs every notebook depends on; a change in any of them makes its executed copy stale. The glossary is none of them.
_INPUTS = ("lorakit_helpers/**/*.py", "data/*/**/*.json*", "requirements/*.lock", "notebooks/solutions/*.py")


@dataclass(frozen=True)
class NotebookRun:
    """One executed notebook.

    Attributes:
        name: file name without ending.
        seconds: run time; 0 when the copy in ``build/`` was up to date.
        executed: the executed notebook.
        fresh: whether it was run now.
    """

    name: str
    seconds: float
    executed: Path
    fresh: bool


def find_notebooks(names=(), root: Path | None = None) -> list[Path]:
    """The notebooks called ``names`` (``07``, ``07_train_with_qlora`` or a path), or all, in order.

    Raises:
        LorakitError: when a name fits none of them.
    """
    every = sorted((root or project_root()).glob("notebooks/[0-9][0-9]_*.ipynb"))
    chosen = []
    for name in names:
        stem = Path(name).stem
        fits = [path for path in every if path.stem == stem or path.stem.startswith(stem + "_")]
        if len(fits) != 1:
            raise LorakitError(
                "notebook", got=repr(str(name)), expected="one of " + ", ".join(path.stem for path in every),
                do="The number alone is enough, for example 07.",
            )  # fmt: skip
        chosen += fits
    return sorted(set(chosen)) if names else every


def fill_solutions(notebook, solutions: str):
    """Put each ``# %% [ex:ID]`` block of ``solutions`` into the cell whose ``metadata.exercise`` is that ID.

    Raises:
        LorakitError: when the two sets of IDs differ.
    """
    blocks = dict(re.findall(r"^# %% \[ex:([\w.]+)\]\n(.*?)(?=^# %%|\Z)", solutions, re.S | re.M))
    cells = {c.metadata["exercise"]: c for c in notebook.cells if c.metadata.get("exercise")}
    if set(blocks) != set(cells):
        raise LorakitError(
            "exercise ids", got=f"{sorted(blocks)} in the solutions", expected=f"{sorted(cells)} as in the notebook",
            do="Add the missing solution or remove the extra one.",
        )  # fmt: skip
    for identifier, cell in cells.items():
        cell.source = blocks[identifier].rstrip()
    return notebook


def run_again(notebook):
    """Append every cell once more, for a second Run All in the same kernel (the setting of ``parameters`` stays).

    Example:
        >>> import nbformat
        >>> cells = [nbformat.v4.new_code_cell("PROFILE = 1"), nbformat.v4.new_code_cell("print(PROFILE)")]
        >>> cells[0].metadata["tags"] = ["parameters"]
        >>> [cell.source for cell in run_again(nbformat.v4.new_notebook(cells=cells)).cells]
        ['PROFILE = 1', 'print(PROFILE)', 'print(PROFILE)']
    """
    again = [copy.deepcopy(c) for c in notebook.cells if "parameters" not in c.metadata.get("tags", [])]
    for i, cell in enumerate(again):
        cell["id"] = f"again-{i}"
    notebook.cells = [*notebook.cells, *again]
    return notebook


def _input_key(path: Path, profile: str, strict: bool, root: Path) -> str:
    files = [path, *(p for pattern in _INPUTS for p in sorted(root.glob(pattern)))]
    return fingerprint([profile, strict, [(str(p.relative_to(root)), sha256_of(p)) for p in files]])


def stale(path: Path, profile: str, build: Path, *, strict: bool = False, root: Path | None = None) -> bool:
    """Whether the executed copy in ``build`` is missing or older than what it depends on."""
    root = root or project_root()
    stamp = build / "stamps" / f"{path.stem}.json"
    try:
        key = json.loads(stamp.read_text(encoding="utf-8"))["key"]
    except (OSError, ValueError, KeyError):
        return True
    return key != _input_key(path, profile, strict, root) or not (build / "notebooks" / path.name).is_file()


def run_notebook(
    path: Path, profile: str, build: Path, *, strict: bool = False, force: bool = False, twice: bool = False,
    threads: int | None = None, progress_bar: bool = True, root=None,
) -> NotebookRun:  # fmt: skip
    """Execute one notebook with papermill unless its copy is up to date.

    Args:
        path: the notebook.
        profile: passed to its ``parameters`` cell.
        build: folder for ``notebooks/`` and ``stamps/``.
        strict: fill in the solutions and let a wrong exercise stop the run.
        force: run even when up to date.
        twice: run all cells a second time in the same kernel; always run, and never taken as up to date.
        threads: for the libraries' arithmetic; None leaves it to them. Sums depend on it in the last bits.
        progress_bar: whether cells are counted on the terminal.

    Raises:
        LorakitError: naming the cell that failed, with the place of the partly executed copy.
    """
    import nbformat
    import papermill
    from nbclient.exceptions import DeadKernelError

    root = root or project_root()
    executed = build / "notebooks" / path.name
    if not force and not twice and not stale(path, profile, build, strict=strict, root=root):
        return NotebookRun(path.stem, 0.0, executed, False)
    key = _input_key(path, profile, strict, root)
    notebook = nbformat.read(path, as_version=4)
    solutions = path.parent / "solutions" / f"{path.stem[:2]}.py"
    if strict and solutions.is_file():
        notebook = fill_solutions(notebook, solutions.read_text(encoding="utf-8"))
    if twice:
        notebook = run_again(notebook)
    source = build / "source" / path.name
    atomic_write_text(source, nbformat.writes(notebook))
    executed.parent.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    settings = {"LORAKIT_STRICT": "1" if strict else "", "PYTHONWARNINGS": "ignore", "LORAKIT_HOME": str(root)}
    settings |= {"OMP_NUM_THREADS": str(threads)} if threads else {}
    with _environment(**settings, LORAKIT_PROGRESS="off"):  # nobody answers the exercises here
        try:
            papermill.execute_notebook(
                str(source), str(executed), parameters={"PROFILE": profile}, cwd=str(path.parent), kernel_name="python3",
                progress_bar=progress_bar, log_output=False,
                extra_arguments=["--IPKernelApp.log_level=ERROR"],  # else each warns of unencrypted 127.0.0.1
            )  # fmt: skip
        except papermill.PapermillExecutionError as error:
            lines = [line for line in str(error.evalue).splitlines() if line.strip()]
            raise LorakitError(
                f"{path.stem}, cell {error.cell_index}", got=f"{error.ename}: {lines[0] if lines else ''}",
                expected="every cell to run", do=f"See {executed} for the whole traceback.",
            ) from error  # fmt: skip
        except DeadKernelError as error:
            raise LorakitError(
                path.stem, got="a kernel that died", expected="every cell to run",
                do="Most often memory ran out: close other programs and run it again; training resumes from its checkpoint.",
            ) from error  # fmt: skip
    done = nbformat.read(executed, as_version=4)
    hidden = widget_errors(done)
    if hidden:
        raise LorakitError(f"{path.stem}", got=f"an error inside a panel: {hidden[0]}", expected="none", do=f"See {executed}.")
    stamp = build / "stamps" / f"{path.stem}.json"
    if twice:
        stamp.unlink(missing_ok=True)
    else:
        atomic_write_text(stamp, json.dumps({"key": key, "profile": profile, "threads": threads}))
    return NotebookRun(path.stem, time.perf_counter() - start, executed, True)


def run_notebooks(paths: list[Path], build: Path, *, jobs: int = 1, uses=None, tell=print, **options) -> list[NotebookRun]:
    """Run notebooks one after the other, or up to ``jobs`` at a time, each after the one whose result it shows.

    Args:
        paths: the notebooks, in order.
        build: as for :func:`run_notebook`.
        jobs: how many at once; each then has its share of the cores.
        uses: stem of a notebook to the number of the one it waits for; as in :mod:`lorakit_helpers.lessons` by default.
        tell: called with a line when a notebook begins and when it is done.
        options: for :func:`run_notebook`.

    Raises:
        LorakitError: the first problem; no other notebook is begun after it, and those under way end first.
    """
    uses = {lesson.stem: lesson.uses for lesson in LESSONS} if uses is None else uses
    done: list[NotebookRun] = []

    def begin(path, place):
        tell(f"[{place}/{len(paths)}] {path.stem}")

    def end(run, name=""):
        done.append(run)
        tell(f"    {name}{f'{run.seconds:.0f} s' if run.fresh else 'up to date'}: {run.executed}")

    if jobs <= 1:
        for place, path in enumerate(paths, 1):
            begin(path, place)
            end(run_notebook(path, build=build, **options))
        return done
    options |= {"threads": max(1, (os.cpu_count() or 1) // jobs), "progress_bar": False}
    waiting, problem, running = _most_used_first(paths, uses), None, {}
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        while (waiting and problem is None) or running:
            for path in waiting[:] if problem is None else ():
                held = any(p.stem[:2] == uses.get(path.stem) for p in [*waiting, *running.values()])
                if not held and len(running) < jobs:
                    waiting.remove(path)
                    begin(path, len(paths) - len(waiting))
                    running[pool.submit(run_notebook, path, build=build, **options)] = path
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = f"{running.pop(future).stem}, "
                if future.exception() is None:
                    end(future.result(), name)
                else:
                    problem = problem or future.exception()
    if problem is not None:
        raise problem
    return done


def _most_used_first(paths: list[Path], uses: dict) -> list[Path]:
    """Those that others wait for, then the long ones, so that no core is idle at the end; the closing lesson sums up, last."""
    minutes, closing = {lesson.stem: lesson.minutes for lesson in LESSONS}, LESSONS[-1].stem
    return sorted(
        paths, key=lambda path: (path.stem[:2] not in uses.values(), path.stem == closing, -minutes.get(path.stem, 0))
    )


def widget_errors(notebook) -> list[str]:
    """Errors that happened inside widget outputs, which papermill and nbconvert pass over in silence."""
    states = notebook.metadata.get("widgets", {}).get("application/vnd.jupyter.widget-state+json", {}).get("state", {})
    outputs = [o for state in states.values() for o in state.get("state", {}).get("outputs", []) or []]
    return [f"{o.get('ename')}: {o.get('evalue')}" for o in outputs if o.get("output_type") == "error"]


class _environment:
    """Set environment variables for a block (the kernel inherits them), then put the old ones back."""

    def __init__(self, **values):
        self.values = values

    def __enter__(self):
        self.old = {name: os.environ.get(name) for name in self.values}
        os.environ.update(self.values)

    def __exit__(self, *_):
        for name, value in self.old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
