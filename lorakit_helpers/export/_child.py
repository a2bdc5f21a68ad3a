"""Starting, awaiting and ending the server's child process; never more than one reason for it to live on."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ..errors import LorakitError
from ..hardware import usable_cores

__all__ = ["SOURCE", "await_address", "check_port", "cores", "end", "how_it_ended", "last_lines", "start"]

SOURCE = str(Path(__file__).resolve().parent.parent.parent)


def start(arguments: list[str]):
    """Start :mod:`lorakit_helpers.export.serve`; the process, and the folder with its log and its ready file."""
    folder = Path(tempfile.mkdtemp(prefix="lorakit-serve-"))
    command = [sys.executable, "-m", "lorakit_helpers.export.serve", *arguments, "--folder", str(folder)]
    with (folder / "log").open("wb") as log:
        # a session of its own: the kernel's interrupt goes to the kernel's process group, and must not reach it
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=SOURCE, start_new_session=os.name == "posix"
        )  # fmt: skip
    return process, folder


def await_address(process, folder: Path, name: str, timeout: float) -> str:
    """The address the child listens on, once it does.

    Raises:
        LorakitError: when it ends or takes longer, with the last lines of its log.
    """
    ready, deadline = folder / "ready", time.monotonic() + timeout
    while not ready.is_file():
        late = time.monotonic() > deadline
        if late or process.poll() is not None:
            how = f"not ready within {timeout:g} s" if late else f"it ended while loading ({how_it_ended(process.poll())})"
            raise LorakitError(
                f"llama.cpp server of {name}", got=f"{how}; the end of its log:\n{last_lines(folder)}\n",
                expected="a running one", do="Allow more time." if late else "If the file is not whole, export it again.",
            )  # fmt: skip
        time.sleep(0.02)
    return json.loads(ready.read_text(encoding="utf-8"))["address"]


def last_lines(folder: Path, lines: int = 5) -> str:
    """The end of the log: what llama.cpp calls errors where there are any; empty when the log is gone."""
    try:
        said = (folder / "log").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    errors = [line for line in said if re.match(r"[\d.]+ E ", line)]
    return "\n".join((errors or [line for line in said if line.strip()])[-lines:])


def end(process, folder: Path) -> None:
    """Close its input (it leaves by itself), then terminate, then kill; interrupts do not keep it alive."""
    try:
        process.stdin.close()
        for ask in (lambda: None, process.terminate):
            ask()
            try:
                process.wait(2)
                break
            except subprocess.TimeoutExpired:
                continue
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def check_port(port) -> None:
    """Raise for a port that is none, or in use on 127.0.0.1."""
    if port is None:
        return
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise LorakitError("port", got=repr(port), expected="a number from 1 to 65535", do="Pass None for a free one.")
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does; still refuses a port in use
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise LorakitError(
                f"port {port}", got="in use" if error.errno != 13 else "not allowed", expected="a free port",
                do="Stop what listens there, or leave port out for a free one.",
            ) from error  # fmt: skip


def how_it_ended(code: int | None) -> str:
    """An exit code in words."""
    if code is None or code >= 0:
        return f"code {code}"
    return f"killed by {signal.Signals(-code).name}"


def cores() -> int:
    """How many this process may use, and not more than ``OMP_NUM_THREADS``: llama.cpp keeps a core busy while it waits."""
    there = usable_cores()
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(there, int(asked)) if asked.isdecimal() and int(asked) else there
