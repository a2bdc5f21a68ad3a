"""What accelerate makes of a configuration: its loader, its launcher's environment, and its plugin objects."""

import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import LorakitError

__all__ = ["CheckedConfig", "check_config"]


@dataclass(frozen=True)
class CheckedConfig:
    """A configuration as accelerate understood it.

    Attributes:
        kind: "FSDP" or "DEEPSPEED".
        processes: how many would be started.
        environment: the variables accelerate's launcher would hand to them (``FSDP_…``, ``ACCELERATE_…``).
        plugin: accelerate's ``FullyShardedDataParallelPlugin`` or ``DeepSpeedPlugin`` made from those.
        not_checked: what needs a GPU or DeepSpeed itself.
    """

    kind: str
    processes: int
    environment: dict[str, str]
    plugin: object
    not_checked: tuple[str, ...]

    def __str__(self):
        return f"{self.kind}, {self.processes} processes, {len(self.environment)} variables; {'; '.join(self.not_checked)}"


def check_config(folder) -> CheckedConfig:
    """Read ``accelerate.yaml`` in ``folder`` as ``accelerate launch`` would, up to the point where a GPU is needed.

    Raises:
        LorakitError: when accelerate refuses the file, with its words.
    """
    folder = Path(folder)
    try:
        with _here(folder):
            return _check(folder / "accelerate.yaml")
    except LorakitError:
        raise
    except (Exception, SystemExit) as error:  # argparse leaves by SystemExit
        raise LorakitError(
            f"configuration in {folder}", got=" ".join(str(error).split())[:300],
            expected="files that accelerate accepts", do="Make it anew with write_config.",
        ) from error  # fmt: skip


def _check(path) -> CheckedConfig:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser

    loaded = load_config_from_file(str(path))
    kind = loaded.distributed_type.value
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "--main_process_port", "0", "train.py"])
    arguments, defaults, _ = _validate_launch_command(arguments)
    make = {"FSDP": _fsdp, "DEEPSPEED": _deepspeed}.get(kind)
    if make is None:
        raise LorakitError("distributed_type", got=kind, expected="FSDP or DEEPSPEED", do="Make it anew with write_config.")
    environment, plugin, left = make(arguments, defaults)
    told = {name: value for name, value in environment.items() if name.startswith(("FSDP_", "ACCELERATE_"))}
    return CheckedConfig(kind, loaded.num_processes, told, plugin, left)


def _fsdp(arguments, _):
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.launch import prepare_multi_gpu_env

    environment = prepare_multi_gpu_env(arguments)
    seen, left = dict(environment), ["not run on a GPU"]
    if seen["FSDP_VERSION"] == "1" and not _has_device():  # version 1 asks for the device right away
        seen |= {"FSDP_SYNC_MODULE_STATES": "false", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false"}
        left.append("sync_module_states needs a GPU to be checked")
    with _variables(seen):
        return environment, FullyShardedDataParallelPlugin(), tuple(left)


def _deepspeed(arguments, defaults):
    from accelerate.utils import DeepSpeedPlugin, is_deepspeed_available
    from accelerate.utils.launch import prepare_deepspeed_cmd_env

    arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)  # as accelerate's launch_command
    _, environment = prepare_deepspeed_cmd_env(arguments)
    with _variables(environment):
        plugin = DeepSpeedPlugin()
    left = ("not run on a GPU",) + (() if is_deepspeed_available() else ("DeepSpeed is not installed here",))
    return environment, plugin, left


def _has_device() -> bool:
    import torch

    return torch.cuda.is_available()


@contextmanager
def _variables(values):
    """The environment, for a while, as the launcher would set it."""
    before = dict(os.environ)
    try:
        os.environ.update({k: v for k, v in values.items() if k.startswith(("FSDP_", "ACCELERATE_"))})
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _here(folder):
    """Relative names in the configuration count from its folder, as they do for the launch command."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
