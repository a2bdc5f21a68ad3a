"""A model on the Hub, looked at before anything is fetched: access, licence, safetensors, and room on the disk."""

import json
from pathlib import Path

from .errors import LorakitError
from .files import need_space
from .profiles import PROFILES

__all__ = ["OPEN_MIRRORS", "cached", "check_hub_model", "download_gib"]

_WEIGHTS = "*.safetensors"
_ROOM = 1.05  # of the weights: tokenizer, configuration and the file system's own needs

#: Repositories that want a licence accepted and a token, and open ones with the same weights.
OPEN_MIRRORS = {
    "meta-llama/Llama-3.2-1B-Instruct": "unsloth/Llama-3.2-1B-Instruct",
    "meta-llama/Llama-3.2-3B-Instruct": "unsloth/Llama-3.2-3B-Instruct",
    "meta-llama/Llama-3.1-8B-Instruct": "unsloth/Meta-Llama-3.1-8B-Instruct",
    "meta-llama/Meta-Llama-3.1-8B-Instruct": "unsloth/Meta-Llama-3.1-8B-Instruct",
}


def check_hub_model(model_id: str) -> None:
    """Raise before a download that cannot end well: no room, no access, no safetensors, or no answer.

    Nothing is asked when the weights are in the Hub's cache already. The room is that of the repository's safetensors files,
    and for a profile's own model at least :func:`download_gib`.

    Args:
        model_id: the model's name on the Hub.

    Raises:
        LorakitError: for a full disk, a gated model and no token or one without access, a name the Hub does not know, a
            repository without safetensors, or no Hub.
    """
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    if cached(model_id):
        return
    need_space(constants.HF_HUB_CACHE, download_gib(model_id), model_id, variable="HF_HOME")
    try:
        info = HfApi().model_info(model_id, files_metadata=True, timeout=10)
        if info.gated and get_token():  # a gated model's page is public: only this asks for its files
            HfApi().auth_check(model_id)
    except GatedRepoError as error:
        raise _gated(model_id, get_token()) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise LorakitError(
            f"model {model_id}", got="no such folder here, and no such model on the Hub (or a private one)",
            expected="a model's folder or Hub name", do="Check the spelling; for a private model run `hf auth login` first.",
        ) from error  # fmt: skip
    except (HfHubHTTPError, OSError, RuntimeError, ValueError) as error:
        raise _no_answer(model_id, error) from error
    except Exception as error:  # the HTTP client's own errors share no base class with OSError
        if "http" not in type(error).__module__:
            raise
        raise _no_answer(model_id, error) from error
    if info.gated and not get_token():
        raise _gated(model_id, None)
    weights = [file for file in info.siblings or () if Path(file.rfilename).match(_WEIGHTS)]
    if not weights:
        raise LorakitError(
            f"model {model_id}", got="no safetensors there", expected="weights as safetensors, which hold no code",
            do="Choose another repository of this model.",
        )  # fmt: skip
    size = sum(file.size or 0 for file in weights)
    need_space(constants.HF_HUB_CACHE, _ROOM * size / 2**30, model_id, variable="HF_HOME")


def _gated(model_id, token) -> LorakitError:
    """The sentence for a model whose licence this account has not accepted."""
    mirror = OPEN_MIRRORS.get(model_id)
    other = f"use {mirror}, which has the same weights and asks for nothing" if mirror else "look for an open mirror of it"
    return LorakitError(
        f"gated model {model_id}",
        got="a token whose owner has not been given access" if token else "no token on this machine",
        expected="an open model, or a token of someone who accepted its licence",
        do=f"Either {other}; or accept the licence on the model's page and run `hf auth login` (or set HF_TOKEN).",
    )


def _no_answer(model_id, error) -> LorakitError:
    return LorakitError(
        f"model {model_id}", got=f"no answer from the Hub ({type(error).__name__})", expected="a connection, or the model in "
        "the Hub's cache folder",
        do="Connect and run this again, or use --profile cpu (`profile: cpu` in a job), whose small model also comes from a "
        "Python package registry.",
    )  # fmt: skip


def download_gib(model_id: str) -> float:
    """What a profile fetches in GiB: the 16-bit weights, and the 4-bit copy of them that Unsloth takes for training.

    Counted from the model's shape; for a model that is no profile's own nothing is known, and it counts 0.

    Example:
        >>> round(download_gib("unsloth/Llama-3.2-3B-Instruct"), 1)
        8.1
    """
    from .memory import GIB, TrainSetup, find_model
    from .memory.estimate import weight_bytes

    if all(profile.model_id != model_id for profile in PROFILES.values()):
        return 0.0
    shape = find_model(model_id).shape
    return sum(weight_bytes(shape, TrainSetup(method=method)) for method in ("lora", "qlora")) / GIB


def cached(model_id: str) -> bool:
    """Whether configuration and every weight file of the 16-bit model are in the Hub's cache folder."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(model_id, local_files_only=True))
        index = folder / "model.safetensors.index.json"
        names = {"model.safetensors"}
        if index.is_file():
            names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (LocalEntryNotFoundError, OSError, ValueError, KeyError):
        return False
    return all((folder / name).is_file() for name in {"config.json", *names})
