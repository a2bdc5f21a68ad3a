"""How each transformers family names its linear layers, and how its configuration maps to a ``ModelShape`` and back."""

from ..errors import LorakitError, did_you_mean

__all__ = ["FAMILIES", "USUAL", "build", "check", "names", "read"]

_LLAMA = {
    "q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj", "gate": "gate_proj", "up": "up_proj", "down": "down_proj",
}  # fmt: skip
#: The usual name of each part of a layer.
USUAL = _LLAMA
_PHI3 = {
    "qkv": "qkv_proj",
    "o": "o_proj",
    "gate_up": "gate_up_proj",
    "up": "up_proj",
    "down": "down_proj",
}
_PHI = _LLAMA | {"o": "dense", "up": "fc1", "down": "fc2"}
_NEOX = {"qkv": "query_key_value", "o": "dense", "up": "dense_h_to_4h", "down": "dense_4h_to_h"}

#: The families ``ModelShape`` knows, with the name of each linear layer.
FAMILIES = {
    "llama": _LLAMA, "mistral": _LLAMA, "qwen2": _LLAMA, "qwen3": _LLAMA, "gemma": _LLAMA, "gemma2": _LLAMA,
    "gemma3_text": _LLAMA, "smollm3": _LLAMA, "stablelm": _LLAMA, "phi3": _PHI3, "phi": _PHI, "gpt_neox": _NEOX,
    "falcon": _NEOX,
}  # fmt: skip


def names(model_type: str) -> dict[str, str]:
    """``{part: module name}`` for a family; the parts are q, k, v or qkv, o, gate, up or gate_up, down."""
    return FAMILIES[model_type]


def check(model_type) -> None:
    """Raise ``LorakitError`` for a family that is not known, with the nearest."""
    if model_type in FAMILIES:
        return
    raise LorakitError(
        "model_type", got=repr(model_type), expected="one of " + ", ".join(FAMILIES),
        do=did_you_mean(model_type, FAMILIES, "Describe the model with ModelShape(...) by hand."),
    )  # fmt: skip


def read(config) -> dict:
    """The ``ModelShape`` fields of a transformers configuration; a nested ``text_config`` is taken where there is one."""
    config = getattr(config, "text_config", None) or config
    kind = getattr(config, "model_type", None)
    check(kind)

    def get(name, default=None):
        value = getattr(config, name, None)
        return default if value is None else value

    heads = get("num_attention_heads")
    fields = {
        "hidden_size": get("hidden_size"), "intermediate_size": get("intermediate_size"),
        "num_layers": get("num_hidden_layers"), "num_heads": heads, "num_kv_heads": get("num_key_value_heads", heads),
        "head_dim": get("head_dim"), "vocab_size": get("vocab_size"),
        "tied_embeddings": bool(get("tie_word_embeddings", False)), "model_type": kind,
        "activation": get("hidden_activation") or get("hidden_act") or get("activation") or "silu",
    }  # fmt: skip
    bias = bool(get("attention_bias", False))
    return fields | _family_fields(kind, get, fields, bias)


def _family_fields(kind, get, fields, bias) -> dict:
    if kind in ("llama", "smollm3"):
        return {"attention_bias": bias, "o_bias": bias, "mlp_bias": bool(get("mlp_bias", False))}
    if kind == "qwen2":
        return {"attention_bias": True}
    if kind == "qwen3":
        return {"attention_bias": bias, "o_bias": bias, "qk_norm": True}
    if kind in ("gemma", "gemma2", "gemma3_text"):
        own = {"attention_bias": bias, "o_bias": bias, "qk_norm": kind == "gemma3_text"}
        return own | {"norms_per_layer": 2 if kind == "gemma" else 4}
    if kind == "stablelm":
        return {"attention_bias": bool(get("use_qkv_bias", False)), "norm_bias": True}
    if kind == "phi":
        every = dict.fromkeys(("attention_bias", "o_bias", "mlp_bias", "lm_head_bias", "norm_bias"), True)
        return every | {"gated_mlp": False, "norms_per_layer": 1, "parallel_attention": True}
    if kind == "gpt_neox":
        own = {"attention_bias": bool(get("attention_bias", True)), "o_bias": bool(get("attention_bias", True))}
        own |= {"mlp_bias": True, "norm_bias": True, "gated_mlp": False}
        return own | {"parallel_attention": bool(get("use_parallel_residual", True)), "num_kv_heads": fields["num_heads"]}
    if kind == "falcon":
        return _falcon_fields(get, fields)
    return {}


def _falcon_fields(get, fields) -> dict:
    if get("new_decoder_architecture", False):
        raise LorakitError(
            "falcon configuration", got="new_decoder_architecture", expected="the Falcon 7B architecture",
            do="Falcon 40B and 180B are not modelled; choose another model.",
        )  # fmt: skip
    bias, parallel = bool(get("bias", False)), bool(get("parallel_attn", True))
    return {
        "intermediate_size": get("ffn_hidden_size", 4 * fields["hidden_size"]),
        "num_kv_heads": 1 if get("multi_query", True) else fields["num_heads"],
        "head_dim": None, "gated_mlp": False, "norm_bias": True, "parallel_attention": parallel,
        "attention_bias": bias, "o_bias": bias, "mlp_bias": bias, "norms_per_layer": 1 if parallel else 2,
    }  # fmt: skip


def build(shape, **extra):
    """A transformers configuration of ``shape``.

    Raises:
        LorakitError: where the family's class cannot have such a shape (say, biases in a family without them).
    """
    from transformers import AutoConfig

    settings = {
        "hidden_size": shape.hidden_size, "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.num_layers, "num_attention_heads": shape.num_heads,
        "num_key_value_heads": shape.num_kv_heads, "head_dim": shape.head_dim, "vocab_size": shape.vocab_size,
        "tie_word_embeddings": bool(shape.tied_embeddings), "hidden_act": shape.activation,
        "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    if shape.model_type == "falcon":
        del settings["head_dim"]  # Falcon's is always hidden_size / num_attention_heads
    config = AutoConfig.for_model(shape.model_type, **(settings | _family_settings(shape) | extra))
    back = read(config)
    wrong = [name for name, value in shape.to_dict().items() if name in back and back[name] not in (value, None)]
    wrong += [n for n, v in _DEFAULTS.items() if n not in back and getattr(shape, n) != v]
    if wrong:
        raise LorakitError(
            f"model shape, {wrong[0]}", got=repr(getattr(shape, wrong[0])),
            expected=f"what transformers' {shape.model_type} class can build",
            do="Choose another model_type, or use estimate(), which needs no transformers class.",
        )  # fmt: skip
    return config


_DEFAULTS = {
    "gated_mlp": True, "attention_bias": False, "qk_norm": False, "norms_per_layer": 2, "norm_bias": False, "o_bias": False,
    "mlp_bias": False, "lm_head_bias": False, "parallel_attention": False,
}  # fmt: skip


def _family_settings(shape) -> dict:
    kind = shape.model_type
    if kind == "stablelm":
        return {"use_qkv_bias": shape.attention_bias, "use_parallel_residual": False}
    if kind == "falcon":
        return {
            "ffn_hidden_size": shape.intermediate_size, "activation": shape.activation, "bias": shape.attention_bias,
            "multi_query": shape.num_kv_heads == 1, "parallel_attn": shape.parallel_attention,
            "new_decoder_architecture": False, "alibi": False,
        }  # fmt: skip
    if kind == "gpt_neox":
        return {"attention_bias": shape.attention_bias, "use_parallel_residual": shape.parallel_attention}
    own = {"attention_bias": shape.attention_bias, "mlp_bias": shape.mlp_bias} if kind in ("llama", "smollm3") else {}
    if kind in ("gemma", "gemma2", "gemma3_text", "qwen3"):
        own = {"attention_bias": shape.attention_bias}
    if kind in ("gemma2", "gemma3_text"):
        own["hidden_activation"] = shape.activation
    return own
