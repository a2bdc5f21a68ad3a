"""Exercises name the likely mistakes, never stop a Run All, and raise in strict mode."""

import ast
import json
import math
import re
from bisect import bisect_right
from difflib import SequenceMatcher
from fractions import Fraction
from itertools import pairwise

import nbformat
import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.exercises import EXERCISES, check, diagnose, hint
from lorakit_helpers.files import project_root
from lorakit_helpers.tickets import KEYS


@pytest.fixture(autouse=True)
def lenient(monkeypatch):
    monkeypatch.delenv("LORAKIT_STRICT", raising=False)


def readable(text):
    try:
        json.loads(text)
        return True
    except json.JSONDecodeError:
        return False


def has_all(text):
    return readable(text) and all(f'"{key}"' in text for key in KEYS) and isinstance(json.loads(text), dict)


def same_set(text):
    return readable(text) and isinstance(json.loads(text), dict) and set(json.loads(text)) == set(KEYS)


def hide_answer(ids, n):
    return [token if i < n else -100 for i, token in enumerate(ids)]


def hide_with_zero(ids, n):
    return [0 if i < n else token for i, token in enumerate(ids)]


def ladder(batch, checkpointing):
    if batch > 1:
        return "batch 1, more accumulation"
    return "shorter sequences" if checkpointing else "gradient checkpointing"


def checkpoint_first(needed, free, batch, checkpointing):
    if needed <= free:
        return "it fits"
    return ladder(batch, checkpointing) if checkpointing else "gradient checkpointing"


def subsequence(a, b):
    lengths = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            lengths[i + 1, j + 1] = lengths[i, j] + 1 if x == y else max(lengths[i, j + 1], lengths[i + 1, j])
    return int(lengths[-1, -1])


def merge_in_place(w, b, a, scaling):
    w += b @ a * scaling
    return w


#: The three likeliest wrong answers of each exercise, written as a learner would, with a word of the right diagnosis.
def spoken(row):
    names = {"system": "system", "human": "user", "gpt": "assistant"}
    return [{"role": names[turn["from"]], "content": turn["value"]} for turn in row["conversations"]]


def padded(lengths, size):
    batches = [lengths[i : i + size] for i in range(0, len(lengths), size)]
    return sum(len(batch) * max(batch) for batch in batches)


def alike(text):
    return " ".join(text.lower().split())


def runs(text, n):
    words = text.lower().split()
    return list(zip(*(words[i:] for i in range(n)), strict=False))


def as_is(text, n):
    words = text.split()
    return list(zip(*(words[i:] for i in range(n)), strict=False))


def pack_emptiest(lengths, room):
    sequences = [0]
    for n in sorted(lengths)[::-1]:
        i = int(np.argmin(sequences))
        if sequences[i] + n > room:
            sequences.append(n)
        else:
            sequences[i] += n
    return len(sequences)


def pack_fullest(lengths, room):
    sequences = []
    for n in sorted(lengths)[::-1]:
        fits = [used for used in sequences if used + n <= room]
        if fits:
            sequences[sequences.index(max(fits))] += n
        else:
            sequences.append(n)
    return len(sequences)


def turns(messages, prompt, between="\n"):
    said = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>{between}" for m in messages)
    return said + "<|im_start|>assistant\n" * prompt


def label_answers(ids, header, end, last=1, most=99):
    labels, starts = [-100] * len(ids), [i + len(header) for i in range(len(ids)) if ids[i : i + len(header)] == header]
    for start in starts[:most]:
        stop = ids.index(end, start) if end in ids[start:] else len(ids)
        labels[start : stop + last] = ids[start : stop + last]
    return labels


def label_headers(ids, header, end):
    labels = label_answers(ids, header, end)
    for i in range(len(ids)):
        labels[i : i + len(header)] = header if ids[i : i + len(header)] == header else labels[i : i + len(header)]
    return labels


def pack_last(lengths, room):
    sequences = [0]
    for n in sorted(lengths)[::-1]:
        if sequences[-1] + n > room:
            sequences.append(0)
        sequences[-1] += n
    return len(sequences)


def pack_in_order(lengths, room):
    sequences = []
    for n in lengths:
        i = next((i for i, used in enumerate(sequences) if used + n <= room), len(sequences))
        sequences += [0] * (i == len(sequences))
        sequences[i] += n
    return len(sequences)


def fit_any(lengths, budget, fixed):
    kept = []
    for n in lengths:
        kept += [n] * (fixed + sum(kept) + n <= budget)
    return len(kept)


def strip_once(text, tokens):
    first, second = tokens
    return text.replace(first, "").replace(second, "")


def after(ids, marker, back=0, last=True):
    """Labels by search in text, one character a token; None where the marker is not there."""
    text, wanted = ("".join(map(chr, part)) for part in (ids, marker))
    place = text.rfind(wanted) if last else text.find(wanted)
    start = place + len(marker) - back
    return None if place < 0 else [-100] * start + ids[start:]


def evened(texts):
    return [re.sub(r"\s+", " ", text.lower().strip()) for text in texts]


WRONG = [
    ("0.1", readable, "exactly the five keys"),
    ("0.1", has_all, "key too many"),
    ("0.1", same_set, "order of the keys"),
    ("0.2", lambda flags: 100 * flags.count(True) / len(flags) if flags else 0.0, "percentage"),
    ("0.2", lambda flags: len([flag for flag in flags if flag]), "divide"),
    ("0.2", lambda flags: flags.count(True) / len(flags), "empty list"),
    ("1.1", lambda found, wanted, k: sum(w in ids for w, ids in zip(wanted, found, strict=True)) / len(found), "first k"),
    ("1.1", lambda found, wanted, k: [w in ids[:k] for w, ids in zip(wanted, found, strict=True)].count(True), "divide"),
    (
        "1.1",
        lambda found, wanted, k: sum([w] == i[k - 1 : k] for w, i in zip(wanted, found, strict=True)) / len(found),
        "k alone",
    ),
    ("1.2", lambda said, answer: "".join(said).find("".join(answer)) >= 0, "not letters"),
    ("1.2", lambda said, answer: set(answer) <= set(said), "in order"),
    ("1.2", lambda said, answer: answer == said, "nothing else"),
    ("1.3", lambda found, right: ("right", "not read", "not found")[(not right) + (not right and not found)], "luck"),
    ("1.3", lambda found, right: {11: "right", 1: "lucky", 10: "not found", 0: "not read"}[10 * found + right], "other way"),
    ("1.3", lambda found, right: ("right" if found else "lucky") if right else "not read", "to blame"),
    ("1.4", lambda lengths, budget, fixed: sum(sum(lengths[: i + 1]) <= budget for i in range(len(lengths))), "`fixed`"),
    ("1.4", fit_any, "ends the list"),
    ("1.4", lambda lengths, budget, fixed: len([n for n in lengths if n + fixed <= budget]), "one passage at a time"),
    ("1.5", lambda training, slow, fast: -(-(training / (slow - fast)) // 1), "never pays"),
    ("1.5", lambda training, slow, fast: training / (slow - fast) if slow > fast else math.inf, "round up"),
    ("1.5", lambda training, slow, fast: -int(-training // slow) if slow > fast else math.inf, "saved per question"),
    ("2.1", lambda n, b, o: n * (2 * b + {"adamw": 2 * b, "adamw_8bit": 2, "sgd": 0}[o]) / 2**30, "GiB"),
    ("2.1", lambda n, b, o: n * (2 * b + {"adamw": b, "adamw_8bit": 1, "sgd": 0}[o]) / 1e9, "two moments"),
    ("2.1", lambda n, b, o: n * (b + {"adamw": 2 * b, "adamw_8bit": 2, "sgd": 0}[o]) / 1e9, "gradients are missing"),
    ("2.2", lambda h, n, kv, d, r: 4 * r * h + 4 * r * n * d, "num_kv_heads"),
    ("2.2", lambda h, n, kv, d, r: 2 * r * (h + h) + 2 * r * (h + kv * d), "query's width"),
    ("2.2", lambda h, n, kv, d, r: r * h * 3 + r * n * d, "one of the two"),
    ("2.3", lambda q, f: (0.5625 * q + 2 * f) / 1e9, "divide by 2**30"),
    ("2.3", lambda q, f: (0.5 * q + 2 * f) / 2**30, "absmax"),
    ("2.3", lambda q, f: 0.5625 * (q + f) / 2**30, "16 bits"),
    ("2.4", lambda b, s, v: 4e-9 * b * s * v, "GB"),
    ("2.4", lambda b, s, v: 2 * b * s * v / 2**30, "fp32"),
    ("2.4", lambda b, s, v: 4 * s * v / 2**30, "batch"),
    ("2.5", checkpoint_first, "same update"),
    ("2.5", lambda n, f, b, c: ladder(b, c), "When it fits"),
    ("2.5", lambda n, f, b, c: "it fits" if n <= f else ladder(b, True), "Checkpointing is skipped"),
    ("4.1", lambda size: 4 + 32, "divide it"),
    ("4.1", lambda size: 32 / size, "4 bits are missing"),
    ("4.1", lambda size: 4 + 16 / size, "not 16"),
    ("4.2", lambda size, nested: 4 + 32 / size + 8 / nested / size, "replaces it"),
    ("4.2", lambda size, nested: 4 + 8 / size + 32 / nested, "divide by both"),
    ("4.2", lambda size, nested: 8 / size + 4, "is missing"),
    ("4.3", lambda x, levels: sorted(levels, key=lambda v: abs(v - x))[0], "its index"),
    ("4.3", lambda x, levels: levels.index(min(levels)), "without their sign"),
    ("4.3", lambda x, levels: [abs(v - x) for v in levels].index(max(abs(v - x) for v in levels)), "farthest"),
    ("4.4", lambda quantized, other, bits: (quantized + other) * bits / 8e9, "stay at 2 bytes"),
    ("4.4", lambda quantized, other, bits: (quantized * bits + 16 * other) / 1e9, "gigabits"),
    ("4.4", lambda quantized, other, bits: (quantized * bits / 8 + 2 * other) / 2**30, "GiB"),
    ("3.1", merge_in_place, "changes W itself"),
    ("3.1", lambda w, b, a, scaling: np.add(w, b @ a), "alpha / r"),
    ("3.1", lambda w, b, a, scaling: b @ a * scaling, "update alone"),
    ("3.2", lambda s, r: math.hypot(*s[:r]), "thrown away"),
    ("3.2", lambda s, r: math.fsum(s[r:]), "sum of squares"),
    ("3.2", lambda s, r: math.hypot(*s[r:]) ** 2, "take the root"),
    ("3.3", lambda d_in, d_out: d_in if d_in < d_out else d_out, "largest rank a matrix can have"),
    ("3.3", lambda d_in, d_out: math.floor(d_in * d_out / (d_in + d_out)), "exactly as many"),
    ("3.3", lambda d_in, d_out: int(min(d_in, d_out) / 2), "square matrices only"),
    ("3.4", lambda mb, shapes, width: math.floor(mb * 1024**2 / width / sum(map(sum, shapes))), "MiB"),
    ("3.4", lambda mb, shapes, width: math.floor(mb * 1e6 / sum(map(sum, shapes))), "`width` bytes"),
    ("3.4", lambda mb, shapes, width: math.floor(mb * 1e6 / sum(map(math.prod, shapes)) / width), "full matrix"),
    ("5.1", lambda row: [{"role": t["from"], "content": t["value"]} for t in row["conversations"]], "ShareGPT names"),
    ("5.1", lambda row: spoken(row)[spoken(row)[0]["role"] == "system" :], "system turn is lost"),
    ("5.1", lambda row: spoken(row)[:2], "first exchange"),
    ("5.2", lambda lengths, size: padded(lengths, size) / sum(lengths) - 1, "tokens kept"),
    ("5.2", lambda lengths, size: 1 - sum(lengths) / max(lengths) / len(lengths), "own longest row"),
    ("5.2", lambda lengths, size: 1 - sum(lengths) / padded([*lengths, *[0] * (-len(lengths) % size)], size), "last batch"),
    ("5.3", lambda train, test: [i for i, p in enumerate(test) if p in train], "without case"),
    ("5.3", lambda train, test: [p for p in test if alike(p) in map(alike, train)], "indices in test"),
    ("5.3", lambda train, test: [i for i, p in enumerate(train) if alike(p) in map(alike, test)], "counted in test"),
    ("5.4", lambda rows: sorted({alike(p) for p, _ in rows if sum(alike(q) == alike(p) for q, _ in rows) > 1}), "copy"),
    ("5.4", lambda rows: sorted({p for p, a in rows if any(p == q and a != b for q, b in rows)}), "case or spaces"),
    (
        "5.4",
        lambda rows: sorted({alike(p) for (p, a), (q, b) in pairwise(rows) if alike(p) == alike(q) and a != b}),
        "neighbours",
    ),
    ("5.5", lambda texts, n: np.mean([len(set(runs(t, n))) / len(runs(t, n)) for t in texts]), "pool them"),
    ("5.5", lambda texts, n: len(set(runs(" ".join(texts), n))) / len(runs(" ".join(texts), n)), "across the border"),
    ("5.5", lambda texts, n: len({run for t in texts for run in runs(t, n)}), "divide"),
    ("6.1", lambda m, prompt: turns(m, prompt, ""), "after <|im_end|>"),
    ("6.1", lambda m, prompt: turns(m, False), "add_generation_prompt is ignored"),
    ("6.1", lambda m, prompt: turns(m, prompt).rstrip("\n") + "\n" * (not prompt), "ends with a line break"),
    ("6.2", lambda ids, header, end: label_answers(ids, header, end, last=0), "never learn to stop"),
    ("6.2", label_headers, "header is trained"),
    ("6.2", lambda ids, header, end: label_answers(ids, header, end, most=1), "first answer"),
    ("6.3", lambda lengths, room: math.ceil(sum(lengths) / room), "least there could be"),
    ("6.3", pack_in_order, "Longest first"),
    ("6.3", pack_last, "every sequence"),
    ("6.4", lambda lengths, share: float(np.quantile(lengths, share)), "between two lengths"),
    ("6.4", lambda lengths, share: max(lengths) * share, "share of rows"),
    ("6.4", lambda lengths, share: ([*sorted(lengths), max(lengths)])[int(len(lengths) * share)], "one place earlier"),
    ("6.5", strip_once, "put another together"),
    ("6.5", lambda text, tokens: text.replace(tokens[0], "", 1).replace(tokens[1], "", 1), "once only"),
    ("6.5", lambda text, tokens: text if not any(t in text for t in tokens) else "", "refuses the whole"),
    ("7.1", lambda alpha, r: r / alpha, "upside down"),
    ("7.1", lambda alpha, r: math.floor(alpha / r), "//"),
    ("7.1", lambda alpha, r: r * alpha, "divides"),
    ("7.2", lambda d_in, d_out, r: d_out * d_in, "full matrix"),
    ("7.2", lambda d_in, d_out, r: (r * d_in) * d_out, "add them"),
    ("7.2", lambda d_in, d_out, r: d_in * r, "one of the two"),
    ("7.3", lambda n, batch, accumulation, epochs: n // batch // accumulation * epochs, "round up"),
    ("7.3", lambda n, batch, accumulation, epochs: -(-n // batch) * epochs, "Accumulation is missing"),
    ("7.3", lambda n, batch, accumulation, epochs: -(-n // (batch * accumulation)), "Epochs are missing"),
    ("7.4", hide_answer, "hides the answer"),
    ("7.4", lambda ids, n: ids[n:], "as long as the input"),
    ("7.4", hide_with_zero, "real token"),
    ("8.1", lambda wanted, fits: (fits, -(-wanted // fits)), "exactly"),
    ("8.1", lambda wanted, fits: (min(fits, wanted), wanted // min(fits, wanted)), "Rounded down"),
    ("8.1", lambda wanted, fits: (1, wanted), "takes longest"),
    ("8.2", lambda i, warm, n, top: top * (1 + math.cos(math.pi * (i - warm) / (n - warm))) / 2, "warm-up is missing"),
    ("8.2", lambda i, warm, n, top: top * (i / warm if i < warm else (1 + math.cos(math.pi * i / n)) / 2), "begins when"),
    ("8.2", lambda i, warm, n, top: top * (i / warm if i < warm else 1 + math.cos(math.pi * (i - warm) / (n - warm))), "halve"),
    ("8.3", lambda batches: float(np.mean([loss for loss, _ in batches])), "mean of means"),
    ("8.3", lambda batches: math.fsum(loss * tokens for loss, tokens in batches), "divide by their number"),
    ("8.3", lambda batches: float(np.mean([loss * tokens for loss, tokens in batches])), "not of batches"),
    ("8.4", lambda budget, layers: budget // sum(a * b for a, b in layers), "full update"),
    ("8.4", lambda budget, layers: budget // sum(a for a, b in layers), "both count"),
    ("8.4", lambda budget, layers: -(-budget // sum(map(sum, layers))), "Round down"),
    ("8.5", lambda d: 1.959963984540054 * np.std(d, ddof=1) / math.sqrt(len(d)), "Student"),
    ("8.5", lambda d: float(stats.t.ppf(0.975, len(d) - 1) * np.std(d) / math.sqrt(len(d))), "n - 1"),
    ("8.5", lambda d: float(stats.t.ppf(0.975, len(d) - 1) * np.std(d, ddof=1)), "√n"),
    ("9.1", lambda task, share: round(share * task), "of the whole mixture"),
    ("9.1", lambda task, share: round(task / (1 - share)), "subtract the task rows"),
    ("9.1", lambda task, share: round(task * share / (1 + share)), "Divide by 1 - share"),
    ("9.2", lambda nlls: float(np.mean(np.concatenate(nlls))), "That is the loss"),
    ("9.2", lambda nlls: float(np.exp(np.mean([np.mean(row) for row in nlls]))), "averages rows"),
    ("9.2", lambda nlls: float(np.mean(np.exp(np.concatenate(nlls)))), "Average first"),
    ("9.3", lambda truth, guess: metrics.accuracy_score(truth, guess), "accuracy"),
    ("9.3", lambda truth, guess: metrics.f1_score(truth, guess, average="macro", zero_division=0.0), "Only labels that occur"),
    ("9.3", lambda truth, guess: metrics.recall_score(truth, guess, labels=sorted(set(truth)), average="macro"), "recall"),
    ("9.4", lambda w, x: stats.binom.sf(max(w, x) - 1, w + x, 0.5), "one direction"),
    ("9.4", lambda w, x: 2 * stats.binom.sf(max(w, x) - 1, w + x, 0.5), "at most 1"),
    ("9.4", lambda w, x: min(1.0, 2 * stats.binom.pmf(w, w + x, 0.5)), "this very split"),
    ("9.5", subsequence, "longest common subsequence"),
    ("9.5", lambda a, b: sum(np.cumprod([x == y for x, y in zip(a, b, strict=False)])), "begin anywhere"),
    ("9.5", lambda a, b: len(set(a).intersection(b)), "in any order"),
    (
        "11.1",
        lambda n, p, m: (int((np.array(n) >= m).sum() - (np.array(p) >= m).sum()), int((np.array(p) >= m).sum())),
        "exactly",
    ),
    ("10.1", lambda w, a, b, alpha, r: w + np.einsum("or,ri->oi", b, a), "scale is missing"),
    ("10.1", lambda w, a, b, alpha, r: w + np.dot(b, a) * r / alpha, "not r over alpha"),
    ("10.1", lambda w, a, b, alpha, r: np.dot(b, a) * (alpha / r), "base's weight is missing"),
    ("10.2", lambda p, q: float(stats.entropy(q, p)), "weights in the sum"),
    ("10.2", lambda p, q: float(stats.entropy(p, q, base=2)), "math.log, not log2"),
    ("10.2", lambda p, q: float(-np.dot(p, np.log(q))), "cross-entropy"),
    ("10.3", lambda n, bits: n * bits / 1e6, "megabits"),
    ("10.3", lambda n, bits: n * bits / 8 / 1024**2, "MiB"),
    ("10.3", lambda n, bits: n * bits / 8e9, "GB"),
    ("10.4", lambda ids, eos, limit: ids.count(eos) > 0 and len(ids) <= limit, "last token"),
    ("10.4", lambda ids, eos, limit: bool(ids) and len(ids) < limit, "may still lack"),
    ("10.4", lambda ids, eos, limit: ids[-1:] == [eos], "Mind the limit"),
    ("11.1", lambda n, p, m: (int((np.array(n) > m).sum()), int((np.array(p) >= m).sum())), "cut as well"),
    ("11.1", lambda n, p, m: (int(((np.array(n) > m) & (np.array(p) <= m)).sum()), int((np.array(p) > m).sum())), "no room"),
    ("11.2", lambda ids, marker: after(ids, marker) or list(ids), "empty mask"),
    ("11.2", lambda ids, marker: after(ids, marker, len(marker)) or [-100] * len(ids), "not trained"),
    ("11.2", lambda ids, marker: after(ids, marker, last=False) or [-100] * len(ids), "last place"),
    ("11.3", lambda free, n, v: int(free / np.zeros((n, v), "int8").nbytes), "four bytes a value"),
    ("11.3", lambda free, n, v: int(free / np.zeros((n, v), "float16").nbytes), "not two"),
    ("11.3", lambda free, n, v: free / np.zeros((n, v), "float32").nbytes, "round down"),
    ("11.4", lambda train, test: np.isin(test, train).mean(), "case and spaces"),
    ("11.4", lambda train, test: np.isin([t.lower() for t in test], [t.lower() for t in train]).mean(), "spaces are left"),
    ("11.4", lambda train, test: np.isin(evened(test), evened(train)).sum() / len(train), "of the test rows"),
    ("11.5", lambda right, labels: np.mean(right), "subtract"),
    ("11.5", lambda right, labels: np.mean(right) - 1 / len(np.unique(labels)), "Chance"),
    ("11.5", lambda right, labels: np.mean(right) - np.mean(np.array(labels) == labels[-1]), "last row"),
    ("12.1", lambda n, t, share, gpus: float(n / np.prod([t, 1e12, share, gpus])), "Those are seconds"),
    ("12.1", lambda n, t, share, gpus: n / (t * 1e12 / share * gpus) / 3600, "divide by the share"),
    ("12.1", lambda n, t, share, gpus: n / (t * 1e12 * share / gpus * 3600), "divide by their number"),
    ("12.2", lambda shared, whole, gpus: float(np.sum([shared, whole]) / gpus), "not shared out"),
    ("12.2", lambda shared, whole, gpus: float(np.sum([shared, whole])), "split between"),
    ("12.2", lambda shared, whole, gpus: shared + float(np.sum([whole] * gpus)), "all GPUs together"),
    ("12.3", lambda n, gpus, each: n // each if n % each == 0 else None, "divide by their number, too"),
    ("12.3", lambda n, gpus, each: max(round(n / gpus / each), 1), "come out even"),
    ("12.3", lambda n, gpus, each: None if n % gpus else max(n // gpus // each, 1), "Too large a step"),
    ("0.1", lambda text: readable(text) and tuple(json.loads(text)) == KEYS, "bare number"),
    ("1.2", lambda said, answer: said[len(said) - len(answer) :] == answer, "not only at the end"),
    ("1.2", lambda said, answer: subsequence(said, answer) == len(answer), "others come between"),
    ("2.1", lambda n, b, o: n * (2 * b + {"adamw": 2 * b, "adamw_8bit": b, "sgd": 0}[o]) / 1e9, "whatever the weights"),
    ("2.1", lambda n, b, o: n * (2 * b + {"adamw": 2 * b, "adamw_8bit": 1, "sgd": 0}[o]) / 1e9, "so two bytes"),
    ("2.1", lambda n, b, o: n * (2 * b + {"adamw": 8, "adamw_8bit": 2, "sgd": 0}[o]) / 1e9, "own precision"),
    ("2.2", lambda h, n, kv, d, r: 2 * h * d * (n + kv), "full matrices"),
    ("2.2", lambda h, n, kv, d, r: 4 * h + 2 * d * (n + kv), "r is forgotten"),
    ("2.2", lambda h, n, kv, d, r: r * (4 * h + 2 * n * d + 2 * d), "not head_dim"),
    ("2.3", lambda q, f: (q + 2 * f) / 2**30, "whole byte"),
    ("2.3", lambda q, f: (q * (0.5 + 1 / 32) + 2 * f) / 2**30, "half the scale"),
    ("0.1", lambda text: type(json.loads(text)) is dict and [*json.loads(text)] == [*KEYS], "catch ValueError"),
    ("0.1", lambda text: readable(text) and set(json.loads(text)) == set(KEYS), "order of the keys"),
    ("6.3", pack_fullest, "best-fit"),
    ("3.4", lambda mb, shapes, width: math.floor(mb / width / sum(map(sum, shapes))), "megabytes"),
    ("3.4", lambda mb, shapes, width: int(mb * 1e6 / width / sum(map(sum, shapes)) + 0.5), "no longer fits"),
    ("4.3", lambda x, levels: float(np.abs(np.subtract(levels, x)).min()), "That is the distance"),
    ("4.3", lambda x, levels: sum(level < x for level in levels), "level above"),
    ("4.4", lambda quantized, other, bits: quantized * bits / 8e9 + 16e-9 * other, "divide both parts"),
    (
        "5.1",
        lambda r: [{"role": dict(human="user", gpt="assistant")[t["from"]], "content": t["value"]} for t in r["conversations"]],
        "table of names",
    ),
    ("5.2", lambda lengths, size: 100 - 100 * sum(lengths) / padded(lengths, size), "percent"),
    ("5.2", lambda lengths, size: sum(lengths) / padded(lengths, size), "real tokens"),
    (
        "5.2",
        lambda lengths, size: np.mean(
            [1 - np.mean(lengths[i : i + size]) / max(lengths[i : i + size]) for i in range(0, len(lengths), size)]
        ),
        "averages the batches",
    ),
    ("5.3", lambda train, test: [i for i, p in enumerate(test) if alike(p) in alike(" | ".join(train))], "longer one"),
    ("5.5", lambda texts, n: len({g for t in texts for g in as_is(t, n)}) / sum(len(as_is(t, n)) for t in texts), "same word"),
    (
        "5.5",
        lambda texts, n: len({g for t in texts for g in runs(t, n)[:-1]}) / sum(len(runs(t, n)) - 1 for t in texts),
        "last run",
    ),
    ("6.1", lambda m, prompt: turns(m, len(m) < 3), "unasked"),
    ("6.2", lambda ids, header, end: label_answers(ids, header, end, last=len(ids), most=1), "what follows it"),
    ("6.3", pack_emptiest, "emptiest"),
    ("7.2", lambda d_in, d_out, r: d_out * r, "one of the two"),
    ("7.3", lambda n, batch, accumulation, epochs: -(-n * epochs // (batch * accumulation)), "each epoch"),
    ("7.3", lambda n, batch, accumulation, epochs: epochs * (-(-n // batch) // accumulation), "fewer batches"),
    (
        "8.2",
        lambda i, warm, n, top: top * (i / warm if i < warm else math.cos((i - warm) / (n - warm) * math.pi / 2)),
        "quarter",
    ),
    (
        "8.2",
        lambda i, warm, n, top: top * (i / warm if i < warm else 0.5 + math.cos(math.pi * (i - warm) / (n - 1 - warm)) / 2),
        "one after",
    ),
    ("8.4", lambda budget, layers: int(budget / sum(map(sum, layers)) + 0.5), "Round down"),
    ("8.5", lambda d: 1.96 * np.std(d, ddof=1) / math.sqrt(len(d)), "Student"),
    ("8.5", lambda d: float(stats.t.ppf(0.95, len(d) - 1) * stats.sem(d)), "each side"),
    ("8.5", lambda d: float(np.ptp(stats.t.interval(0.95, len(d) - 1, scale=stats.sem(d)))), "whole width"),
    ("8.5", lambda d: float(stats.t.ppf(0.975, len(d)) * stats.sem(d)), "degrees of freedom"),
    ("9.1", lambda task, share: task * share // (1 - share), "not down"),
    (
        "9.3",
        lambda t, g: metrics.precision_score(t, g, labels=sorted(set(t)), average="macro", zero_division=0.0),
        "precision",
    ),
    ("9.3", lambda t, g: metrics.f1_score(t, g, labels=sorted(set(t)), average="weighted", zero_division=0.0), "counts once"),
    ("9.4", lambda w, x: min(1.0, 2 * float(stats.binom.sf(w - 1, w + x, 0.5))), "larger of"),
    ("9.4", lambda w, x: 2 * float(stats.binom.sf(max(w, x), w + x, 0.5)), "this very split"),
    ("10.1", lambda w, a, b, alpha, r: w + alpha * np.dot(b, a), "divided by r"),
    ("10.2", lambda p, q: -float(stats.entropy(p, q)), "sign is turned"),
    ("10.2", lambda p, q: sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)), "leave it out"),
    ("10.3", lambda n, bits: n * (bits / 8), "Those are bytes"),
    ("10.4", lambda ids, eos, limit: ids[-1:] == [eos] and len(ids) < limit, "exactly `limit`"),
    ("11.1", lambda n, p, m: ((np.array(p) >= m).sum(), sum(a > m > b for a, b in zip(n, p, strict=True))), "swapped"),
    ("11.1", lambda n, p, m: (sum(a > m > b for a, b in zip(n, p, strict=True)), sum(b > m for b in p)), "between the two"),
    ("11.2", lambda ids, marker: after(ids, marker[-1:]) or [-100] * len(ids), "whole marker"),
    ("11.3", lambda free, n, v: int(free / (4 * n * v) + 0.5), "round down"),
    ("11.3", lambda free, n, v: free // (v * 4), "`length`"),
    ("11.4", lambda train, test: 100 * np.isin(evened(test), evened(train)).mean(), "percent"),
    ("11.4", lambda train, test: sum(t in " | ".join(evened(train)) for t in evened(test)) / len(test), "longer one"),
    ("11.5", lambda right, labels: np.mean(right) - np.mean(np.array(labels) == labels[0]), "first row"),
    (
        "11.5",
        lambda right, labels: 100 * (np.mean(right) - max(np.unique(labels, return_counts=True)[1]) / len(labels)),
        "percent",
    ),
    ("12.2", lambda shared, whole, gpus: math.floor(shared / gpus) + whole, "fraction"),
    ("12.3", lambda n, gpus, each: int(n / gpus / each), "come out even"),
]
ID = [f"{identifier} {word}" for identifier, _, word in WRONG]


@pytest.mark.parametrize(("identifier", "wrong", "word"), WRONG, ids=ID)
def test_likely_mistake_is_named(identifier, wrong, word):
    named = [sentence for sentence, _ in EXERCISES[identifier].mistakes]
    assert diagnose(identifier, wrong) in named
    assert word in diagnose(identifier, wrong)


def test_every_exercise_has_three_likely_mistakes_tried_here():
    assert {key: n for key in EXERCISES if (n := [i for i, *_ in WRONG].count(key)) < 3} == {}


def test_each_lesson_has_enough_exercises_in_order():
    of = {}
    for identifier in EXERCISES:
        lesson, number = map(int, identifier.split("."))
        of.setdefault(lesson, []).append(number)
    assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in of.values())
    wanted = {lesson: 4 if 2 <= lesson <= 11 else 2 for lesson in of}
    assert set(of) >= set(range(12)) and {lesson: n for lesson, n in wanted.items() if len(of[lesson]) < n} == {}


def test_a_new_lesson_module_is_found_by_its_name():
    folder = project_root() / "lorakit_helpers" / "exercises"
    assert len({identifier.split(".")[0] for identifier in EXERCISES}) == len(list(folder.glob("lesson_*.py")))
    assert not re.search(r"lesson_\d\d", (folder / "__init__.py").read_text().partition('"""\n\n')[2])


def exercise_cells():
    for path in sorted(project_root().glob("notebooks/[0-9][0-9]_*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        yield from ((c.metadata["exercise"], c.source, cells[:i]) for i, c in enumerate(cells) if c.metadata.get("exercise"))


@pytest.mark.parametrize(("identifier", "stub", "before"), exercise_cells(), ids=lambda x: x if str(x)[:1].isdigit() else "")
def test_stub_is_typed_documented_introduced_and_not_solved(identifier, stub, before, monkeypatch):
    (function,) = [node for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef)]
    assert function.returns and all(argument.annotation for argument in function.args.args) and ast.get_docstring(function)
    assert f"**{identifier}**" in before[-1].source and any("import check, hint" in cell.source for cell in before) | (
        "import check, hint" in stub
    )
    monkeypatch.setenv("LORAKIT_STRICT", "1")
    with pytest.raises(LorakitError, match="Nothing is returned yet"):
        exec(compile(stub, identifier, "exec"), {"__name__": "stub", "check": check, "hint": hint, "math": math, "np": np})


@pytest.mark.parametrize("identifier", EXERCISES)
def test_no_named_mistake_hides_behind_another(identifier):
    for sentence, wrong in EXERCISES[identifier].mistakes:
        assert diagnose(identifier, wrong) == sentence


def torch_rate(step, warmup, total, peak):
    done = torch.tensor((step - warmup) / (total - warmup))
    return peak * step / warmup if step < warmup else peak * (1 + torch.cos(math.pi * done)) / 2


def torch_f1(truth, guess):
    return torch.tensor(
        [metrics.f1_score(truth, guess, labels=[x], average="macro", zero_division=0.0) for x in set(truth)]
    ).mean()


#: Right answers written otherwise: in torch's float32, as a fraction, by another algorithm.
RIGHT = [
    ("0.1", lambda text: readable(text) and type(json.loads(text)) is dict and [*json.loads(text)] == [*KEYS]),
    (
        "1.1",
        lambda found, wanted, k: torch.tensor([w in i[:k] for w, i in zip(wanted, found, strict=True)]).float().mean().item(),
    ),
    ("2.1", lambda n, b, o: torch.tensor(n * (2 * b + {"adamw": 2 * b, "adamw_8bit": 2, "sgd": 0}[o])) / 1e9),
    ("3.2", lambda s, r: torch.tensor(s[r:]).norm().item()),
    ("3.2", lambda s, r: np.linalg.norm(np.array(s[r:], dtype=np.float32))),
    ("5.2", lambda lengths, size: Fraction(padded(lengths, size) - sum(lengths), padded(lengths, size))),
    ("5.2", lambda lengths, size: 1 - torch.tensor(lengths).sum() / padded(lengths, size)),
    ("8.2", torch_rate),
    ("8.3", lambda batches: torch.tensor([b[0] * b[1] for b in batches]).sum() / sum(b[1] for b in batches)),
    ("8.5", lambda d: float(stats.t.ppf(0.975, len(d) - 1)) * torch.tensor(d).std() / len(d) ** 0.5),
    ("9.2", lambda nlls: torch.cat([torch.tensor(row) for row in nlls]).mean().exp()),
    ("9.3", torch_f1),
    ("10.1", lambda w, a, b, alpha, r: w + alpha / a.shape[0] * (b @ a)),
    ("10.1", lambda w, a, b, alpha, r: w + alpha / b.shape[1] * np.einsum("or,ri->oi", b, a)),
    ("10.2", lambda p, q: torch.nn.functional.kl_div(torch.tensor(q).log(), torch.tensor(p), reduction="sum")),
    ("11.5", lambda right, labels: torch.tensor(right).float().mean() - max(map(labels.count, labels)) / len(labels)),
    ("12.1", lambda n, t, share, gpus: torch.tensor(n) / (t * 1e12 * share * gpus) / 3600),
]


@pytest.mark.parametrize(("identifier", "right"), RIGHT)
def test_a_right_answer_is_right_however_it_is_written(identifier, right):
    assert diagnose(identifier, right) == ""


#: Wrong ways that no sentence names and that were taken for right once.
REFUSED = [
    ("1.2", lambda said, answer: bool(answer) and answer[0] in said and said[said.index(answer[0]) :][: len(answer)] == answer),
    ("6.5", lambda text, tokens: strip_once(strip_once(text, tokens), tokens)),
    ("9.5", lambda a, b: max((one_scan(a[i:], b) for i in range(len(a))), default=0)),
    ("3.2", lambda s, r: round(math.hypot(*s[r:]), 3)),
    ("3.4", lambda mb, shapes, width: math.floor(mb * 1e3 / width / sum(map(sum, shapes)))),
]


def one_scan(output, source):
    """The longest run with no going back in ``output`` when it breaks."""
    n = best = 0
    for token in source:
        n = n + 1 if n < len(output) and output[n] == token else 0
        best = max(best, n)
    return best


@pytest.mark.parametrize(("identifier", "wrong"), REFUSED)
def test_a_way_that_is_right_by_luck_only_is_refused(identifier, wrong):
    assert diagnose(identifier, wrong)
    assert diagnose(identifier, wrong) not in dict(EXERCISES[identifier].mistakes)


def test_a_message_stays_short_however_long_the_case():
    assert all(len(diagnose(key, lambda *_: "odd")) < 1500 for key in EXERCISES)


@pytest.mark.parametrize("identifier", EXERCISES)
def test_reference_passes_and_comes_back(identifier, capsys):
    reference = EXERCISES[identifier].reference
    assert diagnose(identifier, reference) == "" and check(identifier, reference) is reference
    assert "right" in capsys.readouterr().out


@pytest.mark.parametrize(("identifier", "wrong", "word"), WRONG, ids=ID)
def test_wrong_answer_goes_on_with_the_reference(identifier, wrong, word, capsys):
    assert check(identifier, wrong) is EXERCISES[identifier].reference
    said = capsys.readouterr().out
    assert "not yet" in said and word in said and f"hint({identifier!r})" in said


@pytest.mark.parametrize(("identifier", "wrong", "word"), WRONG, ids=ID)
def test_wrong_answer_raises_in_strict_mode(identifier, wrong, word, monkeypatch):
    monkeypatch.setenv("LORAKIT_STRICT", "1")
    with pytest.raises(LorakitError, match=f"exercise {re.escape(identifier)}") as caught:
        check(identifier, wrong)
    assert word in str(caught.value)


@pytest.mark.parametrize("identifier", EXERCISES)
@pytest.mark.parametrize("empty", [lambda *_: None, lambda *_: ...], ids=["None", "Ellipsis"])
def test_empty_body_is_told_to_return(identifier, empty):
    assert "return" in diagnose(identifier, empty)


@pytest.mark.parametrize("identifier", EXERCISES)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "text", {}, object()])
def test_any_other_value_is_answered_with_a_case(identifier, value):
    assert re.match(r"For .*: expected .*, got ", diagnose(identifier, lambda *_: value), re.S)


def test_code_that_raises_or_is_no_function_is_an_answer_like_any_other():
    def raises(*_):
        raise ZeroDivisionError("division by zero")

    assert "ZeroDivisionError: division by zero" in diagnose("7.1", raises)
    assert "TypeError" in diagnose("7.1", lambda: 1)
    assert "TypeError" in diagnose("7.1", "not a function")


def test_true_is_not_one():
    assert diagnose("0.2", lambda flags: EXERCISES["0.2"].reference(flags) == 1 or EXERCISES["0.2"].reference(flags))
    assert diagnose("0.1", lambda text: int(EXERCISES["0.1"].reference(text)))


def test_array_instead_of_a_list_does_not_stop_the_notebook():
    assert check("7.4", lambda ids, n: np.array([-100] * n + ids[n:])) is EXERCISES["7.4"].reference


def test_arrays_and_tensors_are_compared_by_kind_shape_and_value():
    from lorakit_helpers.exercises import _same

    for kind in (np.array, torch.tensor):
        assert _same(kind([1.0, 2.0]), kind([1.0, 2.0 + 1e-9]))
        assert not _same(kind([1.0, 2.0]), kind([1.0, 2.1])) and not _same(kind([1.0]), kind([[1.0]]))
    assert not _same(np.array([1.0]), torch.tensor([1.0])) and not _same(np.array([1.0]), [1.0])


def test_a_number_of_numpy_or_torch_is_a_number():
    assert diagnose("7.1", lambda alpha, r: np.float64(alpha / r)) == ""


def test_mask_that_changes_its_input_is_not_right():
    def mask_in_place(ids, n):
        ids[:n] = [-100] * n
        return ids

    assert diagnose("7.4", mask_in_place)


def test_reference_values_equal_plain_formulas():
    oracles = {
        "5.2": lambda lengths, size: np.subtract(1, np.divide(sum(lengths), padded(lengths, size))),
        "5.5": lambda texts, n: len({r for t in texts for r in runs(t, n)}) / sum(len(runs(t, n)) for t in texts),
        "4.1": lambda size: (4 * size + 32) / size,
        "4.2": lambda size, nested: (4 * size * nested + 8 * nested + 32) / (size * nested),
        "4.3": lambda x, levels: np.abs(np.array(levels) - x).argmin(),
        "4.4": lambda quantized, other, bits: np.dot([quantized, other], [bits, 16]) / 8 / 1e9,
        "3.1": lambda w, b, a, scaling: w + scaling * np.einsum("or,ri->oi", b, a),
        "3.2": lambda s, r: np.linalg.norm(np.diag(s) - np.diag(s[:r] + [0.0] * (len(s) - r))),
        "3.3": lambda d_in, d_out: max(r for r in range(d_in + d_out) if r * (d_in + d_out) < d_in * d_out),
        "3.4": lambda mb, shapes, width: (
            bisect_right(range(10**8), mb * 10**6, key=lambda r: width * r * sum(map(sum, shapes))) - 1
        ),
        "7.1": lambda alpha, r: np.divide(alpha, r),
        "7.2": lambda d_in, d_out, r: np.zeros((r, d_in)).size + np.zeros((d_out, r)).size,
        "7.3": lambda n, b, a, e: e * len(range(0, len(range(0, n, b)), a)),
        "7.4": lambda ids, n: np.where(np.arange(len(ids)) < n, -100, ids).tolist(),
        "0.2": lambda flags: np.mean(flags) if flags else 0.0,
        "9.1": lambda task, share: next(g for g in range(9999) if abs(g - share * (g + task)) <= 0.5 * (1 - share)),
        "9.2": lambda nlls: np.exp(np.concatenate(nlls).mean()),
        "9.3": lambda t, g: metrics.f1_score(t, g, labels=sorted(set(t)), average="macro", zero_division=0.0),
        "9.4": lambda w, x: stats.binomtest(w, w + x).pvalue if w + x else 1.0,
        "9.5": lambda a, b: SequenceMatcher(None, a, b, autojunk=False).find_longest_match().size,
        "11.2": lambda ids, marker: after(ids, marker) or [-100] * len(ids),
        "11.3": lambda free, n, v: free // np.zeros((n, v), "float32").nbytes,
        "11.4": lambda train, test: np.isin(evened(test), evened(train)).mean(),
        "11.5": lambda right, labels: (
            np.mean(right) - stats.mode(np.unique(labels, return_inverse=True)[1]).count / len(labels)
        ),
        "10.2": lambda p, q: stats.entropy(p, q),
        "2.1": lambda n, b, o: n * b / 1e9 * (2 + {"adamw": 2, "adamw_8bit": 2 / b, "sgd": 0}[o]),
        "2.2": lambda h, n, kv, d, r: sum(r * (i + o) for i, o in ((h, n * d), (h, kv * d), (h, kv * d), (n * d, h))),
        "2.3": lambda q, f: (4.5 * q + 16 * f) / 8 / 2**30,
        "2.4": lambda b, s, v: np.broadcast_to(np.float32(0), (b, s, v)).size * np.float32(0).nbytes / 2**30,
    }
    for identifier, oracle in oracles.items():
        for case in EXERCISES[identifier].cases:
            assert EXERCISES[identifier].reference(*case) == pytest.approx(oracle(*case))


def test_unknown_exercise_is_named_with_the_known_ones():
    for call in (lambda: check("9.9", max), lambda: hint("9.9"), lambda: diagnose("9.9", max)):
        with pytest.raises(LorakitError, match=r"'9\.9'") as caught:
            call()
        assert all(identifier in str(caught.value) for identifier in EXERCISES)


@pytest.mark.parametrize("identifier", EXERCISES)
def test_hints_go_from_a_nudge_to_nearly_the_answer(identifier, capsys):
    first, last = EXERCISES[identifier].hints
    for step, (text, offers_more) in {0: (first, True), 1: (first, True), 2: (last, False), 99: (last, False)}.items():
        hint(identifier, step)
        said = capsys.readouterr().out
        assert said.startswith(text) and ("More:" in said) is offers_more


def solution_files():
    return sorted((project_root() / "notebooks" / "solutions").glob("*.py"))


def test_there_are_solutions():
    assert solution_files()


@pytest.mark.parametrize("path", solution_files(), ids=lambda path: path.stem)
def test_solution_ids_are_the_notebooks_exercise_ids(path):
    (notebook,) = project_root().glob(f"notebooks/{path.stem}_*.ipynb")
    cells = [c.metadata.get("exercise") for c in nbformat.read(notebook, as_version=4).cells]
    ids = [identifier for identifier in cells if identifier]
    solved = re.findall(r"^# %% \[ex:(.+)\]$", path.read_text(encoding="utf-8"), re.M)
    assert solved == ids == [identifier for identifier in EXERCISES if identifier.split(".")[0] == str(int(path.stem))]


@pytest.mark.parametrize("path", solution_files(), ids=lambda path: path.stem)
def test_solutions_pass_in_strict_mode(path, monkeypatch, capsys):
    monkeypatch.setenv("LORAKIT_STRICT", "1")
    text = path.read_text(encoding="utf-8")
    exec(compile(text, str(path), "exec"), {"__name__": "solution"})
    assert capsys.readouterr().out.count(": right.") == text.count("# %% [ex:")


def test_every_notebook_with_exercises_has_solutions():
    stems = {path.stem for path in solution_files()}
    for path in project_root().glob("notebooks/[0-9][0-9]_*.ipynb"):
        cells = nbformat.read(path, as_version=4).cells
        assert any(c.metadata.get("exercise") for c in cells) <= (path.stem[:2] in stems)
