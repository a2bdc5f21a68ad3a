"""The child process of :func:`~lorakit_helpers.export.serving.serve`: llama.cpp's own server, for as long as the parent lives.

A process of its own, because llama.cpp aborts on a broken file, and because a server in the kernel would not end with a cell.
"""

import argparse
import faulthandler
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

__all__ = ["main"]

LOCALHOST = "127.0.0.1"


def main(arguments=None) -> None:
    """Load, listen, write the address into a file, wait until the parent is gone.

    The parent holds the other end of this process' stdin, and is its parent process: when either is no longer so, the
    parent ended, however it ended.
    """
    parser = argparse.ArgumentParser(prog="python -m lorakit_helpers.export.serve")
    parser.add_argument("--model", required=True)
    parser.add_argument("--lora")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--context", type=int, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--reuse-prompts", action="store_true")
    parser.add_argument("--folder", required=True, help="of its own: the address goes there; removed at the end")
    given = parser.parse_args(arguments)
    parent = os.getppid()
    folder = Path(given.folder)
    threading.Thread(target=_leave_at_end_of_input, args=(folder,), daemon=True).start()
    try:
        server = _server(given)
    except RuntimeError as error:  # llama.cpp said more in the log before
        print(f"xllamacpp: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    part = folder / "ready.part"
    part.write_text(json.dumps({"address": server.listening_address}), encoding="utf-8")
    os.replace(part, folder / "ready")
    while os.getppid() == parent:
        time.sleep(0.2)
    _leave(folder)


def _leave_at_end_of_input(folder: Path) -> None:
    while os.read(0, 4096):  # not sys.stdin, whose lock would be in the way when the interpreter ends
        pass
    _leave(folder)


def _leave(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # a parent that was killed does not
    os._exit(0)  # at once: the server's destructor can wait for ever when it has just begun to listen


def _server(given):
    import xllamacpp

    faulthandler.disable()  # when llama.cpp aborts, its own last words are to be the log's last lines
    params = xllamacpp.CommonParams()
    params.model.path = given.model
    params.hostnames = [LOCALHOST]  # nobody outside this machine can reach it
    params.port = given.port
    params.reuse_port = False  # a port in use is an error, not shared
    params.n_ctx = given.context
    params.n_parallel = 1  # one request at a time has the whole context, and answers do not depend on others
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given.threads
    params.cache_prompt = given.reuse_prompts
    params.cache_ram_mib = 0
    params.ui = False
    params.cors_origins = f"http://{LOCALHOST}"  # pages of other sites, open in a browser here, may not ask it
    params.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE  # the text as it was written
    if given.lora:
        adapter = xllamacpp.CommonAdapterLoraInfo()
        adapter.path, adapter.scale = given.lora, 1.0
        params.lora_adapters = [adapter]
    return xllamacpp.Server(params)


if __name__ == "__main__":
    main()
