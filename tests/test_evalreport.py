"""Evaluation reports: what they say is what was measured, they pair row by row, and a bad input is one sentence."""

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest

from lorakit_helpers import cli
from lorakit_helpers.errors import LorakitError
from lorakit_helpers.evalcommand import page
from lorakit_helpers.evalreport import EvalReport, compare_reports, data_hash, evaluate_adapter, read_report, write_report
from lorakit_helpers.evaluation import score_tickets
from lorakit_helpers.tickets import answer_text, load_split

TICKETS = load_split("test")[:6]


@pytest.fixture(scope="module", autouse=True)
def quick():
    """Short answers and few resamples: what is looked at here is what becomes of them."""
    from lorakit_helpers import evaluation

    bootstrap = evaluation._bootstrap
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_bootstrap", lambda *a, **o: bootstrap(*a, **o | {"n_resamples": 20}))
        patch.setattr(evaluation.generate, "__kwdefaults__", evaluation.generate.__kwdefaults__ | {"max_new_tokens": 8})
        yield


def made(outputs=None, losses=None, tickets=TICKETS, **changes) -> EvalReport:
    """A report without a model, from texts."""
    outputs = outputs or [answer_text(t.answer) for t in tickets]
    scores = score_tickets(outputs, tickets)
    rows = [
        {"id": t.id, "output": outputs[i], "reason": scores.reasons[i], "loss": float(losses[i]) if losses else 0.1,
         "correct": {name: int(v[i]) for name, v in scores.correct.items()}}
        for i, t in enumerate(tickets)
    ]  # fmt: skip
    known = {
        "adapter": "mine", "base": "tiny", "data": {"name": "test", "rows": len(tickets), "hash": data_hash(tickets)},
        "metrics": {name: m.to_dict() for name, m in scores.metrics.items()},
        "loss": {"nats_per_token": 0.1, "perplexity": math.exp(0.1), "tokens": 60}, "recitation": None, "rows": rows,
        "recipe": {"r": 4}, "log": None, "seeds": {"training": 42, "intervals": 0}, "seconds": 1.0,
        "environment": {"python": "3.11", "system": "Linux", "versions": {"torch": "2"}, "hardware": {"device": "cpu"}},
    }  # fmt: skip
    return EvalReport(**known | changes)


@pytest.fixture(scope="module")
def adapter(tiny, tokenizer, tmp_path_factory):
    """An untrained adapter of the tiny model."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("adapters") / "untrained"
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny), LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "lorakit_run.json").write_text(json.dumps({"recipe": {"r": 4, "seed": 7}, "log": None, "key": "x"}))
    return folder


@pytest.fixture
def copy(adapter, tmp_path):
    return shutil.copytree(adapter, tmp_path / "untrained")


@pytest.fixture(scope="module")
def report(adapter, tiny):
    return evaluate_adapter(adapter, TICKETS, tiny, seen=load_split("train")[:6])


def test_a_report_holds_what_the_metrics_and_the_loss_measure_on_the_same_outputs(report, adapter, tiny):
    from lorakit_helpers.evaluation import completion_loss
    from lorakit_helpers.models import load_model
    from lorakit_helpers.tickets import to_conversation

    scores = score_tickets([row["output"] for row in report.rows], TICKETS)
    assert report.metrics == {name: m.to_dict() for name, m in scores.metrics.items()}
    loss = completion_loss(*load_model(tiny, adapter), [to_conversation(t) for t in TICKETS])
    assert report.values("loss") == pytest.approx(loss.per_row, rel=1e-3)
    assert report.loss["perplexity"] == pytest.approx(math.exp(report.loss["nats_per_token"]))
    assert report.seeds["training"] == 7 and report.data["hash"] == data_hash(TICKETS)
    assert report.recitation["sentence"].startswith("No sign of recitation")  # an untrained adapter remembers nothing


def test_a_report_survives_its_file(report, tmp_path):
    file, html = write_report(report, tmp_path, page(report, {}))
    assert read_report(file) == report and html.suffix == ".html"


def test_the_hash_sees_every_part_of_the_data_and_not_its_notes():
    changed = [replace(TICKETS[0], voice="other"), *TICKETS[1:]]
    assert data_hash(changed) == data_hash(TICKETS)
    others = ([replace(TICKETS[0], ticket="x"), *TICKETS[1:]], TICKETS[::-1], TICKETS[:-1])
    answer = TICKETS[0].answer | {"urgency": "low" if TICKETS[0].answer["urgency"] != "low" else "high"}
    others += ([replace(TICKETS[0], answer=answer), *TICKETS[1:]],)
    assert len({data_hash(x) for x in (TICKETS, *others)}) == 5


def test_two_reports_are_paired_row_by_row():
    losses = [[0.5, 0.4, 0.6, 0.2, 0.3, 0.1], [0.1, 0.2, 0.2, 0.1, 0.1, 0.2]]
    good = [answer_text(t.answer) for t in TICKETS]
    found = {d.name: d for d in compare_reports(made(["?", *good[1:]], losses[0]), made(good, losses[1]))}
    assert found["exact match"].difference == pytest.approx(1 / 6)
    assert found["loss"].difference == pytest.approx(np.mean(losses[1]) - np.mean(losses[0]))
    assert found["loss"].lower_is_better and found["extra keys"].lower_is_better


def test_reports_on_other_test_data_are_not_compared():
    with pytest.raises(LorakitError, match=r"6 rows of test .* and 4 rows of test"):
        compare_reports(made(), made(tickets=TICKETS[:4]))


def test_the_page_runs_nothing_that_a_model_or_a_ticket_wrote():
    attack = '<script>alert(1)</script><img src=x onerror="x()">'
    html = page(made([attack] * 6, adapter=attack), {t.id: attack for t in TICKETS})
    assert "<script" not in html and "<img" not in html and "&lt;script&gt;" in html
    assert "http" not in html  # nothing is fetched


def lines(capsys) -> tuple[str, str]:
    out, err = capsys.readouterr()
    assert err.startswith("lorakit: ") and err.count("\n") == 1 and "Traceback" not in out + err
    return out, err


def test_evaluate_writes_page_and_json_that_compare_reads(adapter, tiny, tmp_path, capsys):
    whole = tmp_path / "untrained-test.json"
    whole.write_text("the report on all rows")
    asked = ["evaluate", str(adapter), "--base", tiny, "--rows", "4", "--out", str(tmp_path)]
    assert cli.main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    file = tmp_path / "untrained-test-first-4.json"
    assert json.loads(file.read_text()) == told and told["data"]["rows"] == 4
    assert whole.read_text() == "the report on all rows"
    assert "untrained" in file.with_suffix(".html").read_text()
    assert cli.main(["compare", str(file), str(file)]) == 0
    out = capsys.readouterr().out
    assert out.count("No evidence of improvement") == 9


def break_config(folder):
    (folder / "adapter_config.json").write_text("{")


def rename_base(folder):
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "x/Other-7B"}))


def cut_weights(folder):
    weights = (folder / "adapter_model.safetensors").read_bytes()
    (folder / "adapter_model.safetensors").write_bytes(weights[: len(weights) // 2])


def other_shape(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    key = next(k for k in tensors if "q_proj.lora_A" in k)
    save_file(tensors | {key: tensors[key][:, :64].contiguous()}, folder / "adapter_model.safetensors")


def nan_weights(folder):
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({k: v * math.nan for k, v in tensors.items()}, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_config, "adapter_config.json"),
        (rename_base, "x/Other-7B"),
        (cut_weights, "adapter_model.safetensors"),
        (other_shape, "64 features where the base has 128"),
        (nan_weights, "NaN"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda folder: shutil.rmtree(folder), "no adapter_config.json"),
        (lambda folder: (folder / "lorakit_run.json").write_text("[]"), "list"),
    ],
)
def test_an_adapter_that_cannot_be_evaluated_is_one_sentence_and_nothing_is_written(
    copy, tiny, tmp_path, monkeypatch, capsys, damage, said
):
    from lorakit_helpers.models import BaseModel

    monkeypatch.setattr("lorakit_helpers.models.base_model", lambda *a, **k: BaseModel(tiny, "hub", ""))
    damage(copy)
    assert cli.main(["evaluate", str(copy), "--rows", "2", "--out", str(tmp_path / "out")]) == 1
    assert said in lines(capsys)[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["", "\n\n", "{}", None])
def test_a_test_file_without_right_rows_is_one_sentence(adapter, tiny, tmp_path, capsys, text):
    file = tmp_path / "mine.jsonl"
    if text is not None:
        file.write_text(text)
    asked = ["evaluate", str(adapter), "--base", tiny, "--data", str(file), "--out", str(tmp_path / "out")]
    assert cli.main(asked) == 1
    assert "mine.jsonl" in lines(capsys)[1] and not (tmp_path / "out").exists()


def test_no_rows_and_no_base_are_one_sentence_each(adapter, tiny, tmp_path, capsys):
    assert cli.main(["evaluate", str(adapter), "--base", tiny, "--rows", "0"]) == 1
    lines(capsys)
    assert cli.main(["evaluate", str(adapter), "--base", str(tmp_path / "none"), "--rows", "2"]) == 1
    assert "base model" in lines(capsys)[1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: "{",
        lambda d: "[1]",
        lambda d: json.dumps(d | {"format": 99}),
        lambda d: json.dumps({k: v for k, v in d.items() if k != "rows"}),
        lambda d: json.dumps(d | {"rows": d["rows"][:-1]}),
        lambda d: json.dumps(d | {"rows": [r | {"loss": math.nan} for r in d["rows"]]}),
        lambda d: json.dumps(d | {"rows": [{"id": "x"}] * 6}),
        lambda d: json.dumps(d | {"data": None}),
        lambda d: None,
    ],
)
def test_compare_with_a_file_that_is_no_whole_report_is_one_sentence(damage, tmp_path, capsys):
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(made().to_json())
    text = damage(json.loads(good.read_text()))
    if text is not None:
        bad.write_text(text)
    assert cli.main(["compare", str(good), str(bad)]) == 1
    assert "report" in lines(capsys)[1]
