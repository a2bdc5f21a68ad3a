"""Exercises of notebook 02."""

from .exercise import Exercise

__all__ = ["EXERCISES"]

GB, GIB = 1e9, 2**30


def _state_gb(params, bytes_per_value, optimizer):
    moments = {"adamw": 2 * bytes_per_value, "adamw_8bit": 2, "sgd": 0}[optimizer]
    return params * (2 * bytes_per_value + moments) / GB


def _one_moment(params, bytes_per_value, optimizer):
    moments = {"adamw": bytes_per_value, "adamw_8bit": 1, "sgd": 0}[optimizer]
    return params * (2 * bytes_per_value + moments) / GB


def _attention_adapters(hidden, heads, kv_heads, head_dim, r):
    query, key = heads * head_dim, kv_heads * head_dim
    return r * (2 * (hidden + query) + 2 * (hidden + key))


def _nf4_gib(params_4bit, params_16bit):
    return (params_4bit * (4 / 8 + 4 / 64) + params_16bit * 2) / GIB


def _first_change(needed_gib, free_gib, batch, checkpointing):
    if needed_gib <= free_gib:
        return "it fits"
    if batch > 1:
        return "batch 1, more accumulation"
    return "shorter sequences" if checkpointing else "gradient checkpointing"


def _first_checkpointing(needed_gib, free_gib, batch, checkpointing):
    if needed_gib <= free_gib:
        return "it fits"
    if not checkpointing:
        return "gradient checkpointing"
    return "batch 1, more accumulation" if batch > 1 else "shorter sequences"


EXERCISES = {
    "2.1": Exercise(
        _state_gb, ((7_000_000_000, 4, "adamw"), (7_000_000_000, 2, "adamw"), (8_030_261_248, 2, "adamw_8bit"),
                    (135_000_000, 4, "sgd"), (135_000_000, 4, "adamw_8bit")),
        (
            ("That is GiB: divide by 1e9 for GB, by 2**30 for GiB.", lambda n, b, o: _state_gb(n, b, o) * GB / GIB),
            ("Adam keeps two moments for every value: the mean of the gradient and the mean of its square.", _one_moment),
            ("The gradients are missing: one value for each parameter, in the parameter's own precision.",
             lambda n, b, o: _state_gb(n, b, o) - n * b / GB),
            ("Two bytes in all: 8-bit AdamW keeps two moments of one byte, whatever the weights' precision.",
             lambda n, b, o: n * (2 * b + {"adamw": 2 * b, "adamw_8bit": b, "sgd": 0}[o]) / GB),
            ("8-bit AdamW keeps two moments of one byte, so two bytes.",
             lambda n, b, o: n * (2 * b + {"adamw": 2 * b, "adamw_8bit": 1, "sgd": 0}[o]) / GB),
            ("Here the moments have the weights' own precision, not always fp32.",
             lambda n, b, o: n * (2 * b + {"adamw": 8, "adamw_8bit": 2, "sgd": 0}[o]) / GB),
        ),
        ("Weights, gradients, and what the optimizer remembers: three terms, each a number of bytes per parameter.",
         "params * (bytes_per_value + bytes_per_value + moments) / 1e9, moments being 2 * bytes_per_value, 2 or 0."),
    ),
    "2.2": Exercise(
        _attention_adapters, ((4096, 32, 32, 128, 16), (4096, 32, 8, 128, 32), (576, 9, 3, 64, 8), (2560, 32, 8, 128, 4)),
        (
            ("num_kv_heads is forgotten: k_proj and v_proj put out kv_heads * head_dim values, not heads * head_dim.",
             lambda h, n, kv, d, r: r * 4 * (h + n * d)),
            ("That takes the query's width for the hidden size; heads * head_dim may differ from it (Qwen3-4B).",
             lambda h, n, kv, d, r: r * (4 * h + 2 * (h + kv * d))),
            ("Only one of the two matrices of each adapter is counted: A holds r * d_in values, B d_out * r.",
             lambda h, n, kv, d, r: r * (3 * h + n * d)),
            ("Those are the full matrices: an adapter holds r * (d_in + d_out) values, not d_in * d_out.",
             lambda h, n, kv, d, r: 2 * h * n * d + 2 * h * kv * d),
            ("r is forgotten: A has r rows and B has r columns.",
             lambda h, n, kv, d, r: 2 * (h + n * d) + 2 * (h + kv * d)),
            ("k_proj and v_proj put out kv_heads * head_dim values, not head_dim.",
             lambda h, n, kv, d, r: r * (2 * (h + n * d) + 2 * (h + d))),
        ),
        ("Each adapter holds r * (d_in + d_out) values. Write d_in and d_out of the four projections down first.",
         "q: hidden -> heads * head_dim; k and v: hidden -> kv_heads * head_dim; o: heads * head_dim -> hidden."),
    ),
    "2.3": Exercise(
        _nf4_gib, ((6_476_005_376, 262_410_240), (6_979_321_856, 1_050_939_392), (106_168_320, 28_346_688)),
        (
            ("That is GB: divide by 2**30 for GiB.", lambda q, f: _nf4_gib(q, f) * GIB / GB),
            ("The absmax is missing: each block of 64 values keeps one fp32 scale, 4 bytes.",
             lambda q, f: (q / 2 + f * 2) / GIB),
            ("Embeddings, output layer and norms stay in 16 bits: 2 bytes each.",
             lambda q, f: (q + f) * (4 / 8 + 4 / 64) / GIB),
            ("That is a whole byte a weight: 4 bits are 1/2, and 4 bytes of scale for 64 weights 4 / 64 (not 32 / 64).",
             lambda q, f: (q * 0.5 + q * 32 / 64 + f * 2) / GIB),
            ("That is half the scale: 4 bytes (fp32) for every 64 weights.", lambda q, f: (q * 0.5 + q * 2 / 64 + f * 2) / GIB),
        ),
        ("Four bits are half a byte. What else must be kept so that the numbers can be read back?",
         "(params_4bit * (4 / 8 + 4 / 64) + params_16bit * 2) / 2**30"),
    ),
    "2.4": Exercise(
        lambda batch, seq, vocab: batch * seq * vocab * 4 / GIB, ((4, 2048, 128256), (1, 512, 32000), (8, 1024, 49152)),
        (
            ("That is GB: divide by 2**30 for GiB.", lambda b, s, v: b * s * v * 4 / GB),
            ("The loss is computed in fp32: 4 bytes a logit, not 2.", lambda b, s, v: b * s * v * 2 / GIB),
            ("The batch is missing: every sequence has logits of its own.", lambda b, s, v: s * v * 4 / GIB),
        ),
        ("Every position of every sequence gets one number for every word of the vocabulary.",
         "batch * seq * vocab * 4 / 2**30"),
    ),
    "2.5": Exercise(
        _first_change, ((7.9, 11.2, 2, False), (16.0, 11.2, 4, False), (13.0, 11.2, 1, False), (12.0, 11.2, 1, True),
                        (11.2, 11.2, 2, True), (14.0, 11.2, 2, True), (9.0, 8.5, 1, False)),
        (
            ("A smaller batch with more accumulation comes first: it gives the same update, while checkpointing costs time.",
             _first_checkpointing),
            ("When it fits, nothing has to change: compare needed_gib with free_gib first.",
             lambda n, f, b, c: _first_change(f + 1, f, b, c)),
            ("Checkpointing is skipped: it changes no result, while shorter sequences throw text away.",
             lambda n, f, b, c: _first_change(n, f, b, True)),
        ),
        ("Try the steps in the order of what they cost, and take the first that is still open.",
         "Four returns: fits; batch > 1; not checkpointing; else shorter sequences."),
    ),
}  # fmt: skip
