"""What this machine is, and which profile of the course fits it, each with its reason."""

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

from .errors import LorakitError
from .profiles import PROFILES, Profile, get_profile

__all__ = ["Hardware", "ProfileChoice", "choose_profile", "current_profile", "detect", "usable_cores", "why_no_gpu"]

GIB = 2**30
_BF16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True)
class Hardware:
    """One machine as the course sees it. Sizes are in GiB (2**30 bytes).

    Attributes:
        device: ``"cuda"`` or ``"cpu"``: where training runs.
        name: the GPU's or the processor's name.
        memory_total_gib, memory_free_gib: of the GPU for ``cuda`` (what this process holds of it counts as free), of the
            computer for ``cpu``.
        bf16: whether bfloat16 arithmetic is native (without it bf16 is emulated and slow).
        cores: processor cores this process may use.
        reasons: how each answer was found, for ``lorakit doctor``.
    """

    device: str
    name: str
    memory_total_gib: float
    memory_free_gib: float
    bf16: bool
    cores: int
    reasons: tuple[str, ...]

    def to_dict(self) -> dict:
        return asdict(self)

    def __str__(self):
        bf16 = "native bf16" if self.bf16 else "no native bf16"
        return (
            f"{self.device}: {self.name}, {self.memory_free_gib:.1f} of {self.memory_total_gib:.1f} GiB free, "
            f"{self.cores} cores, {bf16}"
        )


@dataclass(frozen=True)
class ProfileChoice:
    """A profile and the sentence that says why it was chosen."""

    profile: Profile
    reason: str

    def __str__(self):
        return f"profile {self.profile.name}: {self.reason}"


def detect() -> Hardware:
    """Look at this machine. Loads torch only where an NVIDIA driver is present."""
    if _nvidia_driver_present():
        gpu = _detect_cuda()
        if gpu:
            return gpu
    return _detect_cpu()


def _nvidia_driver_present() -> bool:
    return Path("/proc/driver/nvidia").exists() or Path("/dev/nvidia0").exists() or bool(_which("nvidia-smi"))


def _which(program):
    from shutil import which

    return which(program)


def _detect_cuda() -> Hardware | None:
    import torch

    if not torch.cuda.is_available():
        return None
    free, total = torch.cuda.mem_get_info()
    free += torch.cuda.memory_reserved()  # what this process holds is free to it: a notebook that runs again uses it again
    return Hardware(
        device="cuda",
        name=torch.cuda.get_device_name(),
        memory_total_gib=total / GIB,
        memory_free_gib=free / GIB,
        bf16=torch.cuda.is_bf16_supported(including_emulation=False),
        cores=usable_cores(),
        reasons=("device cuda: torch.cuda.is_available() is true", "memory: torch.cuda.mem_get_info(), ours counted as free"),
    )


def _detect_cpu() -> Hardware:
    import psutil

    memory = psutil.virtual_memory()
    total, free, limit = memory.total, memory.available, _cgroup_limit()
    if limit and limit < total:
        total, free = limit, min(free, limit - _cgroup_used())
    flags = _cpu_flags()
    found = sorted(flags & _BF16_FLAGS)
    return Hardware(
        device="cpu",
        name=_cpu_name(),
        memory_total_gib=total / GIB,
        memory_free_gib=max(0, free) / GIB,
        bf16=bool(found),
        cores=usable_cores(),
        reasons=(
            f"device cpu: {why_no_gpu()}",
            f"memory: {'the container limit' if limit == total else 'psutil.virtual_memory()'}",
            f"bf16: the processor reports {', '.join(found)}" if found else "bf16: no bf16 instructions reported",
        ),
    )


def why_no_gpu() -> str:
    """Why there is no CUDA device."""
    if not _nvidia_driver_present():
        return "no usable NVIDIA GPU was found"
    import torch

    if torch.version.cuda is None:
        return "no usable NVIDIA GPU: a driver is here, but this torch is a build for CPUs (README, Profiles)"
    return "no usable NVIDIA GPU: a driver is here, but torch cannot use it (run nvidia-smi to see why)"


def usable_cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cgroup_limit() -> int | None:
    try:
        text = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        return None if text == "max" else int(text)
    except (OSError, ValueError):
        return None


def _cgroup_used() -> int:
    """Bytes this container holds, without the file cache that can be dropped at once; 0 where nothing says it."""
    try:
        folder = Path("/sys/fs/cgroup")
        used = int((folder / "memory.current").read_text())
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return used - int(facts["inactive_file"])
    except (OSError, ValueError, KeyError):
        return 0


def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="ignore").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.lower().startswith(key)), "")


def _cpu_name() -> str:
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpu_flags() -> set[str]:
    return set((_cpuinfo("flags") or _cpuinfo("features")).lower().split())


def choose_profile(hardware: Hardware) -> ProfileChoice:
    """The profile with the largest model that fits ``hardware`` and leaves :data:`lorakit_helpers.fit.MARGIN_GIB` free.

    The whole card counts, not what is free of it, so that a second notebook gets the first one's profile.
    """
    if hardware.device != "cuda":
        return ProfileChoice(PROFILES["cpu"], why_no_gpu())
    from .fit import MARGIN_GIB, profile_fit

    total = hardware.memory_total_gib
    for profile in reversed([profile for profile in PROFILES.values() if profile.device == "cuda"]):
        fit = profile_fit(profile, total)
        if fit.room_gib >= MARGIN_GIB:
            return ProfileChoice(profile, f"{hardware.name} has {total:.1f} GiB, it needs {fit.needed_gib:.1f}")
    return ProfileChoice(PROFILES["cpu"], f"{hardware.name} has only {total:.1f} GiB; the small model of the cpu profile fits")


def current_profile(name: str = "auto") -> ProfileChoice:
    """The profile to use now: ``name``, else the environment's ``LORAKIT_PROFILE``, else what fits.

    Raises:
        LorakitError: for an unknown name, a GPU profile where there is no GPU, or one that does not fit the card or what
            is free of it; nothing has been loaded then.
    """
    asked = name if name != "auto" else (os.environ.get("LORAKIT_PROFILE") or "auto")
    if asked != "auto" and get_profile(asked).device == "cpu":
        return ProfileChoice(get_profile(asked), "asked for by name")
    hardware = detect()
    choice = choose_profile(hardware) if asked == "auto" else ProfileChoice(get_profile(asked), "asked for by name")
    if choice.profile.device == "cuda":
        _require(choice.profile, hardware)
    return choice


def _require(profile: Profile, hardware: Hardware) -> None:
    if hardware.device != "cuda":
        raise LorakitError(
            f"profile {profile.name}", got=why_no_gpu(), expected="a CUDA GPU that torch can use",
            do="Use --profile cpu here, or run this on the machine with the GPU.",
        )  # fmt: skip
    from .fit import require_fit

    require_fit(profile, hardware.name, hardware.memory_total_gib, hardware.memory_free_gib)
