"""A job's base model, looked at before it is downloaded: is it there, may it be read, does it fit the disk."""

from pathlib import Path

from ..errors import LorakitError
from ..files import need_space
from ..hub import cached
from ..models import base_model
from ..profiles import SMALL_MODEL, get_profile
from .job import Job

__all__ = ["check_hub", "find_base"]

_WEIGHTS = "*.safetensors"
_ROOM = 1.05  # of the weights: tokenizer, configuration and the file system's own needs


def find_base(job: Job, *, log=print) -> str:
    """The folder or Hub name of a job's base model, checked; the course's own small model is fetched when it is missing.

    Args:
        job: whose ``base``, else whose profile's model, is looked for.
        log: called with one line of text per step.

    Raises:
        LorakitError: when the folder holds no safetensors model, or as :func:`check_hub`.
    """
    name = job.base or get_profile(job.profile).model_id
    if name == SMALL_MODEL:
        return base_model(log=log).path
    folder = Path(name).expanduser()
    if not folder.exists():
        check_hub(name)
        return name
    for wanted in ("config.json", _WEIGHTS, "tokenizer_config.json"):
        if not any(folder.glob(wanted)):
            raise LorakitError(
                f"base model {name}", got=f"no {wanted} in that folder",
                expected="a model saved by save_pretrained, as safetensors",
                do="Check the path, or use a model's name on the Hub.",
            )  # fmt: skip
    return str(folder)


def check_hub(name: str) -> None:
    """Ask the Hub about a model before it is downloaded; nothing is asked where it is in the cache already.

    Raises:
        LorakitError: when the Hub does not answer or does not know it, when it is gated and there is no token or no
            permission, when it has no safetensors, or when the disk has too little room for it.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if cached(name):
        return
    try:
        info = HfApi().model_info(name, files_metadata=True, timeout=10)
        if info.gated and not get_token():
            raise _gated(name, "no token on this machine")
        if info.gated:
            HfApi().auth_check(name)
    except GatedRepoError as error:
        raise _gated(name, "a token whose owner has not been given access") from error
    except RepositoryNotFoundError as error:
        raise LorakitError(
            f"base model {name}", got="no such folder here, and no such model on the Hub (or a private one)",
            expected="a model's folder or Hub name", do="Check the spelling; for a private model run `hf auth login` first.",
        ) from error  # fmt: skip
    except LorakitError:
        raise
    except (HfHubHTTPError, OSError, RuntimeError, ValueError) as error:
        raise _unreachable(name, error) from error
    except Exception as error:  # the HTTP client's own errors share no base class with OSError
        if "http" not in type(error).__module__:
            raise
        raise _unreachable(name, error) from error
    size = sum(file.size or 0 for file in info.siblings if Path(file.rfilename).match(_WEIGHTS))
    if not size:
        raise LorakitError(
            f"base model {name}", got="no safetensors there", expected="weights as safetensors, which hold no code",
            do="Choose another repository of this model.",
        )  # fmt: skip
    need_space(constants.HF_HUB_CACHE, _ROOM * size / 2**30, name, variable="HF_HOME")


def _gated(name: str, got: str) -> LorakitError:
    return LorakitError(
        f"gated model {name}", got=got, expected="a token of someone who accepted its licence",
        do=f"Accept the licence on the page of {name} on the Hub, then run `hf auth login` (or set HF_TOKEN).",
    )  # fmt: skip


def _unreachable(name: str, error: Exception) -> LorakitError:
    return LorakitError(
        f"base model {name}", expected="a folder, a copy in the cache, or an answer from the Hub",
        got=f"none of them ({type(error).__name__})",
        do="Check the spelling and the connection, or use `profile: cpu`, whose model does not need the Hub.",
    )  # fmt: skip
