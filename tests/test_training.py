"""Training: masks, guards, determinism, resume after a kill, both engines, each on a tiny model in its own process."""

import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.training import (
    check_labels,
    check_targets,
    collated,
    guard_model,
    guard_versions,
    last_checkpoint,
    sft_arguments,
    unpack_on_cpu,
)

RECIPE = Recipe(
    r=4, lora_alpha=8, learning_rate=1e-3, max_steps=6, warmup_steps=1, per_device_train_batch_size=2, logging_steps=1,
    save_steps=2, attn_implementation="eager",
)  # fmt: skip


def child(code: str, *arguments, expect=0) -> str:
    """Run code in a fresh interpreter (Unsloth patches the one it is imported into) and return what it printed."""
    code = "from lorakit_helpers.start import start; start('smoke')\n" + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, env={**os.environ}, timeout=300
    )
    assert done.returncode == expect, done.stderr[-3000:]
    return done.stdout


RUN = """
import json, sys
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.tickets import load_split, to_conversation
from lorakit_helpers.training import train
from torch._dynamo.utils import counters
base, out, engine, steps, seed, compiled = sys.argv[1:7]
recipe = Recipe(r=4, lora_alpha=8, learning_rate=1e-3, max_steps=int(steps), warmup_steps=1, per_device_train_batch_size=2,
                logging_steps=1, save_steps=2, attn_implementation="eager", seed=int(seed), torch_compile=compiled == "True")
run = train(recipe, [to_conversation(t) for t in load_split("train")[:16]], base, engine=engine, output_dir=out)
print("RESULT" + json.dumps({"losses": run.log.losses, "steps": run.log.steps, "resumed": run.resumed_from,
                             "tokens": run.log.tokens, "frames": counters["frames"]["ok"]}))
"""


def train_in_child(tiny, out, engine="unsloth", steps=6, seed=42, compiled=False):
    return json.loads(child(RUN, tiny, out, engine, steps, seed, compiled).split("RESULT")[1])


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """What an undisturbed run reports, the one the tests below compare others with."""
    return train_in_child(tiny, tmp_path_factory.mktemp("whole"))


@pytest.mark.training
def test_the_same_seed_gives_the_same_losses_and_another_seed_does_not(tiny, tmp_path, whole):
    first, second, other = whole, train_in_child(tiny, tmp_path / "a"), train_in_child(tiny, tmp_path / "b", seed=7)
    assert first["losses"] == second["losses"]
    assert first["losses"] != other["losses"]
    assert len(first["losses"]) == 6 and first["tokens"] > 0


@pytest.mark.training
def test_both_engines_learn_alike(tiny, tmp_path, whole):
    plain = train_in_child(tiny, tmp_path / "plain", "plain")
    assert whole["losses"] == pytest.approx(plain["losses"], rel=0.02)


@pytest.mark.training
def test_compiled_layers_learn_alike(tiny, tmp_path, whole):
    compiled = train_in_child(tiny, tmp_path / "compiled", compiled=True)
    assert compiled["frames"] > whole["frames"]
    assert compiled["losses"] == pytest.approx(whole["losses"], rel=0.02)


@pytest.mark.training
def test_a_killed_run_goes_on_from_its_checkpoint_to_the_same_losses(tiny, tmp_path, whole):
    kill = RUN.replace(
        "run = train(", "import os, signal\nrun = train("
    ).replace(
        "output_dir=out)",
        "output_dir=out, listeners=[lambda log: log.step == 5 and os.kill(os.getpid(), signal.SIGKILL)])",
    )  # fmt: skip
    child(kill, tiny, tmp_path / "killed", "unsloth", 6, 42, False, expect=-9)
    again = train_in_child(tiny, tmp_path / "killed")
    assert again["resumed"] == 4
    assert again["losses"] == pytest.approx(whole["losses"], rel=1e-6)


def test_a_checkpoint_cut_off_before_its_end_is_passed_over(tmp_path):
    for step, text in ((2, "{}"), (4, "{"), (10, None)):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if text is not None:
            (folder / "trainer_state.json").write_text(text)
    assert last_checkpoint(tmp_path).name == "checkpoint-2"
    assert last_checkpoint(tmp_path / "none") is None


GUARD = """
import sys, torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from lorakit_helpers.training import guard_model
config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16, quantization_config=config)
layer = model.model.layers[0].self_attn.q_proj
if not layer.support_avx512bf16_for_cpu:
    print("NOT HERE"); sys.exit()
if sys.argv[2] == "guarded":
    assert guard_model(model) == 14
before = layer.weight.data.clone()
with torch.no_grad():
    model.eval()(input_ids=torch.arange(20)[None])
same = layer.weight.data.shape == before.shape and torch.equal(layer.weight.data, before)
print("UNTOUCHED" if same else "REPACKED")
"""


@pytest.mark.training
def test_evaluating_before_training_leaves_guarded_4_bit_weights_untouched(tiny):
    unguarded = child(GUARD, tiny, "unguarded").strip()
    if unguarded == "NOT HERE":
        pytest.skip("this processor has no AVX512-BF16, bitsandbytes does not repack here")
    assert unguarded == "REPACKED", "bitsandbytes no longer repacks: the guard can go"
    assert child(GUARD, tiny, "guarded").strip() == "UNTOUCHED"


UNPACK = """
import sys, torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from lorakit_helpers.training import unpack_on_cpu
config = BitsAndBytesConfig(
    load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.bfloat16
)
full = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16)
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.bfloat16, quantization_config=config)
packed = {name: module for name, module in model.named_modules() if isinstance(module, Linear4bit)}
want = {name: dequantize_4bit(layer.weight.data, layer.weight.quant_state) for name, layer in packed.items()}
model = unpack_on_cpu(model)
for name, weight in want.items():
    layer = model.get_submodule(name)
    assert type(layer) is torch.nn.Linear and layer.weight.dtype == torch.bfloat16, name
    assert torch.equal(layer.weight, weight), name
    assert not torch.equal(layer.weight, full.get_submodule(name).weight), name  # rounded to NF4, not the original
print("SAME", len(want))
"""


@pytest.mark.training
def test_unpacked_weights_are_those_bitsandbytes_dequantizes_bit_for_bit(tiny):
    assert child(UNPACK, tiny).strip().endswith("SAME 14")


def test_a_model_without_4_bit_weights_is_not_unpacked(tiny):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny)
    before = {name: p.clone() for name, p in model.named_parameters()}
    assert unpack_on_cpu(model) is model
    assert all(p.equal(before[name]) for name, p in model.named_parameters())


def test_trl_with_triton_losses_is_refused_without_a_gpu():
    guard_versions("cpu", "1.14.0")
    guard_versions("cuda", "1.16.0")
    for bad in ("1.15.0", "2.0"):
        with pytest.raises(LorakitError, match=r"trl==1\.14\.0"):
            guard_versions("cpu", bad)


def test_8_bit_adamw_is_replaced_where_there_is_no_gpu(tiny, tmp_path, train_rows):
    out = child(
        """
        import sys
        from lorakit_helpers.recipes import Recipe
        from lorakit_helpers.tickets import load_split, to_conversation
        from lorakit_helpers.training import build_trainer, load_plain
        recipe = Recipe(r=2, lora_alpha=2, optim="adamw_8bit")
        model, tokenizer = load_plain(sys.argv[1], recipe)
        rows = [to_conversation(ticket) for ticket in load_split("train")[:4]]
        trainer = build_trainer(model, tokenizer, rows, recipe, sys.argv[2], "plain")
        print(trainer.args.optim)
        """,
        tiny, tmp_path,
    )  # fmt: skip
    assert "adamw_torch_fused" in out.lower() or "ADAMW_TORCH_FUSED" in out


MASK = """
import json, sys
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.tickets import answer_text, load_split, to_conversation
from lorakit_helpers.training import build_trainer, load_plain, load_unsloth
base, out, engine = sys.argv[1:4]
recipe = Recipe(r=2, lora_alpha=2)
model, tokenizer = {"plain": load_plain, "unsloth": load_unsloth}[engine](base, recipe)
tickets = load_split("train")[:8]
trainer = build_trainer(model, tokenizer, [to_conversation(t) for t in tickets], recipe, out, engine)
batch = trainer.data_collator([trainer.train_dataset[i] for i in range(8)])
texts = [tokenizer.decode(row[row != -100]) for row in batch["labels"]]
print("RESULT" + json.dumps({"got": texts, "want": [answer_text(t.answer) + "<|im_end|>\\n" for t in tickets]}))
"""


REPEAT = """
import sys
from pathlib import Path
import bitsandbytes.functional as functional
from lorakit_helpers import training
from lorakit_helpers.recipes import Recipe
from lorakit_helpers.tickets import load_split, to_conversation
from safetensors.torch import load_file, save_file
base, out = Path(sys.argv[1]), Path(sys.argv[2])
recipe = Recipe(r=4, lora_alpha=8, learning_rate=1e-3, max_steps=6, warmup_steps=1, per_device_train_batch_size=2,
                logging_steps=1, save_steps=9, attn_implementation="eager")
rows, quantize, calls = [to_conversation(t) for t in load_split("train")[:12]], functional.quantize_4bit, []
functional.quantize_4bit = lambda *a, **o: calls.append(1) or quantize(*a, **o)
losses = []
for name in ("quantized", "remembered"):
    losses.append(training.train(recipe, rows, str(base), output_dir=out / name).log.losses)
    print("RESULT", name, len(calls))
print("RESULT same", losses[0] == losses[1], losses[0][-1] < losses[0][0])
weights = load_file(base / "model.safetensors")
name = next(name for name in weights if "mlp.up_proj" in name)
save_file(weights | {name: weights[name] * 2}, base / "model.safetensors", metadata={"format": "pt"})
changed = training.train(recipe, rows, str(base), output_dir=out / "changed").log.losses
print("RESULT changed", len(calls), changed[0] != losses[0][0])
"""


@pytest.mark.training
def test_a_base_is_quantized_once_in_a_process_and_trains_the_same_to_the_last_bit(tiny, tmp_path):
    base = shutil.copytree(tiny, tmp_path / "base")
    found = [line.split()[1:] for line in child(REPEAT, base, tmp_path).splitlines() if line.startswith("RESULT")]
    quantized, remembered, same, changed = found
    assert int(quantized[1]) > 0 and quantized[1] == remembered[1]
    assert same == ["same", "True", "True"]
    assert int(changed[1]) > int(remembered[1]) and changed[2] == "True"  # other weights in the same place


@pytest.mark.training
@pytest.mark.parametrize("engine", ["unsloth", "plain"])
def test_the_labels_are_the_answer_and_its_end_mark_and_nothing_else(tiny, tmp_path, engine):
    result = json.loads(child(MASK, tiny, tmp_path, engine).split("RESULT")[1])
    assert result["got"] == result["want"]


@pytest.mark.training
def test_a_mask_that_trains_nothing_or_never_stops_is_refused(tiny, tmp_path):
    out = child(
        """
        import sys
        from lorakit_helpers.errors import LorakitError
        from lorakit_helpers.recipes import Recipe
        from lorakit_helpers.tickets import load_split, to_conversation
        from lorakit_helpers.training import build_trainer, load_plain
        rows = [to_conversation(t) for t in load_split("train") if 12 <= len(t.ticket.split()) <= 16][:4]
        for limit in (512, 60, 20):  # 60 tokens cut the answers' ends off, 20 leave no answer at all
            recipe = Recipe(r=2, lora_alpha=2, max_length=limit)
            model, tokenizer = load_plain(sys.argv[1], recipe)
            try:
                build_trainer(model, tokenizer, rows, recipe, sys.argv[2], "plain")
                print("fine")
            except LorakitError as error:
                print(error)
        """,
        tiny, tmp_path,
    ).strip().splitlines()  # fmt: skip
    assert out[-3] == "fine" and "loss mask" in out[-2] and "max_length" in out[-2]
    assert "0 left of 4" in out[-1] and "max_length" in out[-1]


def test_a_target_the_model_lacks_is_named_with_the_nearest(tiny):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny)
    check_targets(model, RECIPE)
    with pytest.raises(LorakitError, match="Did you mean 'q_proj'"):
        check_targets(model, RECIPE.but(target_modules=("q_prj",)))


def test_guarding_a_model_without_4_bit_layers_changes_nothing(tiny):
    from transformers import AutoModelForCausalLM

    assert guard_model(AutoModelForCausalLM.from_pretrained(tiny)) == 0


@pytest.mark.training
def test_the_plain_engine_refuses_a_process_that_unsloth_has_patched(tiny):
    out = child(
        """
        import sys, unsloth
        from lorakit_helpers.recipes import Recipe
        from lorakit_helpers.training import load_plain
        try:
            load_plain(sys.argv[1], Recipe())
        except ValueError as error:
            print(error)
        """,
        tiny,
    )  # fmt: skip
    assert "Restart the kernel" in out


def test_every_trainer_argument_is_one_sftconfig_knows():
    import dataclasses

    from trl import SFTConfig

    known = {f.name for f in dataclasses.fields(SFTConfig)}
    for engine in ("unsloth", "plain"):
        assert set(sft_arguments(RECIPE, "x", engine)) <= known


@pytest.mark.training
def test_an_adapter_is_saved_whole_or_not_at_all_and_plain_peft_loads_it(tiny, tmp_path, tokenizer, monkeypatch):
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    from lorakit_helpers.training import save_adapter

    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), config)
    folder = save_adapter(model, tokenizer, tmp_path / "a", recipe=RECIPE)
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), folder)
    ids = torch.arange(10)[None]
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, again(ids).logits)
    assert json.loads((folder / "lorakit_run.json").read_text())["recipe"]["r"] == 4
    names = sorted(p.name for p in folder.iterdir())
    assert not [n for n in names if n.endswith((".bin", ".pkl", ".pt"))]

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tokenizer, "save_pretrained", fail)
    with pytest.raises(LorakitError, match="No space left"):
        save_adapter(model, tokenizer, folder)
    assert sorted(p.name for p in folder.iterdir()) == names
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("padding_free", [False, True])
def test_rows_are_collated_alike_with_and_without_padding(padding_free):
    """Unsloth makes batches without padding on a GPU: all rows end to end, and no attention mask."""
    from types import SimpleNamespace

    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    rows = [{"input_ids": [5, 6, 7, 2], "completion_mask": [0, 0, 1, 1]}, {"input_ids": [8, 9], "completion_mask": [0, 1]}]
    rows = [row | {"labels": [i if m else -100 for i, m in zip(*row.values(), strict=True)]} for row in rows] * 3
    collator = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=padding_free)
    made = list(collated(SimpleNamespace(train_dataset=rows, data_collator=collator), at_once=4))
    assert [count for _, count in made] == [4, 2] * 3
    assert [labels[labels != -100].tolist() for labels, _ in made] == [[7, 2], [9]] * 3


def test_an_answer_without_its_end_is_found_wherever_the_row_stands():
    from types import SimpleNamespace

    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    rows = [{"input_ids": [5, 6, 2], "labels": [-100, 6, 2]} for _ in range(70)]
    trainer = SimpleNamespace(
        train_dataset=rows, data_collator=DataCollatorForLanguageModeling(pad_token_id=0), args=SimpleNamespace(max_length=8)
    )
    tokenizer = SimpleNamespace(eos_token_id=2, eos_token="<end>")
    assert check_labels(trainer, tokenizer, rows=70) == {"tokens": 12, "trained_tokens": 8}
    rows[68] = {"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}
    with pytest.raises(LorakitError, match=r"1 of 70 answers without <end>, row 68"):
        check_labels(trainer, tokenizer, rows=70)


def test_batches_keep_their_padding_on_every_engine():
    assert [sft_arguments(RECIPE, "x", engine)["padding_free"] for engine in ("unsloth", "plain")] == [False, False]
