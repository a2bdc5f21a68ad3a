"""Merging, swapping, GGUF and the ladder, on a tiny Llama with an adapter of random weights.

What needs llama.cpp's parts is skipped without them and says so: `make gguf` installs them.
"""

import json
import os
import shutil
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy.stats import entropy

from lorakit_helpers.errors import LorakitError
from lorakit_helpers.export._unsloth import MARK
from lorakit_helpers.export.gguf import Tools, convert, export_gguf, find_tools, lora_to_gguf, quantize
from lorakit_helpers.export.header import read_header
from lorakit_helpers.export.ladder import GgufModel, TorchModel, folder_mib, kl_divergence, ladder_table, measure_rung
from lorakit_helpers.export.merging import check_vocabulary, merge_adapter, merge_in_place, model_card
from lorakit_helpers.export.swapping import BASE, answer_with, switch, switch_cost
from lorakit_helpers.models import load_model
from lorakit_helpers.tickets import load_split, to_conversation, to_messages

TOOLS = find_tools()
converter = pytest.mark.skipif(not TOOLS.converter, reason="no GGUF converter here: run `make gguf`")
llama = pytest.mark.skipif(not (TOOLS.converter and TOOLS.bindings), reason="no llama-cpp-python here: run `make gguf`")


def new_adapter(base, folder, tokenizer, seed=0, **options):
    """A saved adapter with random A and B."""
    from peft import LoraConfig, get_peft_model

    model, _ = load_model(base)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        init_lora_weights=False, **options,
    )  # fmt: skip
    get_peft_model(model, config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def adapter(tiny, tokenizer, tmp_path_factory):
    return new_adapter(tiny, tmp_path_factory.mktemp("adapter"), tokenizer)


@pytest.fixture(scope="module")
def merged(adapter, tiny, tmp_path_factory):
    return merge_adapter(adapter, tiny, tmp_path_factory.mktemp("merged") / "tiny-merged")


@pytest.fixture(scope="module")
def ids(tokenizer):
    chat = to_messages(load_split("test")[0].ticket)
    return tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]


def logits(model, ids):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0].float()


def test_merged_logits_are_the_adapters_within_16_bit_rounding(adapter, merged, tiny, ids):
    apart, whole = load_model(tiny, adapter)[0], load_model(str(merged))[0]
    a, b = logits(apart, ids), logits(whole, ids)
    plain = logits(load_model(tiny)[0], ids)
    assert (a - b).abs().mean() < 0.02 * (a - plain).abs().mean()
    exact = merge_in_place(load_model(tiny, adapter)[0].float())
    assert torch.allclose(logits(exact, ids), logits(load_model(tiny, adapter)[0].float(), ids), atol=1e-4)


def test_merged_folder_stands_alone(merged, tokenizer):
    names = {path.name for path in merged.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "README.md", "tokenizer.json"} <= names
    assert not any(name.endswith((".bin", ".pt")) for name in names)
    model, own = load_model(str(merged))
    assert own.chat_template == tokenizer.chat_template and model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert not hasattr(model, "peft_config")


def test_another_bases_adapter_a_changed_vocabulary_and_a_full_disk_are_refused_and_leave_nothing(
    adapter, tiny, base, tokenizer, tmp_path, monkeypatch
):
    target = tmp_path / "merged"
    with pytest.raises(LorakitError, match="an adapter of"):
        merge_adapter(adapter, base, target)
    from transformers import AutoTokenizer

    grown = AutoTokenizer.from_pretrained(tiny)
    grown.add_tokens(["<ticket>"])
    with pytest.raises(LorakitError, match="'<ticket>'"):
        check_vocabulary(grown, tiny)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(LorakitError, match="disk space for the merged model"):
        merge_adapter(adapter, tiny, target)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_save_leaves_the_old_folder_whole(adapter, tiny, tmp_path, monkeypatch):
    target = tmp_path / "merged"
    target.mkdir()
    (target / "old").write_text("kept")
    monkeypatch.setattr("lorakit_helpers.export.merging.model_card", lambda *a: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        merge_adapter(adapter, tiny, target)
    assert [path.name for path in tmp_path.iterdir()] == ["merged"] and (target / "old").read_text() == "kept"


def test_merging_into_four_bits_warns_and_sixteen_bits_do_not(adapter, tiny, recwarn):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    merge_in_place(load_model(tiny, adapter)[0])
    assert not any("rounds the merged weights" in str(w.message) for w in recwarn)
    config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)
    four = AutoModelForCausalLM.from_pretrained(tiny, quantization_config=config, dtype=torch.bfloat16, device_map="cpu")
    with pytest.warns(UserWarning, match="rounds the merged weights"):
        merge_in_place(PeftModel.from_pretrained(four, adapter))


def test_model_card_names_recipe_results_and_licence(tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: llama3.1\n---\n# A base\n")
    card = model_card("mine", str(tmp_path), {"recipe": {"r": 8}, "key": "abc"})
    assert "license: llama3.1" in card and "- r: 8" in card and "abc" in card and "Not measured." in card
    metric = {"name": "exact match", "value": 0.5, "low": 0.25, "high": 0.75}
    report = SimpleNamespace(data={"rows": 4, "name": "test", "hash": "h"}, metrics={"exact match": metric})
    assert "exact match: 50.0% [25.0%, 75.0%]" in model_card("mine", str(tmp_path), {}, report)


@pytest.mark.parametrize(
    ("said", "licence"),
    [
        ("---\nlicense: other\nlicense_name: own\nlicense_link: x\n---\n", {"license": "other", "license_name": "own"}),
        ("---\nlicense: [mit]\n---\n", {"license": ["mit"]}),
        ("# no front matter\n", {"license": "other", "license_name": "that-of-the-base-model"}),
        ("---\nlicense: [a\n---\n", {"license": "other", "license_name": "that-of-the-base-model"}),
        ("---\n- a list\n---\n", {"license": "other", "license_name": "that-of-the-base-model"}),
        (None, {"license": "other", "license_name": "that-of-the-base-model"}),
    ],
    ids=["own licence", "a list", "no front matter", "broken", "no mapping", "no card"],
)
def test_model_card_is_one_that_the_hub_reads_and_promises_no_licence_that_nobody_gave(said, licence, tmp_path, capsys):
    from huggingface_hub import ModelCard

    if said is not None:
        (tmp_path / "README.md").write_text(said)
    found = ModelCard(model_card("mine", str(tmp_path), {})).data.to_dict()
    assert {key: found.get(key) for key in licence} == licence and found["base_model"] == tmp_path.name
    assert capsys.readouterr().out == ""


def test_model_card_names_the_published_model(base):
    from huggingface_hub import ModelCard

    own, hub = (ModelCard(model_card("mine", name, {})).data for name in (base, "someone/unheard-of"))
    assert (own.base_model, own.license) == ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")
    assert (hub.base_model, hub.license) == ("someone/unheard-of", "other")


def test_the_card_cites_the_newest_report_on_this_very_training(adapter, tiny, tmp_path):
    from lorakit_helpers.evalreport import evaluate_adapter, write_report

    own = shutil.copytree(adapter, tmp_path / "own")
    (own / "lorakit_run.json").write_text(json.dumps({"recipe": {"r": 4}, "log": {"steps": [1]}}))
    reports = tmp_path / "reports"
    report = evaluate_adapter(own, load_split("test")[:2], tiny, data_name="two tickets")
    path, _ = write_report(report, reports, "<p></p>")
    strangers = {
        "own-later": replace(report, recipe={"r": 99}, data=report.data | {"name": "another training's"}),
        "own-v2-test": replace(report, adapter="own-v2", data=report.data | {"name": "another adapter's"}),
    }
    for i, (name, other) in enumerate(strangers.items(), 1):
        (reports / f"{name}.json").write_text(other.to_json())
        os.utime(reports / f"{name}.json", (path.stat().st_mtime + 60 * i,) * 2)
    (reports / "own-broken.json").write_text("{")
    os.utime(reports / "own-broken.json", (path.stat().st_mtime + 600,) * 2)

    def card():
        return (merge_adapter(own, tiny, tmp_path / "merged", reports=reports) / "README.md").read_text()

    assert "on 2 tickets of two tickets" in card() and f"valid JSON: {report.metrics['valid JSON']['value']:.1%}" in card()
    (own / "lorakit_run.json").unlink()
    assert "Not measured." in card()  # nothing says which training this was


@pytest.mark.parametrize("key", ["score.weight", "model.layers.7.mlp.up_proj.weight", "transformer.h.0.ia3_l"])
def test_a_weight_that_the_base_does_not_have_is_refused(key, tiny, tokenizer, tmp_path):
    adapter = new_adapter(tiny, tmp_path / "own", tokenizer)
    weights = load_file(adapter / "adapter_model.safetensors")
    save_file(weights | {f"base_model.model.{key}": torch.zeros(3, 5)}, adapter / "adapter_model.safetensors")
    with pytest.raises(LorakitError, match="that the base lacks"):
        merge_adapter(adapter, tiny, tmp_path / "merged")


def test_layers_trained_whole_are_merged_too_and_checked_like_the_adapters(tiny, tokenizer, ids, tmp_path):
    adapter = new_adapter(tiny, tmp_path / "own", tokenizer, modules_to_save=["lm_head"])
    weights = load_file(adapter / "adapter_model.safetensors")
    head = "base_model.model.lm_head.weight"
    save_file(weights | {head: weights[head].flip(0).contiguous()}, adapter / "adapter_model.safetensors")
    wanted = logits(load_model(tiny, adapter)[0], ids)
    plain = load_model(tiny)[0]
    got = logits(load_model(str(merge_adapter(adapter, tiny, tmp_path / "merged")))[0], ids)
    assert (got - wanted).abs().mean() < 0.02 * (wanted - logits(plain, ids)).abs().mean()
    save_file(weights | {head: weights[head][:-1].contiguous()}, adapter / "adapter_model.safetensors")
    with pytest.raises(LorakitError, match=r"lm_head.weight of shape \[\d+, 128\] where the base has"):
        merge_adapter(adapter, tiny, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_a_switch_between_adapters_on_the_real_base_takes_at_most_100_ms(base, tokenizer, tmp_path):
    from peft import PeftModel

    one, two = (new_adapter(base, tmp_path / str(seed), tokenizer, seed=seed) for seed in (1, 2))
    model = PeftModel.from_pretrained(load_model(base)[0], one, adapter_name="one")
    model.load_adapter(two, "two")
    assert switch_cost(model).median_ms <= 100


def test_switching_gives_each_adapters_own_answers_and_the_base_bit_for_bit(adapter, tiny, tokenizer, ids, tmp_path):
    from peft import PeftModel

    other = new_adapter(tiny, tmp_path / "other", tokenizer, seed=1)
    wanted = {name: logits(load_model(tiny, path)[0], ids) for name, path in (("a", adapter), ("b", other), (BASE, None))}
    model = PeftModel.from_pretrained(load_model(tiny)[0], adapter, adapter_name="a").eval()
    model.load_adapter(other, "b")
    for name in ("a", BASE, "b", "a", BASE, "b"):
        switch(model, name)
        assert torch.equal(logits(model, ids), wanted[name]), name
    with pytest.raises(LorakitError, match="load_adapter") as caught:
        switch(model, "c")
    assert "a, b" in str(caught.value)
    cost = switch_cost(model, rounds=2)
    size = folder_mib(adapter)
    assert cost.switches == 6 and cost.adapter_mib["a"] == pytest.approx(size, rel=0.1) == cost.adapter_mib["b"]
    assert cost.base_mib == pytest.approx(sum(p.numel() for p in load_model(tiny)[0].parameters()) * 2 / 2**20)
    assert isinstance(answer_with(model, tokenizer, "b", to_messages("hello"), max_new_tokens=3), str)


def test_divergence_is_scipys():
    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(50), (2, 8))
    assert kl_divergence(np.log(p), np.log(q)) == pytest.approx([entropy(a, b) for a, b in zip(p, q, strict=True)])


class Fixed:
    """A model that finds the same tokens likely everywhere and writes the same answer."""

    def __init__(self, size, answer, tilt=0.0):
        logits = np.zeros(size)
        logits[0] = tilt
        self.row, self.written = logits - np.log(np.exp(logits).sum()), answer

    def log_probabilities(self, ids, start):
        return np.tile(self.row, (len(ids) - start, 1))

    def answers(self, prompts):
        return [list(self.written) for _ in prompts]


def test_a_rung_against_itself_is_the_same_and_a_tilted_one_is_not(tokenizer):
    rows, tickets = [to_conversation(t) for t in load_split("validation")[:3]], load_split("test")[:4]
    right = tokenizer('{"order_id": null}', add_special_tokens=False)["input_ids"]
    reference = Fixed(20, [*right, tokenizer.eos_token_id], tilt=0.5)
    first, logs = measure_rung("first", reference, tokenizer, rows, tickets, size_mib=2.0)
    assert first.kl.value == 0 and first.top1.value == 1 and first.stopped.value == 1 and first.exact.value == 0
    tilted, _ = measure_rung("tilted", Fixed(20, right, tilt=-1.0), tokenizer, rows, tickets, size_mib=1.0, reference=logs)
    assert tilted.kl.value == pytest.approx(entropy(np.exp(reference.row), np.exp(Fixed(20, [], -1.0).row)))
    assert tilted.top1.value == 0 and tilted.stopped.value == 0 and tilted.outputs[0] == '{"order_id": null}'
    table = ladder_table([first, tilted])
    assert table.count("\n") == 3 and "| tilted | 1.0 |" in table and "100%" in table
    with pytest.raises(LorakitError, match="vocabulary of other: expected 20"):
        measure_rung("other", Fixed(21, right), tokenizer, rows, tickets, size_mib=1.0, reference=logs)
    with pytest.raises(LorakitError, match="0 and 4"):
        measure_rung("none", reference, tokenizer, [], tickets, size_mib=1.0)


def test_the_right_answers_score_and_a_model_that_never_stops_is_seen(tokenizer):
    from lorakit_helpers.tickets import answer_text

    ticket = load_split("test")[0]
    ids = tokenizer(answer_text(ticket.answer), add_special_tokens=False)["input_ids"]
    rows = [to_conversation(ticket)]
    good, _ = measure_rung("good", Fixed(9, [*ids, tokenizer.eos_token_id]), tokenizer, rows, [ticket], size_mib=1.0)
    bad, _ = measure_rung("bad", Fixed(9, ids * 2), tokenizer, rows, [ticket], size_mib=1.0)
    assert good.exact.value == 1 == good.stopped.value and bad.exact.value == 0 == bad.stopped.value


def test_without_tools_the_one_command_is_named(merged, tmp_path):
    nothing = Tools(None, None, None, False)
    assert nothing.quantizer is None and "make gguf" in str(nothing)
    with pytest.raises(LorakitError, match="make gguf"):
        convert(merged, tmp_path / "a.gguf", tools=nothing)
    with pytest.raises(LorakitError, match="make gguf"):
        quantize(tmp_path / "a.gguf", tmp_path / "b.gguf", "Q8_0", tools=nothing)
    with pytest.raises(LorakitError, match="Q5_X"):
        export_gguf(merged, tmp_path, ("Q5_X",))
    assert list(tmp_path.iterdir()) == []


def test_a_quantizer_on_the_path_comes_before_the_bindings(tmp_path, monkeypatch):
    own = tmp_path / "llama-quantize"
    own.write_text('#!/bin/sh\ncp "$1" "$2"\n')
    own.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("UNSLOTH_LLAMA_CPP_PATH", str(tmp_path / "none"))
    found = find_tools()
    assert found.quantizer == f"llama-quantize ({own})"
    (tmp_path / "in.gguf").write_bytes(b"GGUF")
    assert quantize(tmp_path / "in.gguf", tmp_path / "out.gguf", "Q8_0", tools=found).read_bytes() == b"GGUF"
    own.write_text("#!/bin/sh\necho half > \"$2\"\necho 'bad file' >&2\nexit 3\n")
    with pytest.raises(LorakitError, match="bad file"):
        quantize(tmp_path / "in.gguf", tmp_path / "other.gguf", "Q8_0", tools=found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.gguf", "llama-quantize", "out.gguf"]


QUANTIZER = """#!{python}
import sys
if "--help" in sys.argv:
    sys.exit(print("usage"))
import llama_cpp
source, target, kind = sys.argv[1:4]
own = llama_cpp.llama_model_quantize_default_params()
own.ftype = {{"q4_k_m": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M, "q8_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0}}[kind.lower()]
open({calls!r}, "a").write(kind + " ")
sys.exit(llama_cpp.llama_model_quantize(source.encode(), target.encode(), own))
"""


@pytest.fixture
def unsloths(tmp_path, monkeypatch):
    """A llama.cpp folder as Unsloth looks for it: the real converter, and a quantizer over the bindings."""
    home = tmp_path / "llama.cpp"
    shutil.copytree(TOOLS.converter.parent, home)
    for part in ("src", "ggml", "common"):
        (home / part).mkdir()
    (home / "llama-quantize").write_text(QUANTIZER.format(python=sys.executable, calls=str(tmp_path / "calls")))
    (home / "llama-quantize").chmod(0o755)
    monkeypatch.setenv("UNSLOTH_LLAMA_CPP_PATH", str(home))
    return home


@llama
@pytest.mark.training
def test_with_unsloths_llama_cpp_its_save_pretrained_gguf_makes_the_same_files(unsloths, merged, tmp_path):
    assert find_tools().quantizer == "Unsloth's llama.cpp"
    made = export_gguf(merged, tmp_path / "out", ("bf16", "Q8_0"))
    assert (tmp_path / "calls").read_text().lower().split() == ["q8_0"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["tiny-merged-Q8_0.gguf", "tiny-merged-bf16.gguf"]
    ours = export_gguf(merged, tmp_path / "ours", ("bf16", "Q8_0"), tools=Tools(TOOLS.converter, None, None, True))
    import gguf

    for kind in made:
        theirs, own = ({t.name: t.data for t in gguf.GGUFReader(some[kind]).tensors} for some in (made, ours))
        assert theirs.keys() == own.keys() and all(np.array_equal(theirs[name], own[name]) for name in own)
        assert read_header(made[kind])["tokenizer.chat_template"] == read_header(ours[kind])["tokenizer.chat_template"]


@pytest.mark.parametrize("code", ["raise SystemExit('no such tensor')", f"print('{MARK}[]')"])
def test_unsloths_failure_is_told_and_nothing_half_written_stays(merged, tmp_path, monkeypatch, code):
    (tmp_path / "stand_in.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr("lorakit_helpers.export.gguf._UNSLOTH", "stand_in")
    with pytest.raises(LorakitError, match=r"(no such tensor|no message).*UNSLOTH_LLAMA_CPP_PATH"):
        export_gguf(merged, tmp_path / "out", ("f16", "Q8_0"), tools=Tools(None, tmp_path, None, False))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_failing_converter_is_quoted_and_leaves_no_half_file(merged, tmp_path):
    script = tmp_path / "broken.py"
    script.write_text("import sys, pathlib\npathlib.Path(sys.argv[3]).write_text('half')\nraise SystemExit('no such tensor')\n")
    with pytest.raises(LorakitError, match="no such tensor"):
        convert(merged, tmp_path / "a.gguf", tools=Tools(script, None, None, False))
    assert [path.name for path in tmp_path.iterdir()] == ["broken.py"]


def test_too_small_a_disk_is_refused_before_anything_is_written(merged, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(LorakitError, match="disk space for the GGUF files"):
        export_gguf(merged, tmp_path / "out", ("f16",))
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_gguf_is_named(tmp_path):
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"PK\x03\x04" + bytes(100))
    for path in (bad, tmp_path / "none.gguf"):
        with pytest.raises(LorakitError, match=path.name):
            read_header(path)


@converter
def test_gguf_carries_weights_tokenizer_and_template(merged, tokenizer, tmp_path):
    made = export_gguf(merged, tmp_path, ("f16",))
    assert [path.name for path in tmp_path.iterdir()] == [made["f16"].name] == ["tiny-merged-f16.gguf"]
    facts = read_header(made["f16"])
    assert facts["tokenizer.chat_template"] == tokenizer.chat_template
    assert facts["tokenizer.ggml.eos_token_id"] == tokenizer.eos_token_id
    import gguf

    tensors = {t.name: t.data for t in gguf.GGUFReader(made["f16"]).tensors}
    weight = load_model(str(merged))[0].model.layers[1].mlp.down_proj.weight.detach().half().numpy()
    assert np.array_equal(tensors["blk.1.ffn_down.weight"].reshape(weight.shape), weight)


def test_answers_written_together_are_those_written_alone_and_end_with_the_end_token(tiny, tokenizer, adapter):
    prompts = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("hello", "a longer text than that", "no")]
    model = TorchModel(load_model(tiny, adapter)[0].float(), tokenizer)
    alone = [model.answers([ids])[0] for ids in prompts]
    assert model.answers(prompts, at_once=2) == alone and all(alone)
    model.tokenizer = deepcopy(tokenizer)
    model.tokenizer.eos_token = tokenizer.convert_ids_to_tokens(alone[0][3])
    stopped = model.answers(prompts)[0]
    assert stopped == alone[0][: alone[0].index(alone[0][3]) + 1]


@llama
def test_llama_cpp_reads_what_transformers_computes(merged, tokenizer, ids, tmp_path):
    made = export_gguf(merged, tmp_path, ("f16", "Q8_0", "Q4_K_M"))
    torch_model = TorchModel(load_model(str(merged))[0].float(), tokenizer)
    wanted, apart = torch_model.log_probabilities(ids, 5), {}
    for kind, path in made.items():
        model = GgufModel(path)
        apart[kind] = float(np.abs(kl_divergence(wanted, model.log_probabilities(ids, 5))).mean())
        assert model.tokenize(tokenizer.decode(ids)) == list(ids)
        model.close()
    assert apart["f16"] < 1e-3 and apart["f16"] < apart["Q8_0"] < apart["Q4_K_M"]
    assert made["Q4_K_M"].stat().st_size < made["Q8_0"].stat().st_size < made["f16"].stat().st_size


@converter
@pytest.mark.parametrize("stopped", [False, True], ids=["quantizer fails", "interrupted"])
def test_what_was_in_the_folder_before_is_kept_and_nothing_is_left_half(merged, tmp_path, monkeypatch, stopped):
    old = tmp_path / f"{merged.name}-f16.gguf"
    old.write_text("mine")
    if stopped:
        monkeypatch.setattr("lorakit_helpers.export.gguf.quantize", lambda *_, **__: 1 / 0)
    else:
        quantizer = tmp_path / "llama-quantize"
        quantizer.write_text("#!/bin/sh\nexit 3\n")
        quantizer.chmod(0o755)
    before = sorted(path.name for path in tmp_path.iterdir())
    tools = Tools(TOOLS.converter, None, tmp_path / "llama-quantize", False)
    with pytest.raises(ZeroDivisionError if stopped else LorakitError):
        export_gguf(merged, tmp_path, ("Q8_0",), tools=tools)
    assert sorted(path.name for path in tmp_path.iterdir()) == before and old.read_text() == "mine"


def test_what_the_check_of_the_whole_export_lets_pass_is_not_refused_half_way(merged, tmp_path, monkeypatch):
    size = folder_mib(merged) * 2**20

    def free(folder):
        used = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        return SimpleNamespace(free=1.6 * size - used)

    def write(command, **options):
        converts = "--outfile" in command
        target = Path(command[command.index("--outfile") + 1] if converts else command[2])
        target.write_bytes(b"0" * int(size if converts else 0.4 * size))
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(shutil, "disk_usage", free)
    monkeypatch.setattr("lorakit_helpers.export.gguf.subprocess.run", write)
    tools = Tools(tmp_path / "convert.py", None, tmp_path / "llama-quantize", False)
    made = export_gguf(merged, tmp_path / "out", ("Q4_K_M",), tools=tools)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [made["Q4_K_M"].name]


def test_every_way_to_a_gguf_asks_for_room_first(merged, adapter, tiny, tmp_path, monkeypatch):
    source = tmp_path / "source.gguf"
    source.write_bytes(b"0" * 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    tools = Tools(tmp_path / "convert.py", None, tmp_path / "llama-quantize", False)
    for name, write in {
        "a.gguf": lambda path: convert(merged, path, "f16", tools=tools),
        "b.gguf": lambda path: quantize(source, path, "Q8_0", tools=tools),
        "c.gguf": lambda path: lora_to_gguf(adapter, tiny, path),
    }.items():
        with pytest.raises(LorakitError, match=f"disk space for {name}.*choose a folder"):
            write(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


@llama
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 8}, "alpha_pattern": {"down_proj": 32}},
        {"rank_pattern": {"v_proj": 16}, "alpha_pattern": {"v_proj": 3}, "use_rslora": True},
    ],
    ids=["alpha / r", "rsLoRA", "ranks and alphas by layer", "by layer, rsLoRA"],
)
def test_an_adapter_alone_works_in_llama_cpp_as_in_peft(tiny, tokenizer, ids, tmp_path, options):
    adapter = new_adapter(tiny, tmp_path / "own", tokenizer, seed=3, **options)
    lora = lora_to_gguf(adapter, tiny, tmp_path / "lora.gguf")
    base_file = convert(tiny, tmp_path / "base.gguf", "f16")
    wanted = TorchModel(load_model(tiny, adapter)[0].float(), tokenizer).log_probabilities(ids, 5)
    with_lora = GgufModel(base_file, lora=lora).log_probabilities(ids, 5)
    without = GgufModel(base_file).log_probabilities(ids, 5)
    close, far = (np.abs(kl_divergence(wanted, other)).mean() for other in (with_lora, without))
    assert close < 1e-3 and far > 20 * close


def test_an_adapter_for_another_architecture_is_refused(adapter, tiny, tmp_path, monkeypatch):
    import transformers

    monkeypatch.setattr(
        transformers.AutoConfig, "from_pretrained", lambda *a, **k: SimpleNamespace(model_type="mamba", num_hidden_layers=1)
    )
    monkeypatch.setattr("lorakit_helpers.evalreport.check_adapter", lambda *a, **k: {})
    with pytest.raises(LorakitError, match="mamba"):
        lora_to_gguf(adapter, tiny, tmp_path / "x.gguf")
    assert not (tmp_path / "x.gguf").exists()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"use_dora": True}, "lora_magnitude_vector"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"bias": "lora_only", "lora_bias": True}, "lora_B.bias"),
    ],
    ids=["DoRA", "modules_to_save", "bias"],
)
def test_an_adapter_that_is_more_than_a_and_b_is_refused_with_nothing_written(tiny, tokenizer, tmp_path, options, named):
    adapter = new_adapter(tiny, tmp_path / "own", tokenizer, **options)
    with pytest.raises(LorakitError, match=named) as refused:
        lora_to_gguf(adapter, tiny, tmp_path / "lora.gguf")
    assert "merge_adapter" in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


@pytest.mark.parametrize(("asked", "wanted"), [("1", 1), ("10000", None), ("", None), ("0", None), ("two", None)])
def test_llama_cpp_gets_no_more_threads_than_omp_num_threads(monkeypatch, asked, wanted):
    from lorakit_helpers.export._child import cores

    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert cores() == (wanted or len(os.sched_getaffinity(0)))
