# %% [ex:2.1]
from lorakit_helpers.exercises import check, hint


def state_gb(params: int, bytes_per_value: int, optimizer: str) -> float:
    """GB (1e9 bytes) of weights, gradients and optimizer state in full fine-tuning."""
    moments = {"adamw": 2 * bytes_per_value, "adamw_8bit": 2, "sgd": 0}[optimizer]
    return params * (bytes_per_value + bytes_per_value + moments) / 1e9


state_gb = check("2.1", state_gb)


# %% [ex:2.2]
def attention_adapters(hidden: int, heads: int, kv_heads: int, head_dim: int, r: int) -> int:
    """LoRA parameters of q_proj, k_proj, v_proj and o_proj in one layer."""
    query, key = heads * head_dim, kv_heads * head_dim
    return sum(r * (d_in + d_out) for d_in, d_out in ((hidden, query), (hidden, key), (hidden, key), (query, hidden)))


attention_adapters = check("2.2", attention_adapters)


# %% [ex:2.3]
def nf4_gib(params_4bit: int, params_16bit: int) -> float:
    """GiB (2**30 bytes) of a model whose linear layers are NF4 without double quantization."""
    return (params_4bit * (4 / 8 + 4 / 64) + params_16bit * 2) / 2**30


nf4_gib = check("2.3", nf4_gib)


# %% [ex:2.4]
def logits_gib(batch: int, seq: int, vocab: int) -> float:
    """GiB of one fp32 copy of the logits."""
    return batch * seq * vocab * 4 / 2**30


logits_gib = check("2.4", logits_gib)


# %% [ex:2.5]
def first_change(needed_gib: float, free_gib: float, batch: int, checkpointing: bool) -> str:
    """The first step to take against running out of memory."""
    if needed_gib <= free_gib:
        return "it fits"
    if batch > 1:
        return "batch 1, more accumulation"
    return "shorter sequences" if checkpointing else "gradient checkpointing"


first_change = check("2.5", first_change)
