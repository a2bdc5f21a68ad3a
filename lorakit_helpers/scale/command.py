"""``lorakit train RECIPE.yaml``: notebook 07 without a notebook. Results as JSON lines, words for people on stderr.

Exit codes: 0 done, 1 a problem said in one sentence, 2 wrong usage, 3 it would not fit in memory, 130 interrupted
(SIGINT or SIGTERM: a checkpoint is kept, and the same command goes on from it).
"""

import gc
import json
import math
import os
import signal
import sys
import time
from contextlib import redirect_stdout, suppress
from pathlib import Path

from ..errors import LorakitError
from .job import Job, read_job, write_job
from .plan import JobPlan, TooLargeError, plan_job

__all__ = ["EXIT_TOO_LARGE", "add_train_arguments"]

EXIT_TOO_LARGE = 3


def add_train_arguments(parser) -> None:
    """The options of ``lorakit train``, for an argparse parser."""
    parser.add_argument("job_file", metavar="RECIPE.yaml", help="the job: model, data, recipe, output folder")
    parser.add_argument("--check", action="store_true", help="say what would happen, and train nothing")
    parser.add_argument("--log", metavar="FILE", help="append the JSON lines to FILE (default: standard output)")
    parser.add_argument("--fresh", action="store_true", help="start from nothing, even where a checkpoint was left")
    parser.add_argument("--script", metavar="FOLDER", help="write a stand-alone train.py for it instead of training")
    parser.add_argument("--processes", type=int, metavar="N", help="how many processes --script is for (default 2)")
    parser.epilog = (
        "exit codes: 0 done, 1 a problem (said in one sentence), 2 wrong usage, 3 it would not fit in memory, "
        "130 interrupted (a checkpoint is kept; the same command goes on from it)"
    )
    parser.set_defaults(call=_train)


def _train(options) -> int:
    if options.processes is not None and not options.script:
        raise LorakitError("--processes", got="no --script", expected="both", do="Add --script FOLDER.")
    job = read_job(options.job_file)
    with _Events(options.log) as tell:
        try:
            with redirect_stdout(sys.stderr):  # libraries print to standard output, where the JSON lines go
                _run(job, options, tell)
        except TooLargeError as error:
            tell("error", kind="memory", message=str(error))
            print(f"lorakit: {error}", file=sys.stderr)
            return EXIT_TOO_LARGE
        except LorakitError as error:
            tell("error", kind="problem", message=str(error))
            raise
    return 0


def _run(job: Job, options, tell) -> None:
    from ..start import start

    _say(f"{job}")
    with suppress(LorakitError):  # quiets the libraries; which profile holds, the job says
        start()
    if options.script:
        from .script import write_script

        folder = write_script(job, options.script, processes=options.processes or 2)
        tell("script", folder=str(folder))
        _say(f"{folder}: see README.md there for the commands that start it.")
        return
    with _Interruption() as interruption:
        plan = plan_job(job, log=_say)
        for warning in plan.warnings:
            _say(f"warning: {warning}")
        tell("plan", job=job.to_dict(), **plan.to_dict())
        _say(f"{plan}")
        if not options.check:
            _fit(job, plan, tell, interruption, fresh=options.fresh)


def _fit(job: Job, plan: JobPlan, tell, interruption, *, fresh: bool) -> None:
    """Train, measure, save; a finished adapter of the same job is left as it is."""
    from ..adapters import saved_key
    from ..training import last_checkpoint, run_folder, train

    runs = checkpoints_folder(job)
    folder = run_folder(runs, job.recipe, plan.rows, plan.base, job.engine)
    if saved_key(job.output) == folder.name and not fresh:
        tell("done", output=job.output, trained=False)
        _say(f"{job.output} is this job's adapter already; --fresh trains it again.")
        return
    found = None if fresh else last_checkpoint(folder)
    tell("start", resumed_from=int(found.name.split("-")[1]) if found else 0)
    try:
        run = train(
            job.recipe, plan.rows, plan.base, engine=job.engine, output_dir=runs, resume=not fresh,
            listeners=[_Steps(tell)], callbacks=[interruption.callback()],
        )  # fmt: skip
    except KeyboardInterrupt:
        left = last_checkpoint(folder)
        tell("interrupted", checkpoint=str(left) if left else None)
        raise
    run.save(job.output)  # before anything else can fail: its checkpoints are gone
    write_job(job, Path(job.output) / "job.yaml")
    held_out = _measured(run, plan, tell)
    _findings(job, run, held_out, tell)
    with suppress(OSError):
        runs.rmdir()  # empty now, unless another run left a checkpoint there
    size = (Path(job.output) / "adapter_model.safetensors").stat().st_size
    tell("done", output=job.output, trained=True, adapter_mib=round(size / 2**20, 2), **_totals(run))
    _say(f"{job.output}: {size / 2**20:.1f} MiB after {run.log.step} steps in {run.log.seconds:.0f} s")


def checkpoints_folder(job: Job) -> Path:
    """Where a job's checkpoints lie until it is done: beside the output."""
    return Path(job.output).with_name(Path(job.output).name + ".checkpoints")


def _totals(run) -> dict:
    log = run.log
    return {
        "steps": log.step, "loss": log.losses[-1] if log.losses else None, "tokens": log.tokens,
        "seconds": round(log.seconds, 3), "peak_gib": round(log.peak_gib, 3), "resumed_from": run.resumed_from,
    }  # fmt: skip


def _measured(run, plan: JobPlan, tell) -> list[tuple[int, float]]:
    """The loss on the validation rows after training, as (step, loss) pairs."""
    if not plan.validation:
        return []
    from ..evaluation import completion_loss

    gc.collect()
    found = completion_loss(run.model, run.tokenizer, plan.validation)
    tell("validation", step=run.log.step, loss=found.loss, tokens=found.tokens, rows=len(plan.validation))
    _say(f"validation: {found}")
    return [(run.log.step, found.loss)]


def _findings(job: Job, run, held_out, tell) -> None:
    """What the rules of notebook 11 say of the run."""
    from ..diagnosis import RunRecord, diagnose

    for finding in diagnose(RunRecord.from_log(run.log, recipe=job.recipe, validation=held_out)):
        tell("finding", text=str(finding))
        _say(str(finding))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class _Steps:
    """Listens to a TrainingLog: one JSON line for every logged point that is new."""

    def __init__(self, tell):
        self.tell, self.points = tell, None

    def __call__(self, log):
        if self.points is None:
            self.points = len(log.steps)  # what a checkpoint remembers was told before
        for i in range(self.points, len(log.steps)):
            self.tell(
                "step", step=log.steps[i], max_steps=log.max_steps, loss=log.losses[i], learning_rate=log.learning_rates[i],
                tokens=log.tokens, seconds=round(log.seconds, 3), peak_gib=round(log.peak_gib, 3),
            )  # fmt: skip
        self.points = len(log.steps)


class _Events:
    """JSON lines, one object a line, to a file or to what is standard output now."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.out = sys.stdout
        if self.path:
            try:
                Path(self.path).parent.mkdir(parents=True, exist_ok=True)
                self.out = open(self.path, "a", encoding="utf-8")
            except OSError as error:
                raise LorakitError(
                    f"--log {self.path}", got=error.strerror, expected="a file that can be written", do="Choose another."
                ) from error
        return self

    def __exit__(self, *_):
        if self.path:
            self.out.close()

    def __call__(self, event: str, **facts) -> None:
        known = {name: None if isinstance(fact, float) and not math.isfinite(fact) else fact for name, fact in facts.items()}
        line = {"event": event, "time": round(time.time(), 3)} | known
        try:
            print(json.dumps(line, ensure_ascii=False, default=str), file=self.out, flush=True)
        except BrokenPipeError:  # the reader has left; the training goes on
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.out.fileno())


class _Interruption:
    """SIGINT and SIGTERM: before training and at the second time, stop now; while training, after the step and a checkpoint."""

    def __init__(self):
        self.asked, self.training, self.before = False, False, {}

    def __enter__(self):
        with suppress(ValueError):  # not in the main thread: the caller's handlers stay
            self.before = {number: signal.signal(number, self._told) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_):
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _told(self, number, frame):
        if self.asked or not self.training:
            raise KeyboardInterrupt
        self.asked = True
        _say("Stopping after this step, with a checkpoint. Once more stops at once.")

    def callback(self):
        """For the trainer."""
        from transformers import TrainerCallback

        outer = self

        class StopWithCheckpoint(TrainerCallback):
            def on_train_begin(self, args, state, control, **kwargs):
                outer.training = True

            def on_train_end(self, args, state, control, **kwargs):
                outer.training = False

            def on_step_end(self, args, state, control, **kwargs):
                if outer.asked and state.global_step < state.max_steps:
                    control.should_save = control.should_training_stop = True

            def on_save(self, args, state, control, **kwargs):
                if outer.asked and state.global_step < state.max_steps:
                    raise KeyboardInterrupt

        return StopWithCheckpoint()
