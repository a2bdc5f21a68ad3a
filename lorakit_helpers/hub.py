"""A GPU profile's model on the Hub, looked at before anything is fetched: access, licence, and room on the disk."""

import json
from pathlib import Path

from .errors import LorakitError
from .files import need_space

__all__ = ["OPEN_MIRRORS", "cached", "check_hub_model", "download_gib"]

#: Repositories that want a licence accepted and a token, and open ones with the same weights.
OPEN_MIRRORS = {
    "meta-llama/Llama-3.2-1B-Instruct": "unsloth/Llama-3.2-1B-Instruct",
    "meta-llama/Llama-3.2-3B-Instruct": "unsloth/Llama-3.2-3B-Instruct",
    "meta-llama/Llama-3.1-8B-Instruct": "unsloth/Meta-Llama-3.1-8B-Instruct",
    "meta-llama/Meta-Llama-3.1-8B-Instruct": "unsloth/Meta-Llama-3.1-8B-Instruct",
}


def check_hub_model(model_id: str) -> None:
    """Raise before a download that cannot end well: no room, no access, or no answer.

    Nothing is asked when the weights are in the Hub's cache already.

    Args:
        model_id: the model's name on the Hub.

    Raises:
        LorakitError: for a full disk, a gated model without a token, a name the Hub does not know, or no Hub.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if cached(model_id):
        return
    need_space(constants.HF_HUB_CACHE, download_gib(model_id), model_id, variable="HF_HOME")
    try:
        HfApi().auth_check(model_id)
    except GatedRepoError as error:
        raise gated(model_id) from error
    except RepositoryNotFoundError as error:
        raise LorakitError(
            f"model {model_id}", got="no such repository on the Hub, or a private one", expected="a public model's name",
            do="Check the spelling, or log in with `hf auth login` if it is yours.",
        ) from error  # fmt: skip
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        raise _no_answer(model_id, error) from error
    except Exception as error:  # the HTTP client's own errors share no base class with OSError
        if "http" not in type(error).__module__:
            raise
        raise _no_answer(model_id, error) from error


def gated(model_id: str) -> LorakitError:
    """The sentence for a model whose licence this account has not accepted."""
    mirror = OPEN_MIRRORS.get(model_id)
    other = f"use {mirror}, which has the same weights and asks for nothing" if mirror else "look for an open mirror of it"
    return LorakitError(
        f"model {model_id}", got="a gated repository and no token that opens it", expected="an open one, or a token",
        do=f"Either {other}; or accept the licence on the model's page and run `hf auth login`.",
    )  # fmt: skip


def _no_answer(model_id, error) -> LorakitError:
    return LorakitError(
        f"model {model_id}", got=f"no answer from the Hub ({type(error).__name__})", expected="a connection, or the model in "
        "the Hub's cache folder",
        do="Connect and run this again, or use --profile cpu, whose small model also comes from a Python package registry.",
    )  # fmt: skip


def download_gib(model_id: str) -> float:
    """What a profile fetches in GiB: the 16-bit weights, and the 4-bit copy of them that Unsloth takes for training.

    Counted from the model's shape; a model that is not in the catalogue counts as nothing known, 0.

    Example:
        >>> round(download_gib("unsloth/Llama-3.2-3B-Instruct"), 1)
        8.1
    """
    from .memory import GIB, TrainSetup, find_model
    from .memory.estimate import weight_bytes

    try:
        shape = find_model(model_id).shape
    except LorakitError:
        return 0.0
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
