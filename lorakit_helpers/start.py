"""The first cell of every notebook: quiet libraries, one profile, and what it means here."""

import logging
import os
import warnings

from .files import project_root
from .hardware import ProfileChoice, current_profile

__all__ = ["outputs_dir", "start"]

_QUIET = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "UNSLOTH_DISABLE_STATISTICS": "1",
    "BITSANDBYTES_NOWELCOME": "1",
    "KINETO_LOG_LEVEL": "99",  # torch's profiler writes a line at every start and stop
    "THP_MEM_ALLOC_ENABLE": "1",  # torch: large tensors in huge pages, which lowers peak memory on a CPU
    "MPLBACKEND": "agg",
}


def start(profile: str = "auto") -> ProfileChoice:
    """Choose the profile and quiet the libraries; call it before anything imports torch.

    Args:
        profile: ``auto``, or a profile by name; ``LORAKIT_PROFILE`` overrides ``auto``.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    # bitsandbytes reports an optional kernel that is not installed; its own code is used instead
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    global _started
    _started = current_profile(profile)
    return _started


_started: ProfileChoice | None = None


def outputs_dir(choice: ProfileChoice | None = None):
    """Where a profile's results go: ``outputs/``, or ``outputs/smoke/`` so that a quick check never replaces them.

    Args:
        choice: of which profile; by default the one :func:`start` chose last, or would choose.
    """
    choice = choice or _started or current_profile()
    root = project_root() / "outputs"
    return root / "smoke" if choice.profile.name == "smoke" else root
