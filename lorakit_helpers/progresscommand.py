"""``lorakit progress`` on the command line: how far the learner is, their certificate, beginning anew."""

from .errors import LorakitError
from .lessons import lesson_progress
from .progress import progress_path, read_progress, recording, reset_progress

__all__ = ["add_progress_arguments"]


def add_progress_arguments(parser) -> None:
    """The options of ``lorakit progress``, for an argparse parser."""
    parser.add_argument("--certificate", metavar="FILE.html", help="write your certificate of evidence as one HTML page")
    parser.add_argument("--name", default="", help="your name, for the certificate")
    parser.add_argument("--reset", action="store_true", help="begin anew; the old file is kept under another name")
    parser.set_defaults(call=_progress)


def _progress(options) -> int:
    if options.name and not options.certificate:
        raise LorakitError(
            "--name", got="no --certificate", expected="both", do="For example --certificate me.html --name Ada."
        )
    if options.reset and options.certificate:
        raise LorakitError("--reset", got="--certificate as well", expected="one of them", do="Write the certificate first.")
    if options.reset:
        kept = reset_progress()
        print(f"Progress begins anew; the old file is kept as {kept}" if kept else f"Nothing to reset: no {progress_path()}")
        return 0
    if not recording():
        raise LorakitError(
            "progress", got="switched off by LORAKIT_PROGRESS or LORAKIT_STRICT", expected="neither set", do="Unset them."
        )
    if options.certificate:
        from .certificate import write_certificate

        made = write_certificate(options.certificate, name=options.name)
        print(str(made) if made.file else "Nothing to certify yet: no exercise solved, no adapter, no report.")
        return 0 if made.file else 1
    progress = read_progress()
    for entry in lesson_progress(progress):
        print(f"{entry.lesson.stem:32} {entry.right} of {entry.exercises}  {entry.state}")
    print(" ".join([f"{progress}.", progress.note]).strip())
    return 0
