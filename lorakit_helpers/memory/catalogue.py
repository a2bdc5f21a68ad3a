"""Open models by name, with the sizes their published ``config.json`` states."""

import difflib
import re
from dataclasses import dataclass, field

from ..errors import LorakitError
from .shape import ModelShape

__all__ = ["CATALOGUE", "CatalogueEntry", "find_model"]


@dataclass(frozen=True)
class CatalogueEntry:
    """One open model.

    Attributes:
        name: what the course calls it.
        shape: its sizes.
        hub_ids: repositories on the Hugging Face Hub with this shape (instruction-tuned ones share the base's).
        note: what the shape leaves out, if anything.
    """

    name: str
    shape: ModelShape
    hub_ids: tuple[str, ...] = field(default=())
    note: str = ""

    def config(self, **extra):
        """The transformers configuration of this shape (imports transformers)."""
        return self.shape.to_config(**extra)

    def __str__(self):
        return f"{self.name}: {self.shape.total_params:,} parameters"


def find_model(name: str) -> CatalogueEntry:
    """The catalogue's model called ``name``: case, dashes and endings such as ``-Instruct`` or ``-bnb-4bit`` do not matter.

    Raises:
        LorakitError: for a name that is not in the catalogue, with the nearest ones.

    Example:
        >>> print(find_model("meta-llama/Llama-3.1-8B-Instruct"))
        Llama-3.1-8B: 8,030,261,248 parameters
    """
    key = _key(str(name))
    if key in _BY_KEY:
        return _BY_KEY[key]
    near = [_BY_KEY[k].name for k in difflib.get_close_matches(key, _BY_KEY, n=4, cutoff=0.4)]
    near = list(dict.fromkeys(near))[:3]
    own = "Describe it with ModelShape(...), or pass `lorakit estimate` a folder with its config.json."
    raise LorakitError(
        "model", got=repr(name), expected=f"one of the {len(CATALOGUE)} in lorakit_helpers.memory.CATALOGUE",
        do=f"Did you mean {' or '.join(near)}?" if near else own,
    )  # fmt: skip


_IGNORED = {
    "instruct", "it", "pt", "hf", "chat", "base", "bnb", "4bit", "unsloth", "meta", "text", "4k", "8k", "128k", "gguf", "nf4",
}  # fmt: skip


def _key(name: str) -> str:
    words = re.split(r"[^a-z0-9.]+", name.lower().strip().rsplit("/", 1)[-1])
    return re.sub(r"[^a-z0-9]", "", "".join(word for word in words if word not in _IGNORED))


def _llama(h, f, layers, heads, kv, vocab, tied=False, dim=None, **more):
    return ModelShape(h, f, layers, heads, kv, dim, vocab, tied, **more)


def _qwen2(h, f, layers, heads, kv, vocab, tied=False):
    return _llama(h, f, layers, heads, kv, vocab, tied, attention_bias=True, model_type="qwen2")


def _qwen3(h, f, layers, heads, kv, tied=False):
    return _llama(h, f, layers, heads, kv, 151936, tied, 128, qk_norm=True, model_type="qwen3")


def _gemma(kind, h, f, layers, heads, kv, dim, vocab=256000):
    four = {"norms_per_layer": 4} if kind != "gemma" else {}
    own = {"qk_norm": kind == "gemma3_text", "model_type": kind, "activation": "gelu_pytorch_tanh"}
    return _llama(h, f, layers, heads, kv, vocab, True, dim, **four, **own)


def _neox(h, f, layers, heads, vocab):
    biases = dict.fromkeys(("attention_bias", "o_bias", "mlp_bias", "norm_bias"), True)
    own = {"gated_mlp": False, "parallel_attention": True, "model_type": "gpt_neox", "activation": "gelu"}
    return _llama(h, f, layers, heads, heads, vocab, **biases, **own)


def _phi2():
    biases = dict.fromkeys(("attention_bias", "o_bias", "mlp_bias", "lm_head_bias", "norm_bias"), True)
    own = {"gated_mlp": False, "norms_per_layer": 1, "parallel_attention": True, "model_type": "phi", "activation": "gelu_new"}
    return _llama(2560, 10240, 32, 32, 32, 51200, **biases, **own)


def _falcon7b():
    own = {"gated_mlp": False, "norms_per_layer": 1, "norm_bias": True, "parallel_attention": True}
    return _llama(4544, 18176, 32, 71, 1, 65024, True, 64, **own, model_type="falcon", activation="gelu")


_MISTRAL, _PHI3 = {"model_type": "mistral"}, {"model_type": "phi3"}
_STABLE = {"norm_bias": True, "model_type": "stablelm"}

_ROWS = (
    ("LLaMA-7B", _llama(4096, 11008, 32, 32, 32, 32000), "huggyllama/llama-7b"),
    ("LLaMA-13B", _llama(5120, 13824, 40, 40, 40, 32000), "huggyllama/llama-13b"),
    ("LLaMA-33B", _llama(6656, 17920, 60, 52, 52, 32000), "huggyllama/llama-30b"),
    ("LLaMA-65B", _llama(8192, 22016, 80, 64, 64, 32000), "huggyllama/llama-65b"),
    ("Llama-2-7B", _llama(4096, 11008, 32, 32, 32, 32000), "meta-llama/Llama-2-7b-hf meta-llama/Llama-2-7b-chat-hf"),
    ("Llama-2-13B", _llama(5120, 13824, 40, 40, 40, 32000), "meta-llama/Llama-2-13b-hf"),
    ("Llama-2-70B", _llama(8192, 28672, 80, 64, 8, 32000), "meta-llama/Llama-2-70b-hf"),
    ("Llama-3-8B", _llama(4096, 14336, 32, 32, 8, 128256), "meta-llama/Meta-Llama-3-8B"),
    ("Llama-3.1-8B", _llama(4096, 14336, 32, 32, 8, 128256), "meta-llama/Llama-3.1-8B unsloth/Meta-Llama-3.1-8B-Instruct"),
    ("Llama-3.1-70B", _llama(8192, 28672, 80, 64, 8, 128256), "meta-llama/Llama-3.1-70B meta-llama/Meta-Llama-3-70B"),
    ("Llama-3.2-1B", _llama(2048, 8192, 16, 32, 8, 128256, True), "meta-llama/Llama-3.2-1B"),
    ("Llama-3.2-3B", _llama(3072, 8192, 28, 24, 8, 128256, True), "meta-llama/Llama-3.2-3B unsloth/Llama-3.2-3B-Instruct"),
    ("Llama-3.3-70B", _llama(8192, 28672, 80, 64, 8, 128256), "meta-llama/Llama-3.3-70B-Instruct"),
    ("TinyLlama-1.1B", _llama(2048, 5632, 22, 32, 4, 32000), "TinyLlama/TinyLlama-1.1B-Chat-v1.0"),
    ("SmolLM2-135M", _llama(576, 1536, 30, 9, 3, 49152, True), "HuggingFaceTB/SmolLM2-135M-Instruct"),
    ("SmolLM2-360M", _llama(960, 2560, 32, 15, 5, 49152, True), "HuggingFaceTB/SmolLM2-360M-Instruct"),
    ("SmolLM2-1.7B", _llama(2048, 8192, 24, 32, 32, 49152, True), "HuggingFaceTB/SmolLM2-1.7B-Instruct"),
    ("SmolLM3-3B", _llama(2048, 11008, 36, 16, 4, 128256, True, model_type="smollm3"), "HuggingFaceTB/SmolLM3-3B"),
    ("Mistral-7B-v0.1", _llama(4096, 14336, 32, 32, 8, 32000, **_MISTRAL), "mistralai/Mistral-7B-v0.1 Mistral-7B"),
    ("Mistral-7B-v0.3", _llama(4096, 14336, 32, 32, 8, 32768, **_MISTRAL), "mistralai/Mistral-7B-v0.3"),
    ("Mistral-Nemo-12B", _llama(5120, 14336, 40, 32, 8, 131072, dim=128, **_MISTRAL), "mistralai/Mistral-Nemo-Base-2407"),
    ("Mistral-Small-24B", _llama(5120, 32768, 40, 32, 8, 131072, dim=128, **_MISTRAL), "mistralai/Mistral-Small-24B-Base-2501"),
    ("Qwen2.5-0.5B", _qwen2(896, 4864, 24, 14, 2, 151936, True), "Qwen/Qwen2.5-0.5B"),
    ("Qwen2.5-1.5B", _qwen2(1536, 8960, 28, 12, 2, 151936, True), "Qwen/Qwen2.5-1.5B"),
    ("Qwen2.5-3B", _qwen2(2048, 11008, 36, 16, 2, 151936, True), "Qwen/Qwen2.5-3B"),
    ("Qwen2.5-7B", _qwen2(3584, 18944, 28, 28, 4, 152064), "Qwen/Qwen2.5-7B"),
    ("Qwen2.5-14B", _qwen2(5120, 13824, 48, 40, 8, 152064), "Qwen/Qwen2.5-14B"),
    ("Qwen2.5-32B", _qwen2(5120, 27648, 64, 40, 8, 152064), "Qwen/Qwen2.5-32B"),
    ("Qwen2.5-72B", _qwen2(8192, 29568, 80, 64, 8, 152064), "Qwen/Qwen2.5-72B"),
    ("Qwen3-0.6B", _qwen3(1024, 3072, 28, 16, 8, True), "Qwen/Qwen3-0.6B"),
    ("Qwen3-1.7B", _qwen3(2048, 6144, 28, 16, 8, True), "Qwen/Qwen3-1.7B"),
    ("Qwen3-4B", _qwen3(2560, 9728, 36, 32, 8, True), "Qwen/Qwen3-4B Qwen/Qwen3-4B-Instruct-2507"),
    ("Qwen3-8B", _qwen3(4096, 12288, 36, 32, 8), "Qwen/Qwen3-8B"),
    ("Qwen3-14B", _qwen3(5120, 17408, 40, 40, 8), "Qwen/Qwen3-14B"),
    ("Qwen3-32B", _qwen3(5120, 25600, 64, 64, 8), "Qwen/Qwen3-32B"),
    ("Gemma-2B", _gemma("gemma", 2048, 16384, 18, 8, 1, 256), "google/gemma-2b"),
    ("Gemma-7B", _gemma("gemma", 3072, 24576, 28, 16, 16, 256), "google/gemma-7b"),
    ("Gemma-2-2B", _gemma("gemma2", 2304, 9216, 26, 8, 4, 256), "google/gemma-2-2b"),
    ("Gemma-2-9B", _gemma("gemma2", 3584, 14336, 42, 16, 8, 256), "google/gemma-2-9b"),
    ("Gemma-2-27B", _gemma("gemma2", 4608, 36864, 46, 32, 16, 128), "google/gemma-2-27b"),
    ("Gemma-3-270M", _gemma("gemma3_text", 640, 2048, 18, 4, 1, 256, 262144), "google/gemma-3-270m"),
    ("Gemma-3-1B", _gemma("gemma3_text", 1152, 6912, 26, 4, 1, 256, 262144), "google/gemma-3-1b-pt"),
    ("Gemma-3-4B", _gemma("gemma3_text", 2560, 10240, 34, 8, 4, 256, 262208), "google/gemma-3-4b-pt", "text part only"),
    ("Gemma-3-12B", _gemma("gemma3_text", 3840, 15360, 48, 16, 8, 256, 262208), "google/gemma-3-12b-pt", "text part only"),
    ("Gemma-3-27B", _gemma("gemma3_text", 5376, 21504, 62, 32, 16, 128, 262208), "google/gemma-3-27b-pt", "text part only"),
    ("Phi-2", _phi2(), "microsoft/phi-2"),
    ("Phi-3-mini", _llama(3072, 8192, 32, 32, 32, 32064, **_PHI3), "microsoft/Phi-3-mini-4k-instruct Phi-3.5-mini-instruct"),
    ("Phi-3-medium", _llama(5120, 17920, 40, 40, 10, 32064, **_PHI3), "microsoft/Phi-3-medium-4k-instruct"),
    ("Phi-4", _llama(5120, 17920, 40, 40, 10, 100352, **_PHI3), "microsoft/phi-4"),
    ("Phi-4-mini", _llama(3072, 8192, 32, 24, 8, 200064, True, **_PHI3), "microsoft/Phi-4-mini-instruct"),
    ("Falcon-7B", _falcon7b(), "tiiuae/falcon-7b"),
    ("StableLM-base-alpha-3B", _neox(4096, 16384, 16, 32, 50688), "stabilityai/stablelm-base-alpha-3b"),
    ("StableLM-3B-4E1T", _llama(2560, 6912, 32, 32, 32, 50304, **_STABLE), "stabilityai/stablelm-3b-4e1t"),
    ("Pythia-1.4B", _neox(2048, 8192, 24, 16, 50304), "EleutherAI/pythia-1.4b"),
)

#: Every model by its name, in families from small to large.
CATALOGUE = {name: CatalogueEntry(name, shape, tuple(ids.split()), *note) for name, shape, ids, *note in _ROWS}

_BY_KEY = {_key(alias): entry for entry in CATALOGUE.values() for alias in (entry.name, *entry.hub_ids)}
