"""The loss mask is the trainer's own: compared with the labels of SFTTrainer's collator, on both engines."""

import json
import os
import subprocess
import sys

import pytest

from lorakit_helpers.templates import find_family, labelled_rows, tokenize_row
from lorakit_helpers.tickets import load_split, to_conversation

CHAT = [
    {"role": "user", "content": "Where is order 4711?"},
    {"role": "assistant", "content": "It left today 🎈."},
    {"role": "user", "content": "Thanks"},
    {"role": "assistant", "content": "Any time!"},
]
SYSTEM = {"role": "system", "content": "Be brief."}

# Prints, for each case, what the collator of a trainer built on it makes, row by row, or the error it ends with.
CHILD = """
import json, sys
from lorakit_helpers.start import start
start("smoke")
folder, engine, cases = sys.argv[1], sys.argv[2], json.load(open(sys.argv[3]))
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.training import load_plain, load_unsloth
recipe = Recipe(r=4, lora_alpha=8, max_steps=1, warmup_steps=0, attn_implementation="eager")
model, tokenizer = {"unsloth": load_unsloth, "plain": load_plain}[engine](folder, recipe)
import datasets
from trl import SFTConfig, SFTTrainer
datasets.disable_progress_bars()
own, out = tokenizer.chat_template, {}
for name, case in cases.items():
    tokenizer.chat_template = case["template"] or own
    arguments = dict(output_dir=sys.argv[4], use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, loss_type="nll")
    try:
        trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=datasets.Dataset.from_list(case["rows"]),
                             args=SFTConfig(**arguments, **case["options"]))
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(trainer.train_dataset))])
        used = batch["attention_mask"].bool()
        out[name] = [[batch[k][i][used[i]].tolist() for k in ("input_ids", "labels")] for i in range(len(used))]
        assert (batch["labels"][~used] == -100).all()
    except Exception as error:
        out[name] = type(error).__name__ + ": " + str(error)
if engine == "unsloth":  # what its rewritten trainer falls back on; on a CPU Unsloth leaves trl's trainer as it is
    from unsloth_zoo.dataset_utils import train_on_responses_only
    for name, case in cases.items():
        if case["unmarked"]:
            tokenizer.chat_template = case["template"] or own
            ids = tokenizer.apply_chat_template(case["rows"][0]["messages"], tokenize=True, return_dict=False)
            try:
                mask = train_on_responses_only(None, tokenizer=tokenizer, return_function=True)
                out["responses only, " + name] = [[ids, mask({"input_ids": [ids]})["labels"][0]]]
            except ValueError as error:
                out["responses only, " + name] = str(error)
print("RESULT" + json.dumps(out))
"""


def messages_row(family) -> dict:
    return {"messages": CHAT if family in ("gemma", None) else [SYSTEM, *CHAT]}


@pytest.fixture(scope="module")
def cases() -> dict:
    """Name to (rows, template, options of SFTConfig); the options are tokenize_row's too."""
    pairs = [to_conversation(ticket) for ticket in load_split("train")[:3]]
    only = {"assistant_only_loss": True}
    cases = {
        "tickets": (pairs, None, {}),
        "tickets cut": (pairs, None, {"max_length": 140}),
        "tickets, everything": (pairs, None, {"completion_only_loss": False}),
        "tickets, wrong template": (pairs, "llama-3", {}),
        "tickets, both masks": (pairs, "qwen2.5", only),
        "chat, everything": ([messages_row(None)], None, {}),
    }
    for family in MARKED:
        cases[f"chat {family}"] = ([messages_row(family)], family, only)
    for family in UNMARKED:
        cases[f"chat {family}"] = ([messages_row(family)], None if family == "smollm2" else family, only)
    return cases


MARKED = ("qwen2.5", "qwen3", "llama-3", "gemma", "gemma-3", "phi-3")  # trl has variants with generation marks
UNMARKED = ("smollm2", "chatml", "llama-2", "llama-3.1", "mistral", "phi-4", "zephyr")


@pytest.fixture(scope="module", params=["plain", "unsloth"])
def trained(request, cases, tiny, tokenizer, tmp_path_factory):
    """Engine and what its collator made of each case."""
    folder = tmp_path_factory.mktemp(request.param)
    plan = {
        name: {"rows": rows, "template": template and find_family(template).template, "options": options}
        | {"unmarked": name.removeprefix("chat ") in UNMARKED}
        for name, (rows, template, options) in cases.items()
    }
    plan["labelled"] = {"rows": labelled(tokenizer), "template": None, "options": {}, "unmarked": False}
    path = folder / "cases.json"
    path.write_text(json.dumps(plan), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", CHILD, tiny, request.param, str(path), str(folder / "out")],
        capture_output=True, text=True, env={**os.environ}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return request.param, json.loads(done.stdout.split("RESULT")[1])


def labelled(tokenizer) -> list[dict]:
    return labelled_rows([{"messages": [SYSTEM, *CHAT]}], tokenizer, assistant_only_loss=True)


def expected(case, tokenizer) -> list:
    rows, template, options = case
    tokenized = [tokenize_row(row, tokenizer, template=template, **options) for row in rows]
    return [[list(row.ids), list(row.labels)] for row in tokenized if not row.dropped]


@pytest.mark.training
def test_the_mask_is_the_collators(trained, cases, tokenizer):
    names = [name for name in cases if name.removeprefix("chat ") not in UNMARKED]
    assert len(names) == 6 + len(MARKED)
    assert [name for name in names if trained[1][name] != expected(cases[name], tokenizer)] == []


@pytest.mark.training
def test_a_row_whose_answer_is_cut_off_whole_is_dropped_without_a_word(trained, cases, tokenizer):
    rows, _, options = cases["tickets cut"]
    dropped = [tokenize_row(row, tokenizer, **options).dropped for row in rows]
    assert len(trained[1]["tickets cut"]) == dropped.count(False)
    assert {True, False} == set(dropped)


@pytest.mark.training
def test_rows_with_labels_of_their_own_are_trained_as_they_are(trained, tokenizer):
    row = labelled(tokenizer)[0]
    assert trained[1]["labelled"] == [[row["input_ids"], row["labels"]]]
    assert -100 in row["labels"] and tokenizer.eos_token_id in row["labels"]


@pytest.mark.training
def test_trl_refuses_assistant_only_loss_without_marks_as_the_check_says(trained):
    for family in UNMARKED:
        assert "not training-compatible" in trained[1][f"chat {family}"], family


@pytest.mark.training
def test_the_fallback_is_the_mask_unsloth_falls_back_on(trained, cases, tokenizer):
    engine, got = trained
    if engine == "plain":
        assert not any(name.startswith("responses only") for name in got)
        return
    names = [f"chat {family}" for family in UNMARKED if family != "llama-3.1"]
    assert [name for name in names if got[f"responses only, {name}"] != expected(cases[name], tokenizer)] == []
    # in a vocabulary without its control tokens Unsloth cannot tell where Llama 3.1's turns begin, and says so
    assert "Could not reliably auto-detect" in got["responses only, chat llama-3.1"]
