"""A job's base model, looked at before it is downloaded: is it there, may it be read, does it fit the disk."""

from pathlib import Path

from ..errors import LorakitError
from ..hub import check_hub_model
from ..models import base_model
from ..profiles import SMALL_MODEL, get_profile
from .job import Job

__all__ = ["find_base"]


def find_base(job: Job, *, log=print) -> str:
    """The folder or Hub name of a job's base model, checked; the course's own small model is fetched when it is missing.

    Args:
        job: whose ``base``, else whose profile's model, is looked for.
        log: called with one line of text per step.

    Raises:
        LorakitError: when the folder holds no safetensors model, or as :func:`lorakit_helpers.hub.check_hub_model`.
    """
    name = job.base or get_profile(job.profile).model_id
    if name == SMALL_MODEL:
        return base_model(log=log).path
    folder = Path(name).expanduser()
    if not folder.exists():
        check_hub_model(name)
        return name
    for wanted in ("config.json", "*.safetensors", "tokenizer_config.json"):
        if not any(folder.glob(wanted)):
            raise LorakitError(
                f"base model {name}", got=f"no {wanted} in that folder",
                expected="a model saved by save_pretrained, as safetensors",
                do="Check the path, or use a model's name on the Hub.",
            )  # fmt: skip
    return str(folder)
